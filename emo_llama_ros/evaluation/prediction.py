"""What a backend answered for one labelled sample."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

OUTCOMES = ("ok", "no_face", "unparsed", "error")
UNREADABLE = "unreadable"
"""Outcome of a sample that no backend saw, because its file is damaged; it counts for none of them."""


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
    unfaithful: tuple[str, ...] = ()
    """The sentences with a false claim, and what each false claim is about (`evidence.About`)."""
    false_claims: tuple[str, ...] = ()
    person: str = ""
    votes: tuple[int, ...] = ()
    """How many people chose each of `ferplus.VOTE_NAMES`; () where nobody was asked."""
    low_quality: bool = False
    """Whether the newest face has a flaw that makes the node's status LOW_QUALITY."""
    message: str = ""
    """Why there is no label."""


def to_json(prediction: Prediction) -> str:
    """Return a prediction as one line; names with bytes that are no UTF-8 survive it."""
    return json.dumps(asdict(prediction))


def from_json(raw: dict[str, Any]) -> Prediction:
    """Return the prediction of a JSON object; raise TypeError or KeyError when it is none."""
    values = dict(raw)
    for name in ("probabilities", "unfaithful", "false_claims", "votes"):
        if name in values or name == "probabilities":
            values[name] = tuple(values[name])
    return Prediction(**values)


def write_predictions(path: Path, predictions: Iterable[Prediction]) -> None:
    """Write predictions as JSON lines."""
    with path.open("w", encoding="utf-8") as file:
        for prediction in predictions:
            file.write(to_json(prediction) + "\n")
