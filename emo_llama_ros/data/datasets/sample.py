"""One labelled face of a dataset, and the description of the dataset it comes from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from emo_llama_ros.errors import BadData
from emo_llama_ros.labels import LabelSet

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})
VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm"})


@dataclass(frozen=True, slots=True)
class Sample:
    """A labelled image, video file or folder of frames; nothing of it is read yet."""

    id: str
    """Unique within dataset and split, and stable between releases of the same layout."""
    path: Path
    label: str
    dataset: str
    split: str
    fold: int = 0
    """1-based cross-validation fold; 0 where the dataset has none."""

    @property
    def is_image(self) -> bool:
        """Whether it is a still image."""
        return self.path.suffix.lower() in IMAGE_SUFFIXES


@dataclass(frozen=True, slots=True)
class Dataset:
    """A facial-expression dataset in its official folder layout."""

    name: str
    label_set: LabelSet
    splits: tuple[str, ...]
    test_split: str
    """The split that results are reported on."""
    tree: str
    """The expected folder layout, for people."""
    markers: tuple[str, ...]
    """Paths relative to the root, any of which tells that a folder is this dataset."""
    reader: Callable[[Path, str, int], Iterator[Sample]]
    folds: int = 0
    cropped: bool = True
    """Whether images show little more than the face, so that a detector needs a border around them."""

    def read(self, root: str | Path, split: str, fold: int = 0) -> Iterator[Sample]:
        """Yield the samples of a split (of a fold, counted from 1, where the dataset has folds).

        Raises BadData that shows the expected layout when the folder does not have it, and BadData for a split or
        fold that does not exist.
        """
        if split not in self.splits:
            raise BadData(f"{self.name} has no split '{split}'; choose one of {', '.join(self.splits)}.")
        if self.folds and not 1 <= fold <= self.folds:
            raise BadData(f"{self.name} has folds 1 to {self.folds}, not {fold}.")
        try:
            yield from self.reader(Path(root), split, fold if self.folds else 0)
        except LayoutFault as fault:
            raise BadData(f"{root} is not laid out as {self.name}: {fault}\nExpected:\n{self.tree}") from None

    def matches(self, root: Path) -> bool:
        """Return whether `root` looks like this dataset."""
        return any((root / marker).exists() for marker in self.markers)


class LayoutFault(Exception):
    """A reader met something that its layout does not have; `Dataset.read` adds which dataset and the layout."""


def first_of(root: Path, *candidates: str) -> Path:
    """Return the first of the `candidates` below `root` that exists; raise LayoutFault when none does."""
    for candidate in candidates:
        if (root / candidate).exists():
            return root / candidate
    raise LayoutFault(f"there is no {' and no '.join(candidates)}.")


def must_exist(path: Path, root: Path, named_by: Path) -> Path:
    """Return `path`; raise LayoutFault, naming the list that mentions it, when it is not there."""
    if not path.exists():
        raise LayoutFault(f"{named_by.relative_to(root)} lists {path.relative_to(root)}, which is not there.")
    return path
