"""What a backend answered for one labelled sample."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from emo_llama_ros.errors import BadData

OUTCOMES = ("ok", "no_face", "unparsed", "error")


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answer for one sample; `probabilities` is empty unless `outcome` is "ok"."""

    id: str
    label: str
    """The true label."""
    outcome: str
    probabilities: tuple[float, ...] = ()
    fold: int = 0
    latency_ms: float = 0.0
    """Time of the label alone, without faces and reasoning."""
    faces_ms: float = 0.0
    reasoning: str = ""
    claims: int = 0
    """Claims about the face in the reasoning, and how many of them hold; see `faithfulness`."""
    claims_held: int = 0
    sentences: int = 0
    """Sentences that make at least one claim, and how many are true in every claim."""
    sentences_held: int = 0


def write_predictions(path: Path, predictions: Iterable[Prediction]) -> None:
    """Write predictions as JSON lines."""
    with path.open("w", encoding="utf-8") as file:
        for prediction in predictions:
            file.write(json.dumps(asdict(prediction), ensure_ascii=False) + "\n")


def read_predictions(path: Path) -> Iterator[Prediction]:
    """Yield the predictions of a JSON-lines file; raise BadData naming a line that is none."""
    if not path.is_file():
        raise BadData(f"There is no file of predictions {path}.")
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                raw: dict[str, Any] = json.loads(line)
                yield Prediction(**{**raw, "probabilities": tuple(raw["probabilities"])})
            except (ValueError, TypeError, KeyError) as error:
                raise BadData(f"{path.name}, line {number} is not a prediction ({error}).") from None
