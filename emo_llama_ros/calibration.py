"""From a model's label scores to probabilities that can be believed. Free of torch.

The file is JSON:

| field | meaning |
|---|---|
| `format` | "emo_llama_ros/calibration/1" |
| `method` | "temperature": softmax(z / T); "vector": softmax(scale × z + bias) |
| `label_set`, `labels` | what it was fitted for; another label set is refused |
| `temperature` | T > 0, for the method "temperature" |
| `scale`, `bias` | one number per label, for the method "vector" |
| `length_normalized` | true when z is the mean log-likelihood per token, not the sum; false when left out |
| `fitted_on` | free text: which data and how many samples; may be left out |

z are log-likelihoods of the labels (or logits, or log-probabilities: softmax ignores what all share).
Temperature and vector scaling: Guo, Pleiss, Sun, Weinberger, "On calibration of modern neural networks", ICML 2017.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emo_llama_ros.errors import BadCheckpoint, MissingModel
from emo_llama_ros.labels import LabelSet

FORMAT = "emo_llama_ros/calibration/1"


@dataclass(frozen=True, slots=True)
class Calibration:
    """softmax(scale × z + bias), with one scale and one bias per label; () for neither."""

    scale: tuple[float, ...] = ()
    bias: tuple[float, ...] = ()
    length_normalized: bool = False
    description: str = "identity"
    """For `ModelInfo.calibration`: the method and where it came from."""

    def apply(self, scores: Sequence[float]) -> tuple[float, ...]:
        """Return probabilities that sum to 1, in the order of `scores`; raise ValueError when none is finite."""
        scale, bias = self.scale or (1.0,) * len(scores), self.bias or (0.0,) * len(scores)
        z = [s * x + b for s, x, b in zip(scale, scores, bias, strict=True)]
        top = max(z)
        if not math.isfinite(top) or any(math.isnan(x) for x in z):
            raise ValueError("The label scores are not finite numbers.")
        weights = [math.exp(x - top) for x in z]
        total = sum(weights)
        return tuple(weight / total for weight in weights)


IDENTITY = Calibration()


def load(path: Path, labels: LabelSet) -> Calibration:
    """Read a calibration file for `labels`.

    Raises MissingModel when there is no such file, BadCheckpoint naming what is wrong in it, or that it was fitted for
    other labels.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingModel(
            f"There is no calibration file {path}; leave calibration_file empty to do without."
        ) from None
    except (OSError, ValueError) as error:
        raise BadCheckpoint(f"The calibration file {path} cannot be read as JSON: {error}.") from error
    try:
        return _read(values, labels, path.name)
    except (KeyError, TypeError, ValueError) as error:
        what = f"lacks the field {error}" if isinstance(error, KeyError) else str(error)
        raise BadCheckpoint(f"The calibration file {path} cannot be used: {what}; fit it again.") from error


def save_temperature(
    path: Path, labels: LabelSet, temperature: float, *, length_normalized: bool = False, fitted_on: str = ""
) -> None:
    """Write a temperature for `labels`."""
    _save(path, labels, {"method": "temperature", "temperature": temperature}, length_normalized, fitted_on)


def save_vector(
    path: Path,
    labels: LabelSet,
    scale: Sequence[float],
    bias: Sequence[float],
    *,
    length_normalized: bool = False,
    fitted_on: str = "",
) -> None:
    """Write a scale and a bias for each of `labels`."""
    vector = {"method": "vector", "scale": list(scale), "bias": list(bias)}
    _save(path, labels, vector, length_normalized, fitted_on)


def _save(path: Path, labels: LabelSet, values: dict[str, Any], length_normalized: bool, fitted_on: str) -> None:
    described = {
        "format": FORMAT,
        "label_set": labels.name,
        "labels": list(labels.labels),
        **values,
        "length_normalized": length_normalized,
        "fitted_on": fitted_on,
    }
    _read(described, labels, path.name)  # nothing is written that cannot be read
    path.write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")


def _read(values: dict[str, Any], labels: LabelSet, name: str) -> Calibration:
    if values["format"] != FORMAT:
        raise ValueError(f"its format is '{values['format']}', not '{FORMAT}'")
    if tuple(values["labels"]) != labels.labels:
        raise ValueError(f"it was fitted for {values.get('label_set')}, the node uses {labels.name}")
    normalized = bool(values.get("length_normalized", False))
    count = len(labels.labels)
    if values["method"] == "temperature":
        temperature = float(values["temperature"])
        if not 0 < temperature < math.inf:
            raise ValueError(f"a temperature must be above 0, not {temperature:g}")
        scale = (1 / temperature,) * count
        return Calibration(scale, (), normalized, f"temperature {temperature:.4g} from {name}")
    if values["method"] == "vector":
        scale, bias = (tuple(float(x) for x in values[part]) for part in ("scale", "bias"))
        if {len(scale), len(bias)} != {count} or not all(map(math.isfinite, (*scale, *bias))):
            raise ValueError(f"scale and bias must be {count} finite numbers each")
        return Calibration(scale, bias, normalized, f"vector scaling from {name}")
    raise ValueError(f"the method '{values['method']}' is neither temperature nor vector")
