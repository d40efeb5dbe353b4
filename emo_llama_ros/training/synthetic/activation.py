"""Which action units a displayed emotion moves, and how strongly.

Source of the shares: Du, Tao, Martinez, "Compound facial expressions of emotion", PNAS 111 (2014), table 1: units that
more than 70 % of the subjects used, and in parentheses the share of those that fewer used. They agree with EMFACS
(Friesen, Ekman, 1983), from which the rarer variants below come. Sadness has those of crying too, which closes the eyes
and draws the lip corners up and back. What people show in daily life keeps to the table only loosely:
reviews find the expected movements in a minority of instances (Barrett et al., "Emotional expressions reconsidered",
Psychological Science in the Public Interest 20, 2019). So units are weak evidence for a label here, and are there to be
described.
"""

from __future__ import annotations

import numpy as np

from emo_llama_ros.labels import RAF_DB
from emo_llama_ros.training.synthetic.trajectories import NEUTRAL, Trajectories

UNITS = (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 24, 25, 26, 27, 43)
_COMMON = 0.88
_ANY = 0.16
"""Share of any unit in displays that do not keep to the table."""
SHARES: dict[str, dict[int, float]] = {
    "happiness": {12: 0.98, 25: 0.75, 6: 0.6, 26: 0.2},
    "sadness": {4: 0.8, 15: 0.6, 1: 0.6, 17: 0.6, 6: 0.3, 43: 0.5, 12: 0.4, 25: 0.3, 20: 0.2},
    "fear": {1: _COMMON, 4: 0.75, 20: 0.75, 25: _COMMON, 2: 0.57, 5: 0.7, 26: 0.4, 27: 0.1},
    "anger": {4: 0.95, 7: _COMMON, 24: 0.7, 17: 0.52, 23: 0.4, 10: 0.26, 5: 0.25, 25: 0.2, 9: 0.1},
    "surprise": {1: _COMMON, 2: 0.92, 25: 0.9, 26: 0.8, 5: 0.66, 27: 0.25},
    "disgust": {9: 0.8, 10: _COMMON, 17: 0.6, 4: 0.31, 24: 0.26, 7: 0.3, 6: 0.2, 15: 0.25, 25: 0.3},
    "neutral": {},
}
"""Probability that a display of the label contains the unit."""

_CONTRADICTING = ((12, 15), (25, 24), (26, 24), (27, 24), (27, 26), (5, 43), (5, 7), (25, 23))
"""Pairs that one face does not show together; the second gives way."""


def sample(rng: np.random.Generator, trajectories: Trajectories) -> tuple[np.ndarray, np.ndarray]:
    """Return activations (N, F, U) in [0, 1] for `UNITS`, with speech and blinks, and those of the resting face (N, U).

    The resting face has what belongs to the person and not to the emotion; the activations contain it.
    """
    shares = trajectories.shares
    n, frames, _ = shares.shape
    total = np.zeros((n, frames, len(UNITS)))
    for label, name in enumerate(RAF_DB.labels):
        if label == NEUTRAL:
            continue
        probability = np.array([SHARES[name].get(unit, 0.0) for unit in UNITS])
        # From displays that follow the table to such that have nothing to do with it.
        loose = rng.beta(4.0, 1.0, (n, 1))
        used = rng.random((n, len(UNITS))) < (1 - loose) * probability + loose * _ANY
        weight = used * rng.beta(4.0, 1.8, (n, len(UNITS)))
        # Units do not begin together: each follows the display with its own exponent.
        course = shares[:, :, label, None] ** rng.uniform(0.6, 1.6, (n, 1, len(UNITS)))
        total = np.maximum(total, course * weight[:, None])
    moving = ~trajectories.still
    resting = _resting(rng, n)
    total = np.maximum(total, resting[:, None])
    total = np.maximum(total, _speech(rng, n, frames) * moving[:, None, None])
    total = np.maximum(total, _blinks(rng, n, frames) * moving[:, None, None])
    for winner, loser in _CONTRADICTING:
        shown = total[..., UNITS.index(winner)]
        total[..., UNITS.index(loser)] *= (1 - 1.5 * shown).clip(0, 1)
    total[trajectories.still] = total[trajectories.still, -1:, :]
    return total.astype(np.float32), resting.astype(np.float32)


def _resting(rng: np.random.Generator, n: int) -> np.ndarray:
    on = rng.random((n, len(UNITS))) < 0.045
    return on * rng.beta(1.6, 3.0, (n, len(UNITS)))


def _speech(rng: np.random.Generator, n: int, frames: int) -> np.ndarray:
    """A talking mouth: lips and jaw flutter in a fifth of the clips."""
    flutter = np.zeros((n, frames, len(UNITS)))
    talking = (rng.random((n, 1)) < 0.2) * rng.random((n, frames))
    flutter[..., UNITS.index(25)] = talking * rng.uniform(0.3, 0.9, (n, 1))
    flutter[..., UNITS.index(26)] = talking * rng.uniform(0.0, 0.6, (n, 1))
    return flutter


def _blinks(rng: np.random.Generator, n: int, frames: int) -> np.ndarray:
    """Closed eyes in single frames: about 17 blinks of 0.15 s per minute (Bentivoglio et al., 1997)."""
    closed = np.zeros((n, frames, len(UNITS)))
    closed[..., UNITS.index(43)] = (rng.random((n, frames)) < 0.045) * rng.uniform(0.5, 1, (n, frames))
    return closed
