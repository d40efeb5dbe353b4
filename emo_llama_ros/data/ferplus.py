"""FER+: 48x48 faces, each with the votes of ten people, in memory.

Votes and rule: Barsoum, Zhang, Canton Ferrer, Zhang, "Training deep networks for facial expression recognition with
crowd-sourced label distribution", ICMI 2016 (microsoft/FERPlus). Pictures: FER2013 (Goodfellow et al., 2013).
"""

from __future__ import annotations

import hashlib
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from emo_llama_ros.data.text_files import rows, table
from emo_llama_ros.errors import BadData
from emo_llama_ros.labels import FERPLUS, LabelSet

VOTE_NAMES = (*FERPLUS.labels, "unknown", "not_a_face")
"""What each of ten people could choose, in the order of the votes."""
FER2013_NAMES = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
"""Order of FER2013's own labels."""
SPLITS = ("train", "validation", "test")
USAGES = ("Training", "PublicTest", "PrivateTest")
"""What the official files call the splits."""
FOLDERS = (("FER2013Train", "Training"), ("FER2013Valid", "PublicTest"), ("FER2013Test", "PrivateTest"))
"""What folders of the pictures of each split are called."""
SIDE = 48
"""Pixels per side."""
NAMELESS = "shows no face (FER+ gives it no name)"
"""Why a row is left out."""

LAYOUTS = """\
a folder with fer2013.csv (emotion,pixels,Usage) and fer2013new.csv (Usage,Image name and ten columns of votes),
a folder with fer2013new.csv or one label.csv per split, and the pictures:
├── FER2013Train/fer0000000.png   (or Training/)
├── FER2013Valid/fer0028638.png   (or PublicTest/)
└── FER2013Test/fer0032220.png    (or PrivateTest/)
or an .npz with images, votes and split (and majority, fer2013, group, name if you like)"""

UInt8Array = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class VotedFaces:
    """Faces and what people saw in them; all arrays have one row per face."""

    images: UInt8Array
    """(N, 48, 48), grey."""
    votes: UInt8Array
    """(N, 10): how many people chose each of VOTE_NAMES."""
    majority: npt.NDArray[np.int8]
    """(N,): place in FERPLUS.labels, -1 where people do not agree or agree that it is none of them."""
    fer2013: UInt8Array | None
    """(N,): FER2013's own label, place in FER2013_NAMES; None where the source has none."""
    split: UInt8Array
    """(N,): place in SPLITS."""
    group: npt.NDArray[np.int32]
    """(N,): equal pictures share a group; a group may have faces in several splits."""
    names: tuple[str, ...]
    """File names in FER+; a few stand twice, for equal pictures."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Why rows of the source are not here, and how many."""

    def __len__(self) -> int:
        """Return the number of faces."""
        return len(self.images)

    def select(self, chosen: npt.NDArray[np.bool_] | npt.NDArray[np.intp]) -> VotedFaces:
        """Return the faces at the places, or where the mask (N,), `chosen`."""
        places = np.arange(len(self))[chosen]
        return VotedFaces(
            self.images[places],
            self.votes[places],
            self.majority[places],
            None if self.fer2013 is None else self.fer2013[places],
            self.split[places],
            self.group[places],
            tuple(self.names[i] for i in places),
            self.left_out,
        )

    def of_split(self, name: str) -> VotedFaces:
        """Return the faces of one of SPLITS; raise BadData for another name."""
        if name not in SPLITS:
            raise BadData(f"FER+ has no split '{name}'; choose one of {', '.join(SPLITS)}.")
        return self.select(self.split == SPLITS.index(name))

    def shares(self, labels: LabelSet = FERPLUS) -> FloatArray:
        """Return which share of those who chose one of `labels` chose each (N, C); rows of 0 where nobody did."""
        return vote_shares(self.votes, labels)


