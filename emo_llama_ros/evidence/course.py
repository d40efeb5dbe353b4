"""How the displayed expression developed over a clip."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby, pairwise

from emo_llama_ros.evidence.facts import Phase

_WIDTH = 3
"""Frames of the moving average that takes out what one frame alone says."""
_SHORTEST = 2
"""A label that leads for fewer frames is no phase."""


def phases_of(ages_s: Sequence[float], readings: Sequence[Sequence[float]], labels: Sequence[str]) -> tuple[Phase, ...]:
    """Return which label led when, oldest first, covering the whole clip; () without readings.

    `ages_s` (T,) are seconds before the newest frame, oldest first; `readings` (T, K) are each frame's probabilities in
    the order of `labels`. One phase passes into the next halfway between two frames.
    """
    leaders = [_leader(readings, i, labels) for i in range(len(readings))]
    runs = _merged([(label, len(list(run))) for label, run in groupby(leaders)])
    if not runs:
        return ()
    bounds = [ages_s[0]]
    first = 0
    for _, length in runs[:-1]:
        first += length
        bounds.append((ages_s[first - 1] + ages_s[first]) / 2)
    bounds.append(0.0)
    return tuple(Phase(label, start, end) for (label, _), (start, end) in zip(runs, pairwise(bounds), strict=True))


def _leader(readings: Sequence[Sequence[float]], i: int, labels: Sequence[str]) -> str:
    half = _WIDTH // 2
    near = readings[max(0, i - half) : i + half + 1]
    return max(zip(labels, map(sum, zip(*near, strict=True)), strict=True), key=lambda pair: pair[1])[0]


def _merged(runs: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
    """Give the frames of too short runs to the run before them, or to the next at the beginning."""
    merged: list[tuple[str, int]] = []
    owed = 0
    for label, length in runs:
        if length >= _SHORTEST and (not merged or merged[-1][0] != label):
            merged.append((label, length + owed))
            owed = 0
        elif merged:
            merged[-1] = (merged[-1][0], merged[-1][1] + length)
        else:
            owed += length
    return merged if merged or not runs else [(max(runs, key=lambda run: run[1])[0], owed)]
