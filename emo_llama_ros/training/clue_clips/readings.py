"""What an expression network of the FER2013 class says about a displayed emotion: confused, biased, noisy.

The confusions are assumed, not measured: their order follows what networks of this size are known for on FER2013
(happiness and surprise best, fear and disgust worst, anger taken for sadness), their size the clearly displayed faces
in front of a robot, where the network is right far more often than on FER2013's mislabelled pictures.
"""

from __future__ import annotations

import numpy as np

from emo_llama_ros.labels import RAF_DB
from emo_llama_ros.training.clue_clips.trajectories import Trajectories, visible

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

SHARPNESS = 1.8
"""Exponent of the table: how much surer the network is of these faces than of FER2013's."""
STRENGTH = (2.2, 6.0)
"""Range of the log-odds by which the label that is read stands out."""
OTHERS_STD = 1.0
"""Deviation of the log probabilities of all labels, which stays as long as a display does: person, light, camera. What
the network gives to the labels that it does not choose says nothing, here as on real faces."""
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
    table = np.array([CONFUSIONS[label] for label in RAF_DB.labels]) ** SHARPNESS
    reached = (table / table.sum(-1, keepdims=True)).cumsum(-1)
    read = (rng.random((n, len(table), 1)) > reached).sum(-1).clip(max=len(table) - 1)  # (N, 7)
    logits = rng.normal(0, OTHERS_STD, (n, *table.shape))
    logits += np.eye(len(table))[read] * rng.uniform(*STRENGTH, (n, len(table), 1))
    powers = np.exp(logits)
    return np.asarray(powers / powers.sum(-1, keepdims=True))


def _frame_noise(rng: np.random.Generator, n: int, frames: int, labels: int) -> np.ndarray:
    noise = rng.normal(0, FRAME_STD, (n, frames, labels))
    for i in range(1, frames):
        noise[:, i] = 0.5 * noise[:, i - 1] + 0.87 * noise[:, i]
    return noise
