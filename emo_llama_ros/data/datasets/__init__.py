"""Labelled faces: readers of the official facial-expression datasets and of plain lists and folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from emo_llama_ros.data.datasets.dynamic import DYNAMIC
from emo_llama_ros.data.datasets.media import read_frames, sample_frames, segment_centres
from emo_llama_ros.data.datasets.plain import PLAIN_TREE, plain_dataset
from emo_llama_ros.data.datasets.sample import Dataset, LeftOut, Sample
from emo_llama_ros.data.datasets.static import STATIC
from emo_llama_ros.data.datasets.voted import present_splits
from emo_llama_ros.errors import BadData
from emo_llama_ros.labels import LabelSet

DATASETS = {dataset.name: dataset for dataset in (*STATIC, *DYNAMIC)}

__all__ = [
    "DATASETS", "Dataset", "LeftOut", "Sample", "open_dataset", "read_frames", "sample_frames", "segment_centres",
    "spread",
]  # fmt: skip


def open_dataset(root: str | Path, name: str = "", labels: LabelSet | None = None) -> Dataset:
    """Return the dataset at `root`: the one called `name`, or the one that its files show.

    Raises BadData that lists what can be read when `root` is nothing known.
    """
    root = Path(root)
    if name:
        if name not in DATASETS:
            raise BadData(f"There is no dataset '{name}'; choose one of {', '.join(DATASETS)}.")
        return _present(DATASETS[name], root)
    if not root.exists():
        raise BadData(f"There is no file or folder {root}.")
    if root.suffix.lower() == ".npz" or root.name in ("fer2013.csv", "icml_face_data.csv"):
        return _present(DATASETS["ferplus"], root)
    for dataset in DATASETS.values():
        if root.is_dir() and dataset.matches(root):
            return _present(dataset, root)
    plain = plain_dataset(root, labels)
    if plain is None:
        known = ", ".join(DATASETS)
        raise BadData(f"{root} is none of the known datasets ({known}) and no plain one. Plain data are\n{PLAIN_TREE}")
    return plain


def _present(dataset: Dataset, root: Path) -> Dataset:
    """Return FER+ with the splits that are there: people hold the last of them back, or have one alone."""
    if dataset.name != "ferplus" or not root.exists() or not (splits := present_splits(root)):
        return dataset
    return replace(dataset, splits=splits, test_split=splits[-1])


def spread(samples: Sequence[Sample], limit: int) -> Sequence[Sample]:
    """Return at most `limit` samples, spread evenly because lists are often sorted by class; 0 returns all."""
    return [samples[i] for i in segment_centres(len(samples), limit)] if 0 < limit < len(samples) else samples
