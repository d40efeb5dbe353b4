"""ROS messages to the package's own types and back, without logic."""

from __future__ import annotations

from builtin_interfaces.msg import Duration, Time
from sensor_msgs.msg import RegionOfInterest
from std_msgs.msg import Header

from emo_llama_ros import estimate as core
from emo_llama_ros import estimate_message as estimate_mapping
from emo_llama_ros.backends.backend import ModelInfo
from emo_llama_ros.estimate import Estimate, Stage, Status
from emo_llama_ros.msg import ActionUnit, EmotionEstimate, StageTiming
from emo_llama_ros.msg import ModelInfo as ModelInfoMessage

_SECOND = 1_000_000_000
_TYPES = estimate_mapping.MessageTypes(
    emotion_estimate=EmotionEstimate,
    action_unit=ActionUnit,
    stage_timing=StageTiming,
    header=Header,
    region_of_interest=RegionOfInterest,
    time=Time,
    duration=Duration,
)


def nanoseconds(time: Time | Duration) -> int:
    """Return a Time or Duration message as integer nanoseconds."""
    return int(time.sec) * _SECOND + int(time.nanosec)


def time_message(stamp_ns: int) -> Time:
    """Return integer nanoseconds as a Time message."""
    return estimate_mapping.time_message(stamp_ns, Time)


def duration_message(duration_ns: int) -> Duration:
    """Return integer nanoseconds, which may be negative, as a Duration message, at most ±68 years."""
    return estimate_mapping.duration_message(duration_ns, Duration)


def estimate_message(estimate: Estimate, age_ns: int = 0) -> EmotionEstimate:
    """Return an estimate as a message; `age_ns` is the publish time minus the stamp of the newest frame."""
    return estimate_mapping.estimate_message(estimate, _TYPES, age_ns)


def estimate_of(message: EmotionEstimate) -> Estimate:
    """Return a message as an estimate."""
    roi = message.roi
    return Estimate(
        stamp_ns=nanoseconds(message.header.stamp),
        frame_id=message.header.frame_id,
        estimate_id=message.estimate_id,
        stage=Stage(message.stage),
        status=Status(message.status),
        clip_start_ns=nanoseconds(message.clip_start),
        frame_count=message.frame_count,
        model=message.model,
        face_id=message.face_id,
        roi=core.RegionOfInterest(roi.x_offset, roi.y_offset, roi.height, roi.width),
        label=message.label,
        confidence=message.confidence,
        label_set=message.label_set,
        labels=tuple(message.labels),
        probabilities=tuple(message.probabilities),
        reasoning=message.reasoning,
        action_units=tuple(core.ActionUnit(u.number, u.name, u.intensity) for u in message.action_units),
        valence=message.valence,
        arousal=message.arousal,
        age_at_publish_ns=nanoseconds(message.age_at_publish),
        timings=tuple(core.StageTiming(t.stage, nanoseconds(t.duration)) for t in message.timings),
    )


def model_info_message(info: ModelInfo, stamp_ns: int) -> ModelInfoMessage:
    """Return the model's description as a message; `stamp_ns` is when it became ready."""
    return ModelInfoMessage(
        stamp=time_message(stamp_ns),
        backend=info.backend,
        model=info.model,
        checkpoint=info.checkpoint,
        checksum=info.checksum,
        quantization=info.quantization,
        device=info.device,
        dtype=info.dtype,
        label_set=info.label_set.name,
        labels=list(info.label_set.labels),
        prompt_hash=info.prompt_hash,
        calibration=info.calibration,
    )
