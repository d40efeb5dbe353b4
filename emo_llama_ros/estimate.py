"""What the package says about one person: the message contract without ROS.

Field names, enum values and the meaning of "unknown" are those of msg/EmotionEstimate.msg.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Any

NAN = float("nan")


class Stage(IntEnum):
    """Whether more follows for this estimate_id."""

    LABEL = 0
    FINAL = 1


class Status(IntEnum):
    """What the estimate can be used for."""

    OK = 0
    NO_FACE = 1
    LOW_QUALITY = 2
    LOW_CONFIDENCE = 3
    UNPARSED = 4
    ERROR = 5


@dataclass(frozen=True, slots=True)
class RegionOfInterest:
    """A face box in pixels of the newest frame, clipped to the image."""

    x_offset: int = 0
    y_offset: int = 0
    height: int = 0
    width: int = 0


@dataclass(frozen=True, slots=True)
class ActionUnit:
    """A FACS action unit; `intensity` in [0, 1], NaN where only presence is known."""

    number: int
    name: str
    intensity: float = NAN


@dataclass(frozen=True, slots=True)
class StageTiming:
    """Wall time spent in one stage of the pipeline, nanoseconds."""

    stage: str
    duration_ns: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """One EmotionEstimate. Times are integer nanoseconds of the camera's clock."""

    stamp_ns: int
    frame_id: str
    estimate_id: str
    stage: Stage
    status: Status
    clip_start_ns: int
    frame_count: int
    model: str
    face_id: str = ""
    roi: RegionOfInterest = RegionOfInterest()
    label: str = ""
    confidence: float = NAN
    label_set: str = ""
    labels: tuple[str, ...] = ()
    probabilities: tuple[float, ...] = ()
    reasoning: str = ""
    action_units: tuple[ActionUnit, ...] = ()
    valence: float = NAN
    arousal: float = NAN
    age_at_publish_ns: int = 0
    timings: tuple[StageTiming, ...] = ()

    def record(self) -> dict[str, Any]:
        """Return a JSON-ready dict: the message's field names, times as integer nanoseconds, NaN as None."""
        header = {"stamp": self.stamp_ns, "frame_id": self.frame_id}
        record: dict[str, Any] = {"header": header}
        for field in fields(self):
            if field.name in ("stamp_ns", "frame_id"):
                continue
            record[field.name.removesuffix("_ns")] = _plain(getattr(self, field.name))
        return record


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if isinstance(value, IntEnum):
        return int(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, (RegionOfInterest, ActionUnit, StageTiming)):
        return {f.name.removesuffix("_ns"): _plain(getattr(value, f.name)) for f in fields(value)}
    return value
