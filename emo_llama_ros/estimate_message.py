"""An estimate as a message of msg/EmotionEstimate.msg: the one mapping, for ROS and for bags written without it.

ROS generates classes, and rosbags makes some of the same names and fields from the .msg files; who calls says which.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from emo_llama_ros.estimate import Estimate

_SECOND_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class MessageTypes:
    """The message classes to fill, each called with its fields by name."""

    emotion_estimate: Callable[..., Any]
    action_unit: Callable[..., Any]
    stage_timing: Callable[..., Any]
    header: Callable[..., Any]
    region_of_interest: Callable[..., Any]
    time: Callable[..., Any]
    duration: Callable[..., Any]
    floats: Callable[[Sequence[float]], Any] = list
    """What turns numbers into a float32[]."""


def estimate_message(estimate: Estimate, types: MessageTypes, age_ns: int) -> Any:
    """Return an estimate as a message; `age_ns` is the publish time minus the stamp of the newest frame."""
    e = estimate
    return types.emotion_estimate(
        header=types.header(stamp=time_message(e.stamp_ns, types.time), frame_id=e.frame_id),
        estimate_id=e.estimate_id,
        stage=int(e.stage),
        face_id=e.face_id,
        roi=types.region_of_interest(
            x_offset=e.roi.x_offset,
            y_offset=e.roi.y_offset,
            height=e.roi.height,
            width=e.roi.width,
            do_rectify=False,
        ),
        clip_start=time_message(e.clip_start_ns, types.time),
        frame_count=e.frame_count,
        status=int(e.status),
        label=e.label,
        confidence=e.confidence,
        label_set=e.label_set,
        labels=list(e.labels),
        probabilities=types.floats(e.probabilities),
        reasoning=e.reasoning,
        action_units=[types.action_unit(number=u.number, name=u.name, intensity=u.intensity) for u in e.action_units],
        valence=e.valence,
        arousal=e.arousal,
        model=e.model,
        age_at_publish=duration_message(age_ns, types.duration),
        timings=[
            types.stage_timing(stage=t.stage, duration=duration_message(t.duration_ns, types.duration))
            for t in e.timings
        ],
    )


def time_message(time_ns: int, kind: Callable[..., Any]) -> Any:
    """Return integer nanoseconds as a message of `sec` and `nanosec`."""
    sec, nanosec = divmod(time_ns, _SECOND_NS)
    return kind(sec=sec, nanosec=nanosec)


def duration_message(duration_ns: int, kind: Callable[..., Any]) -> Any:
    """Return integer nanoseconds, which may be negative, like `time_message`; at most the ±68 years of an int32."""
    return time_message(min(max(duration_ns, -(2**31) * _SECOND_NS), 2**31 * _SECOND_NS - 1), kind)
