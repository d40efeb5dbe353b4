"""Fit a calibration: on predictions that a backend made without one, or on what people voted.

Temperature and vector scaling by maximum likelihood: Guo, Pleiss, Sun, Weinberger, "On calibration of modern neural
networks", ICML 2017. Fitted on votes, a probability means the share of people who would choose the label.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize, minimize_scalar
from scipy.special import log_softmax, softmax

from emo_llama_ros.calibration import save_temperature, save_vector
from emo_llama_ros.errors import BadData, BadParameter
from emo_llama_ros.evaluation.metrics import Calibration, calibration, calibration_of, vote_scores
from emo_llama_ros.evaluation.prediction import Prediction
from emo_llama_ros.labels import LabelSet

FloatArray = npt.NDArray[np.float64]

METHODS = ("temperature", "vector")
FEWEST_PER_PARAMETER = 10
"""Fewer samples than this for each fitted number fit noise."""
MOST_ECE = 0.04
"""Expected calibration error against the majority that a fit on votes may have: what is asked for is 0.05, and faces
other than the fitted ones have a little more."""
_STEP, _STEPS = 1.01, 80
"""Factor between the temperatures that are tried for it, and how many on either side."""
_VECTOR_PRIOR = 1e-2
"""Pull of scale to 1 and bias to 0, in nats per unit²; it decides only for labels that hardly occur."""
_SMALLEST = 1e-12


@dataclass(frozen=True, slots=True)
class Fit:
    """softmax(scale × log p + bias), and what it does on the data it was fitted on."""

    method: str
    scale: tuple[float, ...]
    bias: tuple[float, ...]
    samples: int
    before: Calibration
    after: Calibration

    @property
    def temperature(self) -> float:
        """T of the method "temperature"."""
        return 1 / self.scale[0]

    def apply(self, prediction: Prediction) -> Prediction:
        """Return the prediction with calibrated probabilities; one without a label stays as it is."""
        if not prediction.probabilities:
            return prediction
        z = _log([prediction.probabilities]) * self.scale + self.bias
        return replace(prediction, probabilities=tuple(softmax(z, 1)[0].tolist()))

    def save(self, path: Path, labels: LabelSet, fitted_on: str) -> None:
        """Write the file that the option `calibration_file` reads."""
        if self.method == "temperature":
            save_temperature(path, labels, self.temperature, fitted_on=fitted_on)
        else:
            save_vector(path, labels, self.scale, self.bias, fitted_on=fitted_on)


def fit(predictions: Sequence[Prediction], labels: LabelSet, method: str = "temperature") -> Fit:
    """Return the scaling with the smallest negative log-likelihood.

    Raises BadData when there are too few answers with a label, BadParameter for an unknown method.
    """
    answered = [p for p in predictions if p.outcome == "ok"]
    z = _log([p.probabilities for p in answered] or np.zeros((0, len(labels.labels))))  # (N, K)
    truth = np.eye(len(labels.labels))[[labels.index(p.label) for p in answered]]
    scale, bias = _scaling(z, truth, method)
    unscored = Fit(method, scale, bias, len(answered), calibration(answered, labels), calibration(answered, labels))
    return replace(unscored, after=calibration([unscored.apply(p) for p in answered], labels))


def temperature_on_votes(scores: npt.ArrayLike, votes: npt.ArrayLike, most_ece: float = MOST_ECE) -> float:
    """Return the temperature with which probabilities are nearest to the shares of the votes.

    Nearest is the least Brier score, among the temperatures whose expected calibration error against the majority is
    at most `most_ece`: a label is right by the majority more often than each of the people chooses it, so that shares
    alone look too modest beside it. Where no temperature reaches that, the one with the least error is taken.

    `scores` (N, C) are a network's log-probabilities or logits, `votes` (N, C) counts or shares in the same order of
    labels; faces for which nobody voted are left out, and each other face counts the same. Raises BadData when there
    are too few faces or the shapes differ.
    """
    z, shares = _voted(scores, votes)
    truth = shares.argmax(1)

    def brier(log_temperature: float) -> float:
        return vote_scores(softmax(z / np.exp(log_temperature), 1), shares).brier

    def error(temperature: float) -> float:
        return calibration_of(softmax(z / temperature, 1), truth).ece

    nearest = float(np.exp(minimize_scalar(brier, bounds=(-4.0, 4.0)).x))
    errors: dict[float, float] = {}
    for step in range(_STEPS):
        for temperature in (nearest * _STEP**-step, nearest * _STEP**step):
            errors[temperature] = error(temperature)
            if errors[temperature] <= most_ece:
                return temperature
    return min(errors, key=errors.__getitem__)


def _voted(log_probabilities: npt.ArrayLike, votes: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return the finite scores and the shares (N, C) of the faces that have votes."""
    z, counts = np.asarray(log_probabilities, np.float64), np.asarray(votes, np.float64)
    if z.ndim != 2 or z.shape != counts.shape:
        raise BadData(
            f"Scores and votes must have one row per face and one column per label: {z.shape}, {counts.shape}."
        )
    kept = counts.sum(1) > 0
    if kept.sum() < FEWEST_PER_PARAMETER:
        raise BadData(f"Fitting a temperature needs at least {FEWEST_PER_PARAMETER} faces with votes.")
    scores = np.maximum(log_softmax(z[kept], 1), np.log(_SMALLEST))
    return scores, counts[kept] / counts[kept].sum(1, keepdims=True)


def _scaling(z: FloatArray, target: FloatArray, method: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return scale and bias (C,) for which softmax(scale × z + bias) is nearest to the distributions `target`."""
    if method not in METHODS:
        raise BadParameter(f"There is no calibration method '{method}'; choose one of {', '.join(METHODS)}.")
    needed = FEWEST_PER_PARAMETER * (1 if method == "temperature" else 2 * z.shape[1])
    if len(z) < needed:
        raise BadData(f"Fitting a {method} needs at least {needed} labelled answers; there are {len(z)}.")
    return _temperature(z, target) if method == "temperature" else _vector(z, target)


def _temperature(z: FloatArray, target: FloatArray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    # In log T the loss has one minimum, and T stays positive.
    found = minimize_scalar(lambda log_t: _cross_entropy(z / np.exp(log_t), target), bounds=(-4.0, 4.0))
    classes = z.shape[1]
    return (float(np.exp(-found.x)),) * classes, (0.0,) * classes


def _vector(z: FloatArray, target: FloatArray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    count, classes = z.shape
    start = np.concatenate([np.ones(classes), np.zeros(classes)])

    def loss(parameters: FloatArray) -> tuple[float, FloatArray]:
        scaled = z * parameters[:classes] + parameters[classes:]
        residual = (softmax(scaled, 1) - target) / count  # (N, K)
        gradient = np.concatenate([(residual * z).sum(0), residual.sum(0)])
        away = parameters - start
        prior = _VECTOR_PRIOR / count
        return _cross_entropy(scaled, target) + prior * float(away @ away), gradient + 2 * prior * away

    found = minimize(loss, start, jac=True, method="L-BFGS-B")
    return tuple(found.x[:classes].tolist()), tuple(found.x[classes:].tolist())


def _log(probabilities: npt.ArrayLike) -> FloatArray:
    return np.log(np.maximum(np.asarray(probabilities, np.float64), _SMALLEST))


def _cross_entropy(z: FloatArray, target: FloatArray) -> float:
    return float(-(target * log_softmax(z, 1)).sum(1).mean())
