"""How displayed emotions rise, hold, fade and follow each other over the frames of a clip.

Phases are those of the facial-expression literature: onset, apex, offset (Ekman, Friesen, Hager, FACS 2002). Rise and
fall times follow the 0.2 to 1 s reported for spontaneous smiles (Schmidt, Cohn, Tian, "Signal characteristics of
spontaneous facial expressions", Biological Psychology 65, 2003).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from emo_llama_ros.faces.face import FloatArray
from emo_llama_ros.labels import RAF_DB

NEUTRAL = RAF_DB.index("neutral")
_EMOTIONS = np.array([i for i in range(len(RAF_DB.labels)) if i != NEUTRAL])

KINDS = {"steady": 0.36, "onset": 0.18, "offset": 0.1, "pulse": 0.1, "dip": 0.04, "switch": 0.22}
"""Share of each course: held throughout, neutral → e, e → neutral, neutral → e → neutral, e → neutral → e, e → e'."""

APEX_WEIGHT = 1.5
"""An emotional frame counts this much more than a neutral one: a clip is named after its apex, not its baseline."""
HALF_LIFE_S = 0.8
"""A moment this much older than the newest counts half as much: a robot asks what is shown now."""


@dataclass(frozen=True, slots=True)
class Trajectories:
    """N clips of F frames."""

    ages_s: FloatArray
    """(N, F) seconds before the newest frame, oldest first."""
    shares: FloatArray
    """(N, F, 7) share of each label of RAF-DB in what is displayed; sums to 1."""
    labels: np.ndarray
    """(N,) int64: the label of the clip."""
    still: np.ndarray
    """(N,) bool: a photograph, every frame the same."""


def sample(rng: np.random.Generator, n: int, frames: int) -> Trajectories:
    """Draw N clips whose labels are about equally frequent."""
    span = np.where(rng.random(n) < 0.7, 2.0, rng.uniform(0.5, 4.0, n))
    steps = rng.dirichlet(np.full(frames - 1, 60.0), n)  # almost even stamps
    ages = span[:, None] * (1 - np.concatenate([np.zeros((n, 1)), np.cumsum(steps, 1)], 1)).clip(0)
    kinds = rng.choice(list(KINDS), n, p=list(KINDS.values()))
    first, second = _pairs(rng, kinds)
    # Amount of the second label over time, as a smooth step up, and down again for courses that return.
    rise, fall = (rng.uniform(0.15, 1.0, (n, 1)) for _ in range(2))
    start = rng.uniform(-0.1, 1.05, (n, 1)) * span[:, None]
    returns = np.isin(kinds, ("pulse", "dip"))[:, None]
    hold = rng.uniform(0.15, 0.9, (n, 1)) * span[:, None]
    amount = _ramp(start - ages, rise)
    amount = np.where(returns, amount * (1 - _ramp(start - hold - rise - ages, fall)), amount)
    amount = np.where((kinds == "steady")[:, None], 1.0, amount)
    # Weak displays are rarer than clear ones; strength drifts a little.
    apex = rng.beta(3.0, 1.6, (n, 2)) * 0.85 + 0.15
    drift = 1 + rng.normal(0, 0.12, (n, 1)) * (ages / span[:, None] - 0.5)
    shares = np.zeros((n, frames, len(RAF_DB.labels)))
    rows = np.arange(n)
    for label, part, strength in ((first, 1 - amount, apex[:, :1]), (second, amount, apex[:, 1:])):
        shown = part * np.where((label == NEUTRAL)[:, None], 1.0, (strength * drift).clip(0.05, 1))
        shares[rows, :, label] += shown
    shares[:, :, NEUTRAL] += (1 - shares.sum(-1)).clip(0)
    still = (kinds == "steady") & (rng.random(n) < 0.35)
    shares[still] = shares[still, -1:, :]
    return Trajectories(ages.astype(np.float32), shares.astype(np.float32), clip_labels(shares, ages), still)


def clip_labels(shares: np.ndarray, ages_s: np.ndarray) -> np.ndarray:
    """Return the label of each clip, (N,): the largest recency-weighted share, emotions counting more than neutral.

    Half of an emotion's apex is enough for its label: EMFACS codes events, not their strength.
    """
    presence = visible(shares)
    weight = 2.0 ** (-ages_s / HALF_LIFE_S)
    mass = (presence * weight[..., None]).sum(1)
    mass[:, _EMOTIONS] *= APEX_WEIGHT
    return mass.argmax(1)


def visible(shares: np.ndarray) -> np.ndarray:
    """Return how much of each label (…, 7) an observer sees: half of an emotion's apex shows it fully."""
    presence = np.minimum(shares * 2, 1.0)
    presence[..., NEUTRAL] = 1 - np.minimum(presence[..., _EMOTIONS].sum(-1), 1.0)
    return presence


def _pairs(rng: np.random.Generator, kinds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    n = len(kinds)
    emotion, other = rng.choice(_EMOTIONS, n), rng.choice(_EMOTIONS, n)
    other = np.where(other == emotion, _EMOTIONS[(np.searchsorted(_EMOTIONS, other) + 1) % len(_EMOTIONS)], other)
    neutral = np.full(n, NEUTRAL)
    steady = np.where(rng.random(n) < 0.3, neutral, emotion)
    first = np.select(
        [np.isin(kinds, ("onset", "pulse")), np.isin(kinds, ("offset", "dip")), kinds == "switch"],
        [neutral, emotion, other],
        steady,
    )
    second = np.select(
        [np.isin(kinds, ("onset", "pulse")), np.isin(kinds, ("offset", "dip")), kinds == "switch"],
        [emotion, neutral, emotion],
        steady,
    )
    return first, second


def _ramp(elapsed: np.ndarray, duration: np.ndarray) -> np.ndarray:
    x = (elapsed / duration).clip(0, 1)
    return x * x * (3 - 2 * x)
