"""Readers of still-image datasets: RAF-DB, AffectNet, FERPlus."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from emo_llama_ros.data.datasets.sample import Dataset, LayoutFault, LeftOut, Sample, first_of, is_there, whole_number
from emo_llama_ros.data.datasets.voted import VOTED_FOLDERS, read_ferplus
from emo_llama_ros.data.ferplus import LAYOUTS
from emo_llama_ros.data.text_files import lines, table
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

_AFFECTNET_COLUMNS = (
    "subDirectory_filePath", "face_x", "face_y", "face_width", "face_height", "facial_landmarks", "expression",
    "valence", "arousal",
)  # fmt: skip


def read_raf_db(root: Path, split: str, fold: int, left_out: LeftOut) -> Iterator[Sample]:
    """Yield the basic-emotion subset with its aligned faces.

    Layout and label order (1 surprise … 7 neutral) as read by zyh-uaiaaaa/Erasing-Attention-Consistency
    (`src/dataset.py`) and most methods since.
    """
    listing = first_of(root, "EmoLabel/list_patition_label.txt", "basic/EmoLabel/list_patition_label.txt")
    base = listing.parent.parent
    for number, line in lines(listing):
        name, _, word = line.strip().rpartition(" ")
        label = whole_number(word, 1, 7)
        stem = Path(name.strip()).stem
        if label is None or not stem.startswith(("train", "test")):
            raise LayoutFault(f"{listing.name}, line {number} is not 'train_… label' or 'test_… label' with a label "
                              f"from 1 to 7: {line.strip()!r}.")  # fmt: skip
        path = base / "Image/aligned" / f"{stem}_aligned.jpg"
        if stem.startswith(split) and is_there(path, root, listing, number, left_out):
            yield Sample(stem, path, RAF_DB.labels[label - 1], RAF_DB.name, split)


def read_affectnet(
    root: Path, split: str, fold: int, left_out: LeftOut, labels: LabelSet = AFFECTNET
) -> Iterator[Sample]:
    """Yield the manually annotated faces; None, Uncertain and No-Face (8 to 10) are left out.

    Two releases are read: the file lists with images in numbered folders (Mollahosseini et al., 2017; columns as in
    `training.csv`; `validation.csv` comes without a header in some copies), and the later one with one `N_exp.npy`
    per image. Both are described in the issues of sb-ai-lab/EmotiEffLib.
    """
    folder = root / {"train": "train_set", "validation": "val_set"}[split]
    if folder.is_dir():
        yield from _affectnet_arrays(root, folder, split, left_out, labels)
        return
    name = {"train": "training.csv", "validation": "validation.csv"}[split]
    listing = first_of(root, f"Manually_Annotated_file_lists/{name}", f"Manually_Annotated/{name}", name)
    images = first_of(root, "Manually_Annotated_Images", "Manually_Annotated/Manually_Annotated_Images")
    for number, row in table(listing, _AFFECTNET_COLUMNS):
        code = whole_number(row.get("expression", ""), 0, 10)
        if code is None:
            raise LayoutFault(f"{listing.name}, line {number} has no number from 0 to 10 in the column 'expression'.")
        face = row["subDirectory_filePath"]
        if code >= len(labels.labels):
            left_out.add(_no_label(code, labels), face)
        elif is_there(images / face, root, listing, number, left_out):
            yield Sample(face, images / face, labels.labels[code], labels.name, split)


def read_affectnet_7(root: Path, split: str, fold: int, left_out: LeftOut) -> Iterator[Sample]:
    """Yield AffectNet without contempt, the 7-class protocol."""
    return read_affectnet(root, split, fold, left_out, AFFECTNET_7)


def _no_label(code: int, labels: LabelSet) -> str:
    what = (*AFFECTNET.labels, "none of the expressions", "uncertain", "no face")[code]
    return f"is labelled '{what}', which is not in {labels.name}"


def _affectnet_arrays(root: Path, folder: Path, split: str, left_out: LeftOut, labels: LabelSet) -> Iterator[Sample]:
    annotations, images = first_of(folder, "annotations"), first_of(folder, "images")
    files = sorted(annotations.glob("*_exp.npy"), key=lambda p: (len(p.name), p.name))
    if not files:
        raise LayoutFault(f"{annotations.relative_to(root)} holds no *_exp.npy file.")
    for file in files:
        stem = file.name.removesuffix("_exp.npy")
        try:
            code = whole_number(str(np.load(file, allow_pickle=False).item()), 0, 10)
        except (OSError, ValueError, EOFError):
            code = None
        if code is None:
            name = str(file.relative_to(root))
            left_out.fault("has no label from 0 to 10", name, f"{name} holds no number from 0 to 10.")
        elif code >= len(labels.labels):
            left_out.add(_no_label(code, labels), stem)
        elif is_there(images / f"{stem}.jpg", root, file, 1, left_out):
            yield Sample(stem, images / f"{stem}.jpg", labels.labels[code], labels.name, split)


STATIC = (
    Dataset("raf-db", RAF_DB, ("train", "test"), "test", RAF_DB_TREE,
            ("EmoLabel/list_patition_label.txt", "basic/EmoLabel/list_patition_label.txt"), read_raf_db),
    Dataset("affectnet", AFFECTNET, ("train", "validation"), "validation", AFFECTNET_TREE,
            ("Manually_Annotated_file_lists", "Manually_Annotated", "val_set/annotations"), read_affectnet),
    Dataset("affectnet-7", AFFECTNET_7, ("train", "validation"), "validation", AFFECTNET_TREE, (), read_affectnet_7),
    Dataset("ferplus", FERPLUS, ("train", "validation", "test"), "test", LAYOUTS,
            ("fer2013new.csv", "data/fer2013new.csv", *(f"{folder}/label.csv" for folder in VOTED_FOLDERS)),
            read_ferplus, aligned=True),
)  # fmt: skip
