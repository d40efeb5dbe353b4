"""Your own labelled faces: a list of paths and labels, or one folder per label."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from emo_llama_ros.data.datasets.sample import IMAGE_SUFFIXES, VIDEO_SUFFIXES, Dataset, Sample
from emo_llama_ros.errors import BadData
from emo_llama_ros.labels import AFFECTNET, LABEL_WORDS, MAFW, RAF_DB, LabelSet, canonical

PLAIN_TREE = """\
a .csv with the columns path and label (and split, fold if you like),
a .jsonl of objects with path (or image, or video) and label, or
├── happiness/*.jpg  (images, videos or folders of frames)
└── sadness/…"""


def plain_dataset(root: Path, labels: LabelSet | None = None) -> Dataset | None:
    """Return the dataset in a list file or a folder of label folders; None when `root` is neither.

    Without `labels`, the smallest of RAF-DB's, AffectNet's and MAFW's label sets that has every label is taken.
    """
    if root.suffix not in (".csv", ".jsonl") and not (root.is_dir() and _label_folders(root)):
        return None
    samples = list(_samples(root))
    used = {s.label for s in samples}
    chosen = labels or next((s for s in (RAF_DB, AFFECTNET, MAFW) if used <= set(s.labels)), None)
    if chosen is None or not used <= set(chosen.labels):
        known = chosen.labels if chosen else MAFW.labels
        raise BadData(f"{root} has labels that are not in the label set: {', '.join(sorted(used - set(known)))}.")

    def read(_: Path, split: str, fold: int) -> Iterator[Sample]:
        for sample in samples:
            if sample.split == split and fold in (0, sample.fold):
                yield sample

    splits = tuple(sorted({s.split for s in samples})) or ("test",)
    test = next((s for s in ("test", "validation") if s in splits), splits[0])
    folds = max((s.fold for s in samples), default=0)
    return Dataset(root.stem, chosen, splits, test, PLAIN_TREE, (), read, folds=folds, cropped=False)


def _samples(root: Path) -> Iterator[Sample]:
    if root.is_dir():
        yield from _from_folders(root)
    elif root.suffix == ".csv":
        with root.open(newline="", encoding="utf-8-sig") as file:
            yield from _from_rows(root, csv.DictReader(file))
    else:
        with root.open(encoding="utf-8") as file:
            yield from _from_rows(root, (_object(line, root) for line in file if line.strip()))


def _from_rows(root: Path, rows: Iterable[Mapping[str, Any]]) -> Iterator[Sample]:
    for number, row in enumerate(rows, 1):
        name = row.get("path") or row.get("image") or row.get("video")
        if not name or not row.get("label"):
            raise BadData(f"{root.name}, entry {number} needs a path and a label.\nExpected:\n{PLAIN_TREE}")
        path = root.parent / str(name)
        if not path.exists():
            raise BadData(f"{root.name}, entry {number}: there is no file or folder {name}.")
        fold = int(row.get("fold") or 0)
        yield Sample(str(name), path, canonical(str(row["label"])), root.stem, str(row.get("split") or "test"), fold)


def _object(line: str, root: Path) -> Mapping[str, Any]:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise BadData(f"{root.name} holds a line that is not valid JSON ({error.msg}).") from None
    if not isinstance(value, dict):
        raise BadData(f"{root.name} holds a line that is not a JSON object.")
    return value


def _label_folders(root: Path) -> list[Path]:
    return sorted(p for p in root.iterdir() if p.is_dir() and p.name.lower() in LABEL_WORDS)


def _from_folders(root: Path) -> Iterator[Sample]:
    for folder in _label_folders(root):
        for path in sorted(folder.iterdir()):
            if path.is_dir() or path.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES:
                name = f"{folder.name}/{path.name}"
                yield Sample(name, path, canonical(folder.name), root.stem, "test")
