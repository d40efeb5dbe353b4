"""Where between accuracy and equal treatment of the displays emo-eyes answers, and how sure it is there.

A network that follows the votes' skew is most often right and never says disgust; one that takes every display for
equally likely says it too often. Between them lies the exponent of the displays' frequency that is added to the logits
(logit adjustment, Menon et al., ICLR 2021). At each point one temperature makes the probabilities the shares of votes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn.metrics import recall_score
from torch import Tensor

from emo_llama_ros.data.ferplus import VotedFaces
from emo_llama_ros.labels import FERPLUS, RAF_DB

EXPONENTS = tuple(round(0.1 * step, 1) for step in range(-5, 11))
_SEVEN = [FERPLUS.labels.index(label) for label in FERPLUS.labels if label in RAF_DB.labels]
_BINS = 15


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
    """Mean squared distance of the seven probabilities from the seven shares of votes."""
    kl: float
    """Mean Kullback-Leibler divergence of the probabilities from the shares of votes, in nats."""

    def to_json(self) -> dict[str, object]:
        """Return the point with four decimals."""
        return {k: _rounded(v) for k, v in asdict(self).items()}


def operating_points(
    logits: Tensor, prior: npt.NDArray[np.float64], faces: VotedFaces, temperatures: Sequence[float] | None = None
) -> list[OperatingPoint]:
    """Return the points of all EXPONENTS on faces with a majority among seven displays, given logits (N, 8).

    `prior` (8,) is the displays' frequency in training. Temperatures are fitted on these faces' votes, unless those of
    other faces are given, one for each of EXPONENTS.
    """
    kept = np.isin(faces.majority, _SEVEN)
    chosen, faces = logits.double().numpy()[kept], faces.select(kept)
    points = []
    for number, exponent in enumerate(EXPONENTS):
        adjusted = (chosen + exponent * np.log(prior))[:, _SEVEN]
        shares = faces.shares(FERPLUS)[:, _SEVEN]
        shares /= shares.sum(1, keepdims=True)
        temperature = temperatures[number] if temperatures else fit_temperature(adjusted, shares)
        points.append(_measure(exponent, temperature, adjusted, shares, faces.majority))
    return points


def choose(points: Sequence[OperatingPoint]) -> OperatingPoint:
    """Return the point with the highest mean of accuracy and UAR."""
    return max(points, key=lambda point: point.accuracy + point.uar)


def fit_temperature(logits: npt.NDArray[np.float64], shares: npt.NDArray[np.float64]) -> float:
    """Return the temperature at which softmax(logits / T) has the lowest cross-entropy with the shares, both (N, C)."""

    def cross_entropy(log_temperature: float) -> float:
        return float(-(shares * log_softmax(logits / np.exp(log_temperature), axis=1)).sum(1).mean())

    return float(np.exp(minimize_scalar(cross_entropy, bounds=(-2.5, 2.5), method="bounded").x))


def accuracy_and_uar(logits: Tensor, majority: npt.NDArray[np.int8]) -> tuple[float, float]:
    """Return accuracy and unweighted average recall over the seven displays, of logits (N, 8) as they are."""
    kept = np.isin(majority, _SEVEN)
    if not kept.any():
        return float("nan"), float("nan")
    said = np.array(_SEVEN)[logits.numpy()[kept][:, _SEVEN].argmax(1)]
    meant = majority[kept]
    return float((said == meant).mean()), float(recall_score(meant, said, average="macro", zero_division=0))


def _measure(
    exponent: float,
    temperature: float,
    adjusted: npt.NDArray[np.float64],
    shares: npt.NDArray[np.float64],
    majority: npt.NDArray[np.int8],
) -> OperatingPoint:
    log_probabilities = log_softmax(adjusted / temperature, axis=1)
    probabilities = np.exp(log_probabilities)
    said = np.array(_SEVEN)[probabilities.argmax(1)]
    recalls = recall_score(majority, said, labels=_SEVEN, average=None, zero_division=np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(shares > 0, shares * (np.log(shares) - log_probabilities), 0.0)
    return OperatingPoint(
        exponent,
        temperature,
        float((said == majority).mean()),
        float(np.nanmean(recalls)),
        {FERPLUS.labels[place]: float(recall) for place, recall in zip(_SEVEN, recalls, strict=True)},
        _calibration_error(probabilities.max(1), said == majority),
        float(((probabilities - shares) ** 2).sum(1).mean()),
        float(terms.sum(1).mean()),
    )


def _calibration_error(confidence: npt.NDArray[np.float64], right: npt.NDArray[np.bool_]) -> float:
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    gaps = [abs(right[bins == b].mean() - confidence[bins == b].mean()) * (bins == b).mean() for b in np.unique(bins)]
    return float(sum(gaps))


def _rounded(value: object) -> object:
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    return round(float(value), 4)  # type: ignore[arg-type]


def prior_of(shares: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Return the displays' frequency (8,) in shares (N, 8), never 0."""
    frequency = torch.from_numpy(shares).double().mean(0).clamp(min=1e-4)
    return (frequency / frequency.sum()).numpy()
