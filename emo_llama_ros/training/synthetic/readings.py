"""What an expression network of the FER2013 class says about a displayed emotion: confused, biased, noisy.

The confusions are assumed, not measured: their order follows what networks of this size are known for on FER2013
(happiness and surprise best, fear and disgust worst, anger taken for sadness), their size the clearly displayed faces
in front of a robot, where the network is right far more often than on FER2013's mislabelled pictures.
"""

from __future__ import annotations

import numpy as np

from emo_llama_ros.labels import RAF_DB
from emo_llama_ros.training.synthetic.trajectories import Trajectories, visible

CONFUSIONS: dict[str, tuple[float, ...]] = {
    #            surprise fear   disgust happi. sadn.  anger  neutral
    "surprise": (0.800, 0.090, 0.003, 0.045, 0.010, 0.017, 0.035),
    "fear": (0.120, 0.610, 0.005, 0.025, 0.120, 0.070, 0.050),
    "disgust": (0.010, 0.060, 0.560, 0.030, 0.090, 0.160, 0.090),
    "happiness": (0.020, 0.010, 0.001, 0.884, 0.010, 0.010, 0.065),
    "sadness": (0.008, 0.100, 0.005, 0.017, 0.680, 0.070, 0.120),
    "anger": (0.012, 0.080, 0.030, 0.018, 0.120, 0.660, 0.080),
    "neutral": (0.014, 0.040, 0.001, 0.045, 0.110, 0.050, 0.740),
}
"""Displayed label → shares of the labels read, in the order of RAF-DB."""

CERTAINTY = (-0.6, 4.5)
"""Range of the log-odds of the label that is read: a probability of 0.35 to 0.99."""
SHARPNESS = (1.3, 0.35)
"""Exponent of the table, and how much it grows with each unit of certainty: a sure reading is seldom wrong."""
OTHERS_MEAN = {"surprise": -1.0, "disgust": -3.0, "happiness": -1.0}
"""Log probability of labels that are not read, against the others; the network hardly ever thinks of disgust."""
OTHERS_STD = 1.8
"""Deviation of these, which stays as long as a display does: person, light, camera. What the network gives to labels
that it does not choose says nothing here. Mean and deviation are about those on `nano_recordings.npz`."""
FRAME_STD = 0.35
"""Deviation of single frames; half of it carries over to the next frame."""


def sample(rng: np.random.Generator, trajectories: Trajectories) -> np.ndarray:
    """Return the network's probabilities (N, F, 7), float32, in the order of RAF-DB."""
    shares = trajectories.shares.astype(np.float64)
    n, frames, labels = shares.shape
    # Networks saturate: half of a smile already reads as happiness.
    seen = visible(shares)
    seen /= seen.sum(-1, keepdims=True)
    logits = np.log(seen @ _displays(rng, n) + 1e-6)
    logits += _frame_noise(rng, n, frames, labels) * rng.gamma(2, 0.5, (n, 1, 1))
    logits[trajectories.still] = logits[trajectories.still, -1:, :]
    # A clip in the dark, blurred or turned: everything drifts towards what the network says of nothing.
    poor = (rng.random((n, 1, 1)) < 0.1) * rng.uniform(0.2, 0.7, (n, 1, 1))
    nothing = np.log(np.array([0.02, 0.12, 0.005, 0.05, 0.3, 0.1, 0.4]))
    logits = (1 - poor) * logits + poor * nothing
    logits -= logits.max(-1, keepdims=True)
    probabilities = np.exp(logits)
    return (probabilities / probabilities.sum(-1, keepdims=True)).astype(np.float32)


def _displays(rng: np.random.Generator, n: int) -> np.ndarray:
    """Return what the network makes of each person's full display of each label: probabilities (N, 7, 7)."""
    table = np.array([CONFUSIONS[label] for label in RAF_DB.labels])
    labels = len(table)
    certainty = rng.uniform(*CERTAINTY, (n, labels, 1))
    powers = table ** (SHARPNESS[0] + SHARPNESS[1] * certainty)
    reached = (powers / powers.sum(-1, keepdims=True)).cumsum(-1)
    read = (rng.random((n, labels, 1)) > reached).sum(-1, keepdims=True).clip(max=labels - 1)  # (N, 7, 1)
    mean = [OTHERS_MEAN.get(label, 0.0) for label in RAF_DB.labels]
    others = np.exp(rng.normal(mean, OTHERS_STD, (n, labels, labels)))
    np.put_along_axis(others, read, 0.0, -1)
    others /= others.sum(-1, keepdims=True)
    chosen = 1 / (1 + np.exp(-certainty))
    shares = (1 - chosen) * others
    np.put_along_axis(shares, read, chosen, -1)
    return shares


def _frame_noise(rng: np.random.Generator, n: int, frames: int, labels: int) -> np.ndarray:
    noise = rng.normal(0, FRAME_STD, (n, frames, labels))
    for i in range(1, frames):
        noise[:, i] = 0.5 * noise[:, i - 1] + 0.87 * noise[:, i]
    return noise
