"""Where between accuracy and equal treatment of the displays emo-eyes answers, and how sure it is there.

A network that follows the votes' skew is most often right and never says disgust; one that takes every display for
equally likely says it too often. Between them lies the exponent of the displays' frequency that is added to the logits
(logit adjustment, Menon et al., ICLR 2021). At each point one temperature brings the probabilities as near to the
shares of votes as the error against the majority allows, see `calibration_fit.temperature_on_votes`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import softmax
from torch import Tensor

from emo_llama_ros.data.ferplus import VotedFaces
from emo_llama_ros.evaluation.calibration_fit import temperature_on_votes
from emo_llama_ros.evaluation.metrics import calibration_of, confusion_of, vote_scores, war_uar
from emo_llama_ros.labels import FERPLUS, RAF_DB

FloatArray = npt.NDArray[np.float64]

EXPONENTS = tuple(round(0.1 * step, 1) for step in range(-5, 11))
_SEVEN = [FERPLUS.labels.index(label) for label in RAF_DB.labels]


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """One exponent, the temperature that belongs to it, and what it gives on the faces that it was measured on."""

    exponent: float
    temperature: float
    accuracy: float
    uar: float
    recalls: dict[str, float]
    ece: float
    """Expected calibration error against the majority, 15 bins."""
    brier: float
    """Mean squared distance of the seven probabilities from the seven shares of votes, summed."""
    kl: float
    """Mean Kullback-Leibler divergence of the probabilities from the shares of votes, in nats."""

    def to_json(self) -> dict[str, object]:
        """Return the point with four decimals."""
        return {k: _rounded(v) for k, v in asdict(self).items()}


def counted_shares(faces: VotedFaces) -> FloatArray:
    """Return the shares of votes for the seven displays (N, 7), order of labels.RAF_DB; rows of 0 where nobody did.

    A single vote is a slip, and left out where others agree: the rule of FER+'s majority.
    """
    votes = faces.votes[:, _SEVEN].astype(np.float64)
    counted = np.where(votes > 1, votes, 0)
    counted = np.where(counted.sum(1, keepdims=True) > 0, counted, votes)
    return counted / np.maximum(counted.sum(1, keepdims=True), 1)


def operating_points(logits: Tensor, prior: FloatArray, faces: VotedFaces) -> list[OperatingPoint]:
    """Return the points of all EXPONENTS, each with the temperature fitted on these faces' votes.

    `logits` (N, 8) of the faces; those without a majority among the seven displays are left out. `prior` (8,) is the
    displays' frequency in training.
    """
    chosen, shares, truth = _with_majority(logits, faces)
    points = []
    for exponent in EXPONENTS:
        adjusted = (chosen + exponent * np.log(prior))[:, _SEVEN]
        temperature = temperature_on_votes(adjusted, shares)
        points.append(_measure(exponent, temperature, adjusted, shares, truth))
    return points


def choose(points: Sequence[OperatingPoint]) -> OperatingPoint:
    """Return the point with the highest mean of accuracy and UAR."""
    return max(points, key=lambda point: point.accuracy + point.uar)


def accuracy_and_uar(logits: Tensor, faces: VotedFaces) -> tuple[float, float]:
    """Return accuracy and UAR over the seven displays, of logits (N, 8) as they are."""
    chosen, _, truth = _with_majority(logits, faces)
    war, uar = war_uar(confusion_of(truth, chosen[:, _SEVEN].argmax(1), len(_SEVEN)))
    return float(war), float(uar)


def _with_majority(logits: Tensor, faces: VotedFaces) -> tuple[FloatArray, FloatArray, npt.NDArray[np.intp]]:
    """Return logits, shares and majority, as place in RAF_DB, of the faces with a majority among the seven."""
    kept = np.isin(faces.majority, _SEVEN)
    truth = np.array([_SEVEN.index(place) for place in faces.majority[kept]])
    return logits.double().numpy()[kept], counted_shares(faces)[kept], truth


def _measure(
    exponent: float, temperature: float, adjusted: FloatArray, shares: FloatArray, truth: npt.NDArray[np.intp]
) -> OperatingPoint:
    probabilities = softmax(adjusted / temperature, axis=1)
    confusion = confusion_of(truth, probabilities.argmax(1), len(_SEVEN))
    war, uar = war_uar(confusion)
    recalls = np.diag(confusion) / np.maximum(confusion.sum(1), 1)
    votes = vote_scores(probabilities, shares)
    return OperatingPoint(
        exponent,
        temperature,
        float(war),
        float(uar),
        dict(zip(RAF_DB.labels, recalls.tolist(), strict=True)),
        calibration_of(probabilities, truth).ece,
        votes.brier,
        votes.kl,
    )


def _rounded(value: object) -> object:
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    return round(float(value), 4)  # type: ignore[arg-type]


def prior_of(shares: npt.NDArray[np.float32], least: float = 1e-4) -> FloatArray:
    """Return the displays' frequency (8,) in shares (N, 8), that of rarer ones as if it were `least` before all are
    scaled to sum to 1."""
    frequency = np.maximum(shares.mean(0, dtype=np.float64), max(least, 1e-4))
    return np.asarray(frequency / frequency.sum())