def vote_shares(votes: UInt8Array, labels: LabelSet) -> FloatArray:
    """Return which share of the votes (N, 10) for `labels` each of them has (N, C); rows of 0 where nobody chose one.

    Labels that FER+ does not know have a share of 0.
    """
    counts = np.zeros((len(votes), len(labels.labels)))
    for place, label in enumerate(labels.labels):
        if label in FERPLUS.labels:
            counts[:, place] = votes[:, FERPLUS.labels.index(label)]
    return counts / np.maximum(counts.sum(1, keepdims=True), 1)


def majority_of(votes: UInt8Array) -> npt.NDArray[np.int8]:
    """Return the label (N,) on which more than half agree, as place in FERPLUS.labels, or -1.

    Votes (N, 10) of a single person are dropped first; "unknown" and "not a face" can win too, which gives -1. Source:
    the mode "majority" of microsoft/FERPlus (`src/ferplus.py`).
    """
    kept = np.where(votes > 1, votes, 0).astype(np.int32)
    top = kept.argmax(1)
    agreed = (kept.max(1) * 2 > kept.sum(1)) & (top < len(FERPLUS.labels))
    return np.where(agreed, top, -1).astype(np.int8)


def groups_of(images: UInt8Array) -> npt.NDArray[np.int32]:
    """Return one number (N,) for equal pictures (N, 48, 48), counted from 0 in their order."""
    numbers: dict[bytes, int] = {}
    digests = (hashlib.sha256(image.tobytes()).digest() for image in images)
    return np.fromiter((numbers.setdefault(d, len(numbers)) for d in digests), np.int32, len(images))


def read_voted_faces(source: str | Path, votes: str | Path = "") -> VotedFaces:
    """Read FER+ from any of LAYOUTS.

    `source` is the folder, the .npz or the fer2013.csv; `votes` the fer2013new.csv where it does not lie there. Rows
    that FER+ gives no name, because they show no face, are left out. Raises BadData with the file and the line of the
    first fault.
    """
    source = Path(source)
    if source.suffix == ".npz":
        return _from_arrays(source)
    listing = Path(votes) if votes else _first(source if source.is_dir() else source.parent, "fer2013new.csv")
    if source.is_file():
        return _from_pixels(source, listing, source.parent)
    if pixels := pixel_file(source):
        return _from_pixels(pixels, listing, source)
    found = [(i, folder) for i, names in enumerate(FOLDERS) if (folder := _first(source, *names))]
    if not found:
        raise BadData(f"{source} holds no FER+ that can be read. Expected:\n{LAYOUTS}")
    return _from_folders(source, found, listing)


def pixel_file(source: Path) -> Path | None:
    """Return the one file that holds all pictures of a source of FER+: .npz or .csv; None where they are files."""
    return source if source.is_file() else _first(source, "fer2013.csv", "icml_face_data.csv")


def _first(root: Path, *names: str) -> Path | None:
    candidates = (root / below / name for name in names for below in ("", "data", "images"))
    return next((c for c in candidates if c.exists()), None)


@dataclass(slots=True)
class _Voted:
    """A row of fer2013new.csv or label.csv."""

    line: int
    usage: str
    name: str
    votes: UInt8Array


def voted_rows(listing: Path) -> Iterator[_Voted]:
    """Yield the rows of fer2013new.csv or of a label.csv; raise BadData with the line that is none."""
    for number, cells in rows(listing):
        if cells[0] == "Usage":
            wanted = [*FERPLUS.labels, "unknown", "nf"]
            if [c.lower() for c in cells[2:12]] != wanted:
                raise BadData(
                    f"{listing.name}, line {number}: the columns are not Usage, Image name, "
                    f"{', '.join(FERPLUS.labels)}, unknown, NF."
                )
            continue
        cells += [""] * (2 - len(cells))
        # A label.csv begins with the name, and has the face's box where the other has the name.
        usage, name = (cells[0], cells[1]) if cells[0] in USAGES else ("", cells[0])
        if not usage and not cells[1].startswith("("):
            raise BadData(f"{listing.name}, line {number}: the usage is '{name}', not one of {', '.join(USAGES)}.")
        yield _Voted(number, usage, name, _votes(cells[2:12], listing, number))


