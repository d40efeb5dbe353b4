"""Readers of still-image datasets: RAF-DB, AffectNet, FERPlus."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from emo_llama_ros.data.datasets.sample import Dataset, LayoutFault, Sample, first_of, must_exist
from emo_llama_ros.labels import AFFECTNET, AFFECTNET_7, FERPLUS, RAF_DB, LabelSet

RAF_DB_TREE = """\
basic/
├── EmoLabel/list_patition_label.txt     "train_00001.jpg 5", labels 1 to 7
└── Image/aligned/train_00001_aligned.jpg
              test_0001_aligned.jpg"""

AFFECTNET_TREE = """\
├── Manually_Annotated_file_lists/training.csv, validation.csv   columns subDirectory_filePath, …, expression
└── Manually_Annotated_Images/689/737db2….jpg
or
├── train_set/images/0.jpg   train_set/annotations/0_exp.npy
└── val_set/images/0.jpg     val_set/annotations/0_exp.npy"""

FERPLUS_TREE = """\
├── fer2013new.csv               columns Usage, Image name, neutral, …, contempt, unknown, NF
├── FER2013Train/fer0000000.png
├── FER2013Valid/fer0028638.png
└── FER2013Test/fer0032220.png"""

_AFFECTNET_COLUMNS = (
    "subDirectory_filePath", "face_x", "face_y", "face_width", "face_height", "facial_landmarks", "expression",
    "valence", "arousal",
)  # fmt: skip


def read_raf_db(root: Path, split: str, fold: int) -> Iterator[Sample]:
    """Yield the basic-emotion subset with its aligned faces.

    Layout and label order (1 surprise … 7 neutral) as read by zyh-uaiaaaa/Erasing-Attention-Consistency
    (`src/dataset.py`) and most methods since.
    """
    listing = first_of(root, "EmoLabel/list_patition_label.txt", "basic/EmoLabel/list_patition_label.txt")
    base = listing.parent.parent
    for number, line in enumerate(listing.read_text().splitlines(), 1):
        if not line.strip():
            continue
        words = line.split()
        if len(words) != 2 or words[1] not in tuple("1234567"):
            raise LayoutFault(f"{listing.name}, line {number} is not 'name label' with a label from 1 to 7: {line!r}.")
        stem = Path(words[0]).stem
        if stem.startswith(split):
            path = must_exist(base / "Image/aligned" / f"{stem}_aligned.jpg", root, listing)
            yield Sample(stem, path, RAF_DB.labels[int(words[1]) - 1], RAF_DB.name, split)


def read_affectnet(root: Path, split: str, fold: int, labels: LabelSet = AFFECTNET) -> Iterator[Sample]:
    """Yield the manually annotated faces; None, Uncertain and No-Face (8 to 10) are left out.

    Two releases are read: the file lists with images in numbered folders (Mollahosseini et al., 2017; columns as in
    `training.csv`; `validation.csv` comes without a header in some copies), and the later one with one `N_exp.npy`
    per image. Both are described in the issues of sb-ai-lab/EmotiEffLib.
    """
    folder = root / {"train": "train_set", "validation": "val_set"}[split]
    if folder.is_dir():
        yield from _affectnet_arrays(root, folder, split, labels)
        return
    name = {"train": "training.csv", "validation": "validation.csv"}[split]
    listing = first_of(root, f"Manually_Annotated_file_lists/{name}", f"Manually_Annotated/{name}", name)
    images = first_of(root, "Manually_Annotated_Images", "Manually_Annotated/Manually_Annotated_Images")
    with listing.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file, _AFFECTNET_COLUMNS)
        for number, row in enumerate(rows, 1):
            if number == 1 and row["expression"] == "expression":
                continue
            code = row["expression"]
            if code is None or not code.strip().isdigit():
                raise LayoutFault(f"{listing.name}, line {number} has no number in the column 'expression'.")
            if int(code) < len(labels.labels):
                path = must_exist(images / row["subDirectory_filePath"], root, listing)
                yield Sample(row["subDirectory_filePath"], path, labels.labels[int(code)], labels.name, split)


def read_affectnet_7(root: Path, split: str, fold: int) -> Iterator[Sample]:
    """Yield AffectNet without contempt, the 7-class protocol."""
    return read_affectnet(root, split, fold, AFFECTNET_7)


def _affectnet_arrays(root: Path, folder: Path, split: str, labels: LabelSet) -> Iterator[Sample]:
    import numpy as np

    annotations, images = first_of(folder, "annotations"), first_of(folder, "images")
    files = sorted(annotations.glob("*_exp.npy"), key=lambda p: (len(p.name), p.name))
    if not files:
        raise LayoutFault(f"{annotations.relative_to(root)} holds no *_exp.npy file.")
    for file in files:
        code = int(np.load(file, allow_pickle=False))
        if code < len(labels.labels):
            stem = file.name.removesuffix("_exp.npy")
            yield Sample(stem, must_exist(images / f"{stem}.jpg", root, file), labels.labels[code], labels.name, split)


def read_ferplus(root: Path, split: str, fold: int) -> Iterator[Sample]:
    """Yield the faces whose ten taggers agree.

    Votes of a single tagger are dropped, then the label needs more than half of the rest; faces whose majority is
    "unknown" or "not a face" are left out. Source: the "majority" mode of microsoft/FERPlus (`src/ferplus.py`),
    Barsoum et al., 2016.
    """
    listing = first_of(root, "fer2013new.csv", "data/fer2013new.csv")
    usage, name = {
        "train": ("Training", "FER2013Train"),
        "validation": ("PublicTest", "FER2013Valid"),
        "test": ("PrivateTest", "FER2013Test"),
    }[split]
    with listing.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.reader(file)
        header = next(rows, [])
        if [column.strip() for column in header[2:10]] != list(FERPLUS.labels):
            raise LayoutFault(
                f"the columns of {listing.name} are not Usage, Image name, {', '.join(FERPLUS.labels)}, …"
            )
        for row in rows:
            label = _majority([int(votes) for votes in row[2:12]]) if row[0] == usage and row[1].strip() else None
            if label is not None:
                folder = first_of(root, name, f"data/{name}", f"images/{name}")
                path = must_exist(folder / row[1].strip(), root, listing)
                yield Sample(path.stem, path, label, FERPLUS.name, split)


def _majority(votes: list[int]) -> str | None:
    votes = [v if v > 1 else 0 for v in votes]
    top = max(range(len(votes)), key=lambda i: votes[i])
    agreed = votes[top] * 2 > sum(votes) and top < len(FERPLUS.labels)
    return FERPLUS.labels[top] if agreed else None


STATIC = (
    Dataset("raf-db", RAF_DB, ("train", "test"), "test", RAF_DB_TREE,
            ("EmoLabel/list_patition_label.txt", "basic/EmoLabel/list_patition_label.txt"), read_raf_db),
    Dataset("affectnet", AFFECTNET, ("train", "validation"), "validation", AFFECTNET_TREE,
            ("Manually_Annotated_file_lists", "Manually_Annotated", "val_set/annotations"), read_affectnet),
    Dataset("affectnet-7", AFFECTNET_7, ("train", "validation"), "validation", AFFECTNET_TREE, (), read_affectnet_7),
    Dataset("ferplus", FERPLUS, ("train", "validation", "test"), "test", FERPLUS_TREE,
            ("fer2013new.csv", "data/fer2013new.csv"), read_ferplus),
)  # fmt: skip
