"""Category items: a closed-set question about a labelled face, answered by one word."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from emo_llama_ros.data.datasets import Dataset, Sample
from emo_llama_ros.data.records import Record
from emo_llama_ros.prompts import label_turn


def category_records(
    dataset: Dataset, root: str | Path, split: str, fold: int = 0, relative_to: str | Path | None = None
) -> Iterator[Record]:
    """Yield one record per sample of a split: the question with the dataset's own labels in their order, the label.

    Paths are relative to the folder `relative_to`, where the record file will lie; absolute when it is None.
    """
    for sample in dataset.read(root, split, fold):
        turn = label_turn(dataset.label_set, video=not sample.is_image, answer=sample.label)
        yield Record(
            id=record_id(sample),
            medium="image" if sample.is_image else "video",
            path=record_path(sample.path, relative_to),
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


def record_path(path: Path, relative_to: str | Path | None) -> str:
    """Return `path` as a record holds it."""
    if relative_to is None:
        return str(path.resolve())
    return Path(os.path.relpath(path, relative_to)).as_posix()
