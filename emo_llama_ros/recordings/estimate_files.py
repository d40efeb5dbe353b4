"""Estimates as files: JSON lines, a table, and a rosbag2."""

from __future__ import annotations

import csv
import json
import math
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from typing_extensions import Self

from emo_llama_ros.errors import BadRecording
from emo_llama_ros.estimate import Estimate
from emo_llama_ros.images.files import shown
from emo_llama_ros.labels import LabelSet
from emo_llama_ros.recordings.bag_writer import ESTIMATE, BagWriter

EMOTION_TOPIC = "/emotion"
RESULT_NAMES = ("estimates.jsonl", "estimates.csv", "bag", "timeline.png", "report.json")
_PARTIAL = ".partial"


class EstimateFiles:
    """Writes every estimate into estimates.jsonl, estimates.csv and bag/ of one folder; use as context manager.

    Each line is on the disk as soon as it is written; the bag appears when it is whole.
    What depends on the machine and the moment (age_at_publish, timings) is left out, so that equal estimates give
    equal bytes.
    """

    def __init__(self, folder: Path, label_set: LabelSet) -> None:
        """Name the folder, which must hold no results yet; the table has one column for each label."""
        self._folder = folder
        self._labels = label_set.labels
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Create the files."""
        with ExitStack() as stack:
            self._bag = stack.enter_context(BagWriter(self._folder / "bag"))
            self._lines = stack.enter_context((self._folder / "estimates.jsonl").open("w", 1, "utf-8"))
            table = stack.enter_context((self._folder / "estimates.csv").open("w", 1, "utf-8", newline=""))
            self._table = csv.writer(table, lineterminator="\n")
            self._table.writerow(self._columns())
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close the files."""
        self._stack.__exit__(kind, error, at)

    def write(self, estimate: Estimate) -> None:
        """Append one estimate to all files."""
        estimate = replace(estimate, age_at_publish_ns=0, timings=())
        self._lines.write(json.dumps(estimate.record(), ensure_ascii=False, allow_nan=False) + "\n")
        self._table.writerow(self._row(estimate))
        self._bag.write_estimate(EMOTION_TOPIC, estimate)

    def _columns(self) -> list[str]:
        return [
            *("stamp", "frame_id", "estimate_id", "stage", "status", "face_id"),
            *("x_offset", "y_offset", "width", "height", "clip_start", "frame_count", "label", "confidence"),
            *(f"p_{label}" for label in self._labels),
            *("valence", "arousal", "action_units", "reasoning", "model"),
        ]

    def _row(self, e: Estimate) -> list[object]:
        shares = dict(zip(e.labels, e.probabilities, strict=False))
        units = " ".join(
            f"{u.number}" if math.isnan(u.intensity) else f"{u.number}:{u.intensity}" for u in e.action_units
        )
        return [
            *(e.stamp_ns, e.frame_id, e.estimate_id, e.stage.name, e.status.name, e.face_id),
            *(e.roi.x_offset, e.roi.y_offset, e.roi.width, e.roi.height),
            *(e.clip_start_ns, e.frame_count, e.label, _known(e.confidence)),
            *(shares.get(label, "") for label in self._labels),
            *(_known(e.valence), _known(e.arousal), units, e.reasoning, e.model),
        ]


def prepare_folder(folder: Path, overwrite: bool = False) -> None:
    """Create the folder of results and change nothing in it.

    Raises BadRecording when it holds earlier results and `overwrite` is not set, or files of the user's own where the
    results would come.
    """
    for name in RESULT_NAMES:
        path = folder / name
        if not os.path.lexists(path):
            continue
        if not overwrite:
            raise BadRecording(
                f"{shown(folder)} holds earlier results ({name}); name another folder or overwrite them."
            )
        if not _is_result(path):
            raise BadRecording(f"{shown(path)} is no earlier result and is not overwritten; name another folder.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadRecording(f"The folder {shown(folder)} cannot be written: {error.strerror}.") from None


@contextmanager
def published(folder: Path) -> Iterator[Path]:
    """Yield a hidden folder for the results, and move them into the prepared `folder` when all are written.

    Earlier results stay until then, also when the process is killed; report.json comes last. Raises BadRecording when
    the folder cannot be written.
    """
    partial = folder / _PARTIAL
    try:
        shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
        partial.mkdir()
        yield partial
        (folder / RESULT_NAMES[-1]).unlink(missing_ok=True)
        for name in RESULT_NAMES:
            if (folder / name).is_dir():
                (folder / name).replace(partial / f"earlier {name}")
            (partial / name).replace(folder / name)
    except OSError as error:
        raise BadRecording(f"The folder {shown(folder)} cannot be written: {error.strerror or error}.") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _is_result(path: Path) -> bool:
    """Return whether a file or bag looks as this module or its callers write it."""
    if path.is_symlink():
        return False
    if path.name == "bag":
        if not path.is_dir() or {p.name for p in path.iterdir()} - {"metadata.yaml", "bag.db3"}:
            return False
        metadata = path / "metadata.yaml"
        kinds = re.findall(
            r"^ +type: (\S+)$", metadata.read_text("utf-8", "replace") if metadata.exists() else "", re.M
        )
        return set(kinds) <= {ESTIMATE}
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(1000)
    signs = {"estimates.jsonl": b'"estimate_id"', "estimates.csv": b"stamp,frame_id,estimate_id"}
    signs |= {"timeline.png": b"Matplotlib", "report.json": b'"emo_llama_ros"'}
    return not head or signs[path.name] in head


def _known(value: float) -> object:
    return "" if math.isnan(value) else value
