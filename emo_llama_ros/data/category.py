"""Category items: a closed-set question about a labelled face, answered by one word."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from emo_llama_ros.data.datasets import Dataset, LeftOut, Sample
from emo_llama_ros.data.records import Record
from emo_llama_ros.errors import BadData
from emo_llama_ros.images.files import shown
from emo_llama_ros.prompts import label_turn


def category_records(
    dataset: Dataset,
    root: str | Path,
    split: str,
    fold: int = 0,
    relative_to: str | Path | None = None,
    left_out: LeftOut | None = None,
) -> Iterator[Record]:
    """Yield one record per sample of a split: the question with the dataset's own labels in their order, the label.

    Paths are relative to the folder `relative_to`, where the record file will lie; absolute when it is None. `left_out`
    as in `Dataset.read`. Raises BadData also when the pictures are not files of their own.
    """
    for sample in dataset.read(root, split, fold, left_out):
        turn = label_turn(dataset.label_set, video=not sample.is_image, answer=sample.label)
        yield Record(
            id=record_id(sample),
            medium="image" if sample.is_image else "video",
            path=record_path(sample, relative_to),
            turns=(turn,),
            kind="category",
            label=sample.label,
            dataset=dataset.name,
            split=split,
            fold=sample.fold,
        )


def record_id(sample: Sample) -> str:
    """Return an id that is unique over datasets, splits and folds."""
    fold = f"{sample.fold}/" if sample.fold else ""
    return f"{sample.dataset}/{sample.split}/{fold}{sample.id}"


def record_path(sample: Sample, relative_to: str | Path | None) -> str:
    """Return the sample's path as a record holds it; raise BadData when its picture is not a file of its own."""
    if sample.picture is not None:
        holds = f"{shown(sample.path)} holds all pictures, and a record needs a file for each"
        raise BadData(f"{holds}; use the folders of pictures.")
    if relative_to is None:
        return str(sample.path.resolve())
    return Path(os.path.relpath(sample.path, relative_to)).as_posix()
