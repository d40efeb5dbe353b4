"""One labelled face of a dataset, and the description of the dataset it comes from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from emo_llama_ros.errors import BadData
from emo_llama_ros.frames import RgbImage
from emo_llama_ros.images.files import medium_of, shown
from emo_llama_ros.labels import LabelSet

NOT_THERE = "is listed, but not there"
MOST_EXAMPLES = 3


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
    person: str = ""
    """Who is seen, where the data say it: a name that means nothing outside of them."""
    votes: tuple[int, ...] = ()
    """How many people chose each of `ferplus.VOTE_NAMES`; () where the data have one label alone."""
    picture: RgbImage | None = field(default=None, compare=False, repr=False)
    """The pixels, RGB uint8 (H, W, 3), of data that lie in one file; None where `path` is the sample's own."""

    @property
    def is_image(self) -> bool:
        """Whether it is a still image."""
        return self.picture is not None or medium_of(self.path) == "picture"


@dataclass(slots=True)
class LeftOut:
    """What a reader met and did not take: counts by reason, and the first few names of each."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, name: str = "") -> None:
        """Count one thing that has or is `reason`."""
        self.counts[reason] += 1
        names = self.examples.setdefault(reason, [])
        if name and len(names) < MOST_EXAMPLES:
            names.append(name)

    def lines(self) -> list[str]:
        """Return a line for people about each reason, the most frequent first."""
        told = []
        for reason, count in self.counts.most_common():
            names = ", ".join(self.examples[reason])
            told.append(
                f"{count} × {reason}" + (f" ({names}{', …' if count > MOST_EXAMPLES else ''})" if names else "")
            )
        return told

    def fault(self, reason: str, name: str, sentence: str) -> None:
        """Count what is wrong with the data themselves; `Strict` raises LayoutFault with the sentence instead."""
        self.add(reason, name)


class Strict(LeftOut):
    """Counts what is no data, and refuses data that are wrong."""

    def fault(self, reason: str, name: str, sentence: str) -> None:
        """Raise LayoutFault."""
        raise LayoutFault(sentence)


Reader = Callable[[Path, str, int, LeftOut], Iterator[Sample]]
"""Yields the samples of (root, split, fold), and tells LeftOut of what it leaves out."""


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
    reader: Reader
    folds: int = 0
    cropped: bool = True
    """Whether images show little more than the face, so that a detector needs a border around them."""
    aligned: bool = False
    """Whether images are upright faces that are cut like FER2013's."""

    def read(self, root: str | Path, split: str, fold: int = 0, left_out: LeftOut | None = None) -> Iterator[Sample]:
        """Yield the samples of a split (of a fold, counted from 1, where the dataset has folds).

        With `left_out`, samples that are listed but not there, or that have no label of the list's kind, are counted
        in it and the rest is read; without it they are refused. Raises BadData that shows the expected layout when the
        folder does not have it, and BadData for a split or fold that does not exist.
        """
        if split not in self.splits:
            raise BadData(f"{self.name} has no split '{split}'; choose one of {', '.join(self.splits)}.")
        if self.folds and not 1 <= fold <= self.folds:
            raise BadData(f"{self.name} has folds 1 to {self.folds}, not {fold}.")
        heard = Strict() if left_out is None else left_out
        empty = True
        try:
            for sample in self.reader(Path(root), split, fold if self.folds else 0, heard):
                empty = False
                yield sample
            if empty and (missing := heard.counts[NOT_THERE]):
                raise LayoutFault(f"none of the {missing} samples is there, as {heard.examples[NOT_THERE][0]}.")
        except LayoutFault as fault:
            root = shown(Path(root))
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


def is_there(path: Path, root: Path, listing: Path, line: int, left_out: LeftOut) -> bool:
    """Return whether a sample that a list mentions is there; tell `left_out` when it is not. Lines count from 1."""
    if path.exists():
        return True
    name = shown(path.relative_to(root))
    left_out.fault(NOT_THERE, name, f"{listing.relative_to(root)}, line {line} lists {name}, which is not there.")
    return False


def whole_number(text: str, low: int, high: int) -> int | None:
    """Return the number from `low` to `high` that a cell holds ("3", "3.0"), None where it holds none."""
    try:
        value = float(text)
    except ValueError:
        return None
    return int(value) if value.is_integer() and low <= value <= high else None
