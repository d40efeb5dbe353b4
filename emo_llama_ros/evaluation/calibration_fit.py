"""Fit the calibration of a backend on predictions that it made without one.

Temperature and vector scaling by maximum likelihood: Guo, Pleiss, Sun, Weinberger, "On calibration of modern neural
networks", ICML 2017.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from emo_llama_ros.calibration import save_temperature, save_vector
from emo_llama_ros.errors import BadData, BadParameter
from emo_llama_ros.evaluation.metrics import Calibration, calibration
from emo_llama_ros.evaluation.prediction import Prediction
from emo_llama_ros.labels import LabelSet

FloatArray = npt.NDArray[np.float64]

METHODS = ("temperature", "vector")
FEWEST_PER_PARAMETER = 10
"""Fewer samples than this for each fitted number fit noise."""
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
        return replace(prediction, probabilities=tuple(_softmax(z)[0].tolist()))

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
    if method not in METHODS:
        raise BadParameter(f"There is no calibration method '{method}'; choose one of {', '.join(METHODS)}.")
    answered = [p for p in predictions if p.outcome == "ok"]
    classes = len(labels.labels)
    needed = FEWEST_PER_PARAMETER * (1 if method == "temperature" else 2 * classes)
    if len(answered) < needed:
        raise BadData(f"Fitting a {method} needs at least {needed} labelled answers; there are {len(answered)}.")
    z = _log([p.probabilities for p in answered])  # (N, K)
    truth = np.array([labels.index(p.label) for p in answered])
    scale, bias = _temperature(z, truth) if method == "temperature" else _vector(z, truth)
    unscored = Fit(method, scale, bias, len(answered), calibration(answered, labels), calibration(answered, labels))
    return replace(unscored, after=calibration([unscored.apply(p) for p in answered], labels))


def _temperature(z: FloatArray, truth: npt.NDArray[np.int64]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    from scipy.optimize import minimize_scalar

    # In log T the loss has one minimum, and T stays positive.
    found = minimize_scalar(lambda log_t: _nll(z / np.exp(log_t), truth), bounds=(-4.0, 4.0), method="bounded")
    classes = z.shape[1]
    return (float(np.exp(-found.x)),) * classes, (0.0,) * classes


def _vector(z: FloatArray, truth: npt.NDArray[np.int64]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    from scipy.optimize import minimize

    count, classes = z.shape
    one_hot = np.eye(classes)[truth]
    start = np.concatenate([np.ones(classes), np.zeros(classes)])

    def loss(parameters: FloatArray) -> tuple[float, FloatArray]:
        scaled = z * parameters[:classes] + parameters[classes:]
        residual = (_softmax(scaled) - one_hot) / count  # (N, K)
        gradient = np.concatenate([(residual * z).sum(0), residual.sum(0)])
        away = parameters - start
        prior = _VECTOR_PRIOR / count
        return _nll(scaled, truth) + prior * float(away @ away), gradient + 2 * prior * away

    found = minimize(loss, start, jac=True, method="L-BFGS-B")
    return tuple(found.x[:classes].tolist()), tuple(found.x[classes:].tolist())


def _log(probabilities: Sequence[Sequence[float]]) -> FloatArray:
    return np.log(np.maximum(np.array(probabilities, dtype=np.float64), _SMALLEST))


def _softmax(z: FloatArray) -> FloatArray:
    weights = np.exp(z - z.max(1, keepdims=True))
    return weights / weights.sum(1, keepdims=True)


def _nll(z: FloatArray, truth: npt.NDArray[np.int64]) -> float:
    shifted = z - z.max(1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return float(-log_p[np.arange(len(truth)), truth].mean())
