"""What was measured in a clip, before any words."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
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


@dataclass(frozen=True, slots=True)
class ClipFacts:
    """All that may be said about a clip: what was measured, and what the model made of it."""

    readings: tuple[tuple[str, float], ...]
    """What the expression network says of the whole clip: labels with their shares, the largest first."""

    evidences: tuple[Evidence, ...]
    """The strongest first."""
    unknown: frozenset[int]
    """Units that could not be measured in this clip."""
    readable: bool
    """False where the face had a flaw (see `QualityFlaw`) that let no unit be measured."""
    labels: tuple[str, ...]
    """What the model was asked to choose from."""
    probabilities: tuple[float, ...]
    """The model's, calibrated, in the order of `labels`; empty as long as it has not answered."""
    phases: tuple[Phase, ...]
    """The clip's labels over time, oldest first."""
    span_s: float
    """Age of the oldest frame; 0 for a single image."""

    def of_units(self, known: Collection[int]) -> ClipFacts:
        """Return these facts without the movements whose unit is not `known` to the reader."""
        return replace(self, evidences=tuple(e for e in self.evidences if e.unit in known))

    @property
    def label(self) -> str:
        """The most probable label."""
        return self.labels[max(range(len(self.labels)), key=self.probabilities.__getitem__)]

    @property
    def still(self) -> bool:
        """Whether this is one image, of which nothing can be said about time."""
        return self.span_s == 0

    @property
    def course(self) -> tuple[Phase, ...]:
        """The phases that may be told: none of a single image."""
        return () if self.still else self.phases
