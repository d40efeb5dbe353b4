"""Results as they come: a file that grows by a line per sample, so that a stopped evaluation goes on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from emo_llama_ros.data.datasets import Sample
from emo_llama_ros.evaluation.prediction import Prediction, from_json, to_json


def fingerprint(*parts: object) -> str:
    """Return a short text that differs when any of the parts' `repr` does."""
    return hashlib.sha256("\n".join(map(repr, parts)).encode("utf-8", "surrogateescape")).hexdigest()[:16]


class Journal:
    """The answers so far of one evaluation, told by its fingerprint; those of another one are thrown away."""

    def __init__(self, path: Path, mark: str) -> None:
        self._path = path
        self.done: dict[tuple[int, str], list[Prediction]] = {}
        """Answers of an earlier run to samples, by fold and id."""
        head = json.dumps({"evaluation": mark})
        written = path.read_bytes().split(b"\n")[:-1] if path.exists() else []  # the last line is cut off, or empty
        if written[:1] != [head.encode()]:
            written = [head.encode()]
        for line in written[1:]:
            predictions = [from_json(raw) for raw in json.loads(line)]
            self.done[predictions[0].fold, predictions[0].id] = predictions
        path.write_bytes(b"\n".join(written) + b"\n")
        self._file: IO[str] = path.open("a", encoding="utf-8")

    def add(self, predictions: Sequence[Prediction]) -> None:
        """Write all contenders' answers to one sample."""
        self._file.write(f"[{', '.join(to_json(p) for p in predictions)}]\n")
        self._file.flush()

    def missing(self, samples: Sequence[Sample]) -> list[Sample]:
        """Return the samples that were not answered."""
        return [s for s in samples if (s.fold, s.id) not in self.done]

    def close(self, finished: bool) -> None:
        """Close the file; remove it when the results stand elsewhere."""
        self._file.close()
        if finished:
            self._path.unlink()


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a path to write to, which becomes `path` only when all is written."""
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        yield partial
        if partial.exists():
            os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
