"""What was measured in a clip, before any words."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Trend(Enum):
    """How a movement develops over its span in the clip."""

    RISING = "rising"
    FALLING = "falling"
    STEADY = "steady"


@dataclass(frozen=True, slots=True)
class Evidence:
    """One action unit seen in a clip. Times are seconds before the clip's newest frame."""

    unit: int
    """FACS number, a key of `vocabulary.UNITS`."""
    intensity: float
    """Peak strength within the clip, in [0, 1]."""
    trend: Trend = Trend.STEADY
    onset_s: float | None = None
    """When it began; None when it was there from the clip's first frame."""
    offset_s: float = 0.0
    """When it ended; 0 when it is still there."""


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of the clip with one label on top. Times are seconds before the newest frame, start_s >= end_s."""

    label: str
    start_s: float
    end_s: float = 0.0