def _votes(cells: list[str], listing: Path, line: int) -> UInt8Array:
    try:
        counts = np.array([float(cell or 0) for cell in cells])
    except ValueError:
        counts = np.array([np.nan])
    # Copies that went through a spreadsheet have 9.0 for 9, and nothing for 0.
    if len(counts) != len(VOTE_NAMES) or not np.all((counts >= 0) & (counts <= 100) & (counts == np.round(counts))):
        raise BadData(
            f"{listing.name}, line {line} does not end with {len(VOTE_NAMES)} counts of votes: {','.join(cells)}"
        )
    return counts.astype(np.uint8)


def _from_pixels(pixels: Path, listing: Path | None, root: Path) -> VotedFaces:
    if listing is None:
        raise BadData(
            f"{root} holds {pixels.name} without the votes: put fer2013new.csv of microsoft/FERPlus beside it."
        )
    images, votes, labels, split, names = [], [], [], [], []
    left_out: Counter[str] = Counter()
    voted = voted_rows(listing)
    line, count = 0, 0
    for line, row in table(pixels):
        if not {"emotion", "pixels", "Usage"} <= row.keys():
            raise BadData(f"{pixels.name} has not the columns emotion, pixels and Usage.")
        count += 1
        vote = next(voted, None)
        if vote is None:
            raise BadData(f"{listing.name} ends before {pixels.name}: nothing belongs to line {line} of the latter.")
        if row["Usage"] not in USAGES or row["Usage"] != vote.usage:
            raise BadData(
                f"{pixels.name}, line {line} is of '{row['Usage']}', but {listing.name}, line {vote.line} is of "
                f"'{vote.usage}': the two files must have the same rows in the same order."
            )
        if not vote.name:
            left_out[NAMELESS] += 1
            continue
        if row["emotion"] not in tuple("0123456"):
            raise BadData(f"{pixels.name}, line {line}: the emotion is '{row['emotion']}', not a number from 0 to 6.")
        images.append(_pixels(row["pixels"], pixels, line))
        votes.append(vote.votes)
        labels.append(int(row["emotion"]))
        split.append(USAGES.index(vote.usage))
        names.append(vote.name)
    if (more := next(voted, None)) is not None:
        raise BadData(f"{listing.name}, line {more.line} has nothing beside it: {pixels.name} ends with line {line}.")
    return _faces(pixels, images, votes, labels, split, names, left_out)


def _pixels(text: str, path: Path, line: int) -> UInt8Array:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of text behind the last number, which shortens the array
        try:
            values = np.fromstring(text, dtype=np.int64, sep=" ")
        except ValueError:
            values = np.zeros(0, np.int64)
    if values.size != SIDE * SIDE or values.min() < 0 or values.max() > 255:
        raise BadData(f"{path.name}, line {line}: the pixels are not {SIDE * SIDE} numbers from 0 to 255.")
    return values.astype(np.uint8).reshape(SIDE, SIDE)


def _from_folders(root: Path, folders: list[tuple[int, Path]], listing: Path | None) -> VotedFaces:
    images, votes, split, names = [], [], [], []
    left_out: Counter[str] = Counter()
    for number, folder in folders:
        own = folder / "label.csv"
        if not own.exists() and listing is None:
            raise BadData(f"{folder} has no label.csv, and {root} no fer2013new.csv with the votes.")
        source = own if own.exists() or listing is None else listing
        for vote in voted_rows(source):
            if vote.usage not in ("", USAGES[number]):
                continue
            if not vote.name:
                left_out[NAMELESS] += 1
                continue
            images.append(_picture(folder / vote.name, source, vote.line))
            votes.append(vote.votes)
            split.append(number)
            names.append(vote.name)
    return _faces(root, images, votes, None, split, names, left_out)


