"""Readers of video datasets: DFEW, FERV39k, MAFW."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from emo_llama_ros.data.datasets.sample import (
    Dataset,
    LayoutFault,
    LeftOut,
    Sample,
    first_of,
    is_there,
    whole_number,
)  # fmt: skip
from emo_llama_ros.data.text_files import lines, table
from emo_llama_ros.labels import DFEW, FERV39K, MAFW, LabelSet, canonical

DFEW_TREE = """\
├── EmoLabel_DataSplit/train(single-labeled)/set_1.csv … set_5.csv   "video_name,label", labels 1 to 7
│                      test(single-labeled)/set_1.csv … set_5.csv
└── Clip/clip_224x224/00001/*.jpg    (or clip_224x224_16f, jpg_256, or original/…/1.mp4)"""

FERV39K_TREE = """\
├── 4_setups/All_scenes/train_All.csv, test_All.csv    "Action/Happy/0267 Happy"
└── 2_ClipsforFaceCrop/Action/Happy/0267/*.jpg"""

MAFW_TREE = """\
├── Train & Test Set/single/no_caption/set_1/train.txt, test.txt … set_5    "00001.mp4 anger"
└── data/frames/00001/*.png    (or data/clips/00001.mp4)"""


def read_dfew(root: Path, split: str, fold: int, left_out: LeftOut) -> Iterator[Sample]:
    """Yield the single-labelled clips of one of the five official folds.

    Layout and label order (1 happy, 2 sad, 3 neutral, 4 angry, 5 surprise, 6 disgust, 7 fear) as read by
    sunlicai/MAE-DFER (`preprocess/dfew.py`).
    """
    folder = first_of(root, "EmoLabel_DataSplit")
    listing = first_of(folder, f"{split}(single-labeled)/set_{fold}.csv", f"{split}/set_{fold}.csv")
    find = _dfew_clips(root)
    for line, row in table(listing):
        if not {"video_name", "label"} <= row.keys():
            raise LayoutFault(f"{listing.relative_to(root)} has no columns video_name and label.")
        number, code = whole_number(row["video_name"], 0, 10**9), whole_number(row["label"], 1, 7)
        if number is None or code is None:
            raise LayoutFault(f"{listing.relative_to(root)}, line {line} is not 'number,label from 1 to 7'.")
        if is_there(find(number), root, listing, line, left_out):
            yield Sample(f"{number:05d}", find(number), DFEW.labels[code - 1], DFEW.name, split, fold)


def _dfew_clips(root: Path) -> Callable[[int], Path]:
    for name in ("clip_224x224", "clip_224x224_16f", "jpg_256"):
        folder = root / "Clip" / name
        if folder.is_dir():
            return lambda number: folder / f"{number:05d}"
    original = first_of(root, "Clip/original")
    videos = {int(path.stem): path for path in original.rglob("*.mp4") if path.stem.isdigit()}
    return lambda number: videos.get(number, original / f"{number}.mp4")


def read_ferv39k(root: Path, split: str, fold: int, left_out: LeftOut) -> Iterator[Sample]:
    """Yield the clips of all 22 scenes with the official train and test lists.

    Layout as read by sunlicai/MAE-DFER (`preprocess/ferv39k.py`).
    """
    listing = first_of(root, f"4_setups/All_scenes/{split}_All.csv", f"All_scenes/{split}_All.csv")
    clips = first_of(root, "2_ClipsforFaceCrop", "2_ClipsforFaceCrop/2_ClipsforFaceCrop")
    for line, name, label in _pairs(listing, root, FERV39K):
        if is_there(clips / name, root, listing, line, left_out):
            yield Sample(name, clips / name, label, FERV39K.name, split)


def read_mafw(root: Path, split: str, fold: int, left_out: LeftOut) -> Iterator[Sample]:
    """Yield the clips with one of eleven single expressions, of one of the five official folds.

    Layout as read by sunlicai/MAE-DFER (`preprocess/mafw.py`); `data/frames` and `data/clips` as in the release.
    """
    sets = first_of(root, "Train & Test Set/single/no_caption", "split/single/no_caption", "single/no_caption")
    listing = first_of(sets, f"set_{fold}/{split}.txt")
    frames = root / "data/frames"
    for line, name, label in _pairs(listing, root, MAFW):
        stem = Path(name).stem
        path = frames / stem if frames.is_dir() else root / "data/clips" / f"{stem}.mp4"
        if is_there(path, root, listing, line, left_out):
            yield Sample(stem, path, label, MAFW.name, split, fold)


def _pairs(listing: Path, root: Path, labels: LabelSet) -> Iterator[tuple[int, str, str]]:
    for number, line in lines(listing):
        name, _, word = line.strip().rpartition(" ")
        if not name or canonical(word) not in labels.labels:
            raise LayoutFault(f"{listing.relative_to(root)}, line {number} is not 'clip label': {line.strip()!r}.")
        yield number, name.strip(), canonical(word)


DYNAMIC = (
    Dataset("dfew", DFEW, ("train", "test"), "test", DFEW_TREE, ("EmoLabel_DataSplit",), read_dfew, folds=5),
    Dataset("ferv39k", FERV39K, ("train", "test"), "test", FERV39K_TREE,
            ("4_setups", "2_ClipsforFaceCrop"), read_ferv39k),
    Dataset("mafw", MAFW, ("train", "test"), "test", MAFW_TREE,
            ("Train & Test Set", "split/single/no_caption", "single/no_caption"), read_mafw, folds=5, cropped=False),
)  # fmt: skip
