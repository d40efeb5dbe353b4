"""Your own labelled faces: a list of paths and labels, or one folder per label."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emo_llama_ros.data.datasets.sample import Dataset, LeftOut, Sample, is_there
from emo_llama_ros.data.text_files import json_lines, table
from emo_llama_ros.errors import BadData, BadRecording
from emo_llama_ros.images.files import is_hidden, medium_of, shown
from emo_llama_ros.labels import LABEL_SETS, LABEL_WORDS, LabelSet, canonical

PLAIN_TREE = """\
a .csv with the columns path and label (and split, fold, person if you like),
a .jsonl of objects with path (or image, or video) and label, or
├── happiness/*.jpg  (images, videos or folders of frames)
└── sadness/…"""

HIDDEN = "is hidden, or a leftover of another system"
OTHER = "is neither picture nor video"
_PREFERRED = ("raf-db", "affectnet", "mafw")


@dataclass(frozen=True, slots=True)
class _Entry:
    """A line of a list, 1-based, with its sample; line 0 for a file of a folder."""

    line: int
    sample: Sample


def plain_dataset(root: Path, labels: LabelSet | None = None) -> Dataset | None:
    """Return the dataset in a list file or a folder of label folders; None when `root` is neither.

    Without `labels`, the smallest of RAF-DB's, AffectNet's and MAFW's label sets that has every label is taken.
    """
    if root.suffix.lower() not in (".csv", ".jsonl") and not (root.is_dir() and _label_folders(root)):
        return None
    found = LeftOut()
    entries = list(_from_folders(root, found) if root.is_dir() else _from_list(root))
    used = {e.sample.label: e.line for e in reversed(entries)}
    chosen = labels or next((LABEL_SETS[n] for n in _PREFERRED if used.keys() <= set(LABEL_SETS[n].labels)), None)
    known = chosen.labels if chosen else LABEL_SETS[_PREFERRED[-1]].labels
    strange = sorted(used.keys() - set(known), key=lambda label: used[label])
    if chosen is None or strange:
        where = f"{shown(root)}, line {used[strange[0]]}" if used[strange[0]] else shown(root)
        raise BadData(f"{where} has labels that are not in the label set: {', '.join(strange)}.")

    def read(_: Path, split: str, fold: int, left_out: LeftOut) -> Iterator[Sample]:
        for reason, count in found.counts.items():
            for i in range(count):
                left_out.add(reason, found.examples[reason][i] if i < len(found.examples[reason]) else "")
        for entry in entries:
            sample = entry.sample
            if sample.split == split and fold in (0, sample.fold):
                if entry.line and not is_there(sample.path, root.parent, root, entry.line, left_out):
                    continue
                yield sample

    samples = [e.sample for e in entries]
    splits = tuple(sorted({s.split for s in samples})) or ("test",)
    test = next((s for s in ("test", "validation") if s in splits), splits[0])
    folds = max((s.fold for s in samples), default=0)
    return Dataset(shown(Path(root.stem)), chosen, splits, test, PLAIN_TREE, (), read, folds=folds, cropped=False)


def _from_list(root: Path) -> Iterator[_Entry]:
    rows: Iterable[tuple[int, Mapping[str, Any]]] = table(root) if root.suffix.lower() == ".csv" else json_lines(root)
    for line, named in rows:
        row = {str(name).strip().lower(): value for name, value in named.items()}
        name = row.get("path") or row.get("image") or row.get("video")
        if not name or not row.get("label"):
            raise BadData(f"{shown(root)}, line {line} needs a path and a label.\nExpected:\n{PLAIN_TREE}")
        try:
            fold = int(row.get("fold") or 0)
        except (ValueError, TypeError):
            fold = -1
        if fold < 0:
            raise BadData(f"{shown(root)}, line {line}: the fold is '{row['fold']}', not a number from 1.")
        path = root.parent / str(name)
        if not path.exists() and "\\" in str(name):  # a list that was made on Windows
            path = root.parent / str(name).replace("\\", "/")
        person = str(row.get("person") or "")
        split = str(row.get("split") or "test")
        yield _Entry(line, Sample(str(name), path, canonical(str(row["label"])), root.stem, split, fold, person))


def _label_folders(root: Path) -> list[Path]:
    return sorted(p for p in root.iterdir() if p.is_dir() and p.name.lower() in LABEL_WORDS)


def _from_folders(root: Path, left_out: LeftOut) -> Iterator[_Entry]:
    labelled = _label_folders(root)
    for path in sorted(root.iterdir()):
        if path.is_dir() and path not in labelled and not is_hidden(path):
            left_out.add("is a folder whose name is no label", shown(Path(path.name)))
    for folder in labelled:
        for path in sorted(folder.iterdir()):
            name = f"{folder.name}/{path.name}"
            if is_hidden(path):
                left_out.add(HIDDEN, shown(Path(name)))
            elif reason := _no_sample(path):
                left_out.add(reason, shown(Path(name)))
            else:
                yield _Entry(0, Sample(name, path, canonical(folder.name), root.stem, "test"))


def _no_sample(path: Path) -> str:
    """Return why a file or folder is no sample; "" when it is one."""
    try:
        if path.is_dir():
            pictures = (not is_hidden(p) and medium_of(p) == "picture" for p in path.iterdir())
            return "" if any(pictures) else "is a folder without pictures"
        return "" if medium_of(path) else "is empty" if path.exists() and not path.stat().st_size else OTHER
    except (OSError, BadRecording):
        return "may not be read"