def _picture(path: Path, listing: Path, line: int) -> UInt8Array:
    import cv2

    if not path.is_file():
        raise BadData(f"{listing.name}, line {line} lists {path.parent.name}/{path.name}, which is not there.")
    data = np.fromfile(path, np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE) if data.size else None
    if image is None or image.shape != (SIDE, SIDE):
        what = "is damaged or no picture" if image is None else f"has {image.shape[1]}x{image.shape[0]} pixels"
        raise BadData(f"{path} ({listing.name}, line {line}) {what}; FER2013's pictures have {SIDE}x{SIDE}.")
    return image.astype(np.uint8, copy=False)


def _faces(
    source: Path,
    images: list[UInt8Array],
    votes: list[UInt8Array],
    labels: list[int] | None,
    split: list[int],
    names: list[str],
    left_out: Counter[str],
) -> VotedFaces:
    if not images:
        raise BadData(f"{source} lists no face.")
    pictures, counts = np.stack(images), np.stack(votes)
    return VotedFaces(
        pictures,
        counts,
        majority_of(counts),
        None if labels is None else np.array(labels, np.uint8),
        np.array(split, np.uint8),
        groups_of(pictures),
        tuple(names),
        dict(left_out),
    )


def _from_arrays(path: Path) -> VotedFaces:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise BadData(f"There is no file {path}.") from None
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise BadData(f"{path} is no .npz that can be read: {error}.") from None
    if lacking := [name for name in ("images", "votes", "split") if name not in arrays]:
        raise BadData(f"{path} has no array {' and no array '.join(lacking)}. Expected:\n{LAYOUTS}")
    _check_names(path, arrays)
    count = len(arrays["images"])
    _check(path, arrays, "images", (count, SIDE, SIDE), 255)
    _check(path, arrays, "votes", (count, len(VOTE_NAMES)), 255)
    _check(path, arrays, "split", (count,), len(SPLITS) - 1)
    for name, largest in (("fer2013", len(FER2013_NAMES) - 1), ("group", 2**31 - 1)):
        if name in arrays:
            _check(path, arrays, name, (count,), largest)
    names = arrays["name"] if "name" in arrays else np.array([f"face{i:07d}" for i in range(count)])
    if len(names) != count:
        raise BadData(f"{path}: the array name has {len(names)} entries for {count} images.")
    votes = arrays["votes"].astype(np.uint8)
    counted = majority_of(votes)
    if "majority" in arrays and not np.array_equal(arrays["majority"], counted):
        raise BadData(f"{path}: the array majority does not follow from the votes by the rule of FER+.")
    images = arrays["images"].astype(np.uint8)
    return VotedFaces(
        images,
        votes,
        counted,
        arrays["fer2013"].astype(np.uint8) if "fer2013" in arrays else None,
        arrays["split"].astype(np.uint8),
        arrays["group"].astype(np.int32) if "group" in arrays else groups_of(images),
        tuple(str(name) for name in names),
    )


def _check(
    path: Path, arrays: Mapping[str, npt.NDArray[np.generic]], name: str, shape: tuple[int, ...], largest: int
) -> None:
    array = arrays[name]
    if array.shape != shape or not np.issubdtype(array.dtype, np.integer):
        raise BadData(f"{path}: the array {name} is {array.dtype} {array.shape}, not whole numbers {shape}.")
    if array.size and (int(array.min()) < 0 or int(array.max()) > largest):
        raise BadData(f"{path}: the array {name} has numbers outside 0 to {largest}.")


def _check_names(path: Path, arrays: Mapping[str, npt.NDArray[np.generic]]) -> None:
    expected = {"vote_names": VOTE_NAMES, "fer2013_names": FER2013_NAMES, "split_names": SPLITS}
    for name, wanted in expected.items():
        if name in arrays and tuple(str(v) for v in arrays[name]) != wanted:
            raise BadData(f"{path}: the array {name} is not {', '.join(wanted)}.")
