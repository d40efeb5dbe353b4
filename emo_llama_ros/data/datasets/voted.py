"""Reader of FER+, from any layout of `ferplus.LAYOUTS`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np

from emo_llama_ros.data.datasets.sample import LayoutFault, LeftOut, Sample, first_of, is_there
from emo_llama_ros.data.ferplus import (
    FOLDERS,
    NAMELESS,
    SPLITS,
    USAGES,
    VotedFaces,
    majority_of,
    pixel_file,
    read_voted_faces,
    voted_rows,
)  # fmt: skip
from emo_llama_ros.labels import FERPLUS

VOTED_FOLDERS = tuple(f"{below}{name}" for name in sum(FOLDERS, ()) for below in ("", "data/", "images/"))
"""Where pictures of one split may lie."""
UNDECIDED = "has no majority of the votes for one of the expressions"


def read_ferplus(root: Path, split: str, fold: int, left_out: LeftOut) -> Iterator[Sample]:
    """Yield the faces whose ten taggers agree, with their votes; rule as `ferplus.majority_of`."""
    pixels = pixel_file(root)
    if pixels is None:
        yield from _files(root, split, left_out)
        return
    faces = _read(str(pixels), pixels.stat().st_mtime_ns).of_split(split)
    names: Counter[str] = Counter()
    for i, name in enumerate(faces.names):
        stem = Path(name).stem
        names[stem] += 1
        unique = stem if names[stem] == 1 else f"{stem}-{names[stem]}"
        if faces.majority[i] < 0:
            left_out.add(UNDECIDED, unique)
            continue
        picture = np.repeat(faces.images[i][:, :, None], 3, 2)
        votes = tuple(faces.votes[i].tolist())
        label = FERPLUS.labels[faces.majority[i]]
        yield Sample(unique, pixels, label, FERPLUS.name, split, votes=votes, picture=picture)


@lru_cache(maxsize=1)
def _read(path: str, changed_ns: int) -> VotedFaces:
    """Keep the faces of one file: reading a .csv of pixels takes seconds, and folds and splits ask for it again."""
    return read_voted_faces(path)


def _files(root: Path, split: str, left_out: LeftOut) -> Iterator[Sample]:
    number = SPLITS.index(split)
    folder = first_of(root, *(f"{below}{name}" for name in FOLDERS[number] for below in ("", "data/", "images/")))
    listing = folder / "label.csv"
    if not listing.exists():
        listing = first_of(root, "fer2013new.csv", "data/fer2013new.csv", str(listing.relative_to(root)))
    for row in voted_rows(listing):
        if row.usage not in ("", USAGES[number]):
            continue
        if not row.name:
            left_out.add(NAMELESS)
            continue
        label = int(majority_of(row.votes[None])[0])
        if label < 0:
            left_out.add(UNDECIDED, row.name)
            continue
        path = folder / row.name
        if is_there(path, root, listing, row.line, left_out):
            votes = tuple(row.votes.tolist())
            yield Sample(path.stem, path, FERPLUS.labels[label], FERPLUS.name, split, votes=votes)


def present_splits(root: Path) -> tuple[str, ...]:
    """Return the splits of SPLITS that a source of FER+ has."""
    pixels = pixel_file(root)
    if pixels is not None:
        faces = _read(str(pixels), pixels.stat().st_mtime_ns)
        return tuple(name for i, name in enumerate(SPLITS) if np.any(faces.split == i))
    return tuple(name for name, folders in zip(SPLITS, FOLDERS, strict=True) if _there(root, folders))


def _there(root: Path, folders: tuple[str, ...]) -> bool:
    try:
        return first_of(root, *(f"{below}{name}" for name in folders for below in ("", "data/", "images/"))).is_dir()
    except LayoutFault:
        return False
