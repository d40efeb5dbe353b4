"""What the node says about itself on /diagnostics, once a second, in every lifecycle state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from emo_llama_ros.engine.api import EngineState, EngineStats
from emo_llama_ros.options import Options
from emo_llama_ros.ros.camera import CameraReport

_MUCH_LOSS_PERCENT = 5.0
_ODD_AGE_S = 5.0


@dataclass(frozen=True, slots=True)
class NodeReport:
    """What the node itself counts."""

    lifecycle_state: str
    published: int
    age_ms: tuple[float, float] = (0.0, 0.0)
    """(p50, p95) of publish time minus stamp."""
    publish_ms: tuple[float, float] = (0.0, 0.0)
    """(p50, p95) of the time from the engine's callback until the message has left."""
    clock_jumps: int = 0
    memory_mb: float = 0.0
    failure: str = ""
    """Why the node has stopped itself, "" when it has not."""


def camera_status(name: str, report: CameraReport | None, options: Options) -> DiagnosticStatus:
    """Describe the camera stream: first what keeps frames away, then what makes them few or odd."""
    if report is None:
        return _status(name, DiagnosticStatus.OK, "not subscribed: the node is not active", {})
    level, message = _judge_camera(report, options)
    values = {
        "topic": report.topic,
        "transport": report.transport,
        "reliability": options.input_reliability,
        "publishers": report.publishers,
        "received Hz": f"{report.received_hz:.1f}",
        "published Hz": f"{report.published_hz:.1f}",
        "frames received": report.received,
        "frames lost on the way": report.lost,
        "frames damaged": report.damaged,
        "seconds since the last frame": f"{report.silent_s:.2f}",
        "stamp age s": "" if report.stamp_age_s is None else f"{report.stamp_age_s:.3f}",
    }
    return _status(name, level, message, values)


def model_status(name: str, stats: EngineStats | None, node: NodeReport, options: Options) -> DiagnosticStatus:
    """Describe the model side: its state, memory and restarts."""
    if node.failure:
        level, message = DiagnosticStatus.ERROR, node.failure
    elif stats is None:
        level, message = DiagnosticStatus.OK, f"not loaded: the node is {node.lifecycle_state}"
    else:
        level, message = _MODEL_LEVELS[stats.state], stats.message or stats.state.value
    values: dict[str, object] = {
        "lifecycle": node.lifecycle_state,
        "model state": stats.state.value if stats else EngineState.STOPPED.value,
        "backend": options.backend,
        "analyzer": options.analyzer,
        "worker": options.worker,
        "worker memory MB": f"{stats.worker_memory_mb:.0f}" if stats else "0",
        "worker restarts": stats.restarts if stats else 0,
        "last worker restart": stats.last_restart if stats else "",
        "node memory MB": f"{node.memory_mb:.0f}",
        "image converter": stats.converter if stats else "",
    }
    return _status(name, level, message, values)


def estimates_status(name: str, stats: EngineStats | None, node: NodeReport) -> DiagnosticStatus:
    """Describe what came out: people, ages, latencies, and where frames and clips went."""
    stats = stats or EngineStats()
    values: dict[str, object] = {
        "people": stats.people,
        "estimates published": node.published,
        "age at publish ms p50": f"{node.age_ms[0]:.1f}",
        "age at publish ms p95": f"{node.age_ms[1]:.1f}",
        "publish ms p50": f"{node.publish_ms[0]:.2f}",
        "publish ms p95": f"{node.publish_ms[1]:.2f}",
        "frames received": stats.received,
        "frames used": stats.used,
        "frames skipped": stats.skipped,
        "frames in flight": stats.in_flight,
        "clock jumps": node.clock_jumps,
    }
    values |= {f"frames dropped: {reason}": n for reason, n in sorted(stats.drops.items())}
    values |= {f"clips {fate}": n for fate, n in sorted(stats.clips.items())}
    for stage, (p50, p95) in sorted(stats.latency_ms.items()):
        values |= {f"{stage} ms p50": f"{p50:.2f}", f"{stage} ms p95": f"{p95:.2f}"}
    if stats.drops.get("bad_image") and stats.last_bad_image:
        values["last bad image"] = stats.last_bad_image
        return _status(name, DiagnosticStatus.WARN, stats.last_bad_image, values)
    return _status(name, DiagnosticStatus.OK, f"{stats.people} people, {node.published} estimates", values)


def privacy_status(name: str, options: Options) -> DiagnosticStatus:
    """Describe whether people are observed, where, and why."""
    message = "observing displayed expressions" if options.enabled else "disabled: every frame is dropped undecoded"
    values = {
        "enabled": str(options.enabled).lower(),
        "deployment context": options.deployment_context,
        "medical or safety reason": options.medical_or_safety_reason,
        "overlay": str(options.overlay).lower(),
    }
    return _status(name, DiagnosticStatus.OK, message, values)


_MODEL_LEVELS = {
    EngineState.STOPPED: DiagnosticStatus.OK,
    EngineState.LOADING: DiagnosticStatus.OK,
    EngineState.READY: DiagnosticStatus.OK,
    EngineState.UNRESPONSIVE: DiagnosticStatus.WARN,
    EngineState.RESTARTING: DiagnosticStatus.ERROR,
    EngineState.FAILED: DiagnosticStatus.ERROR,
}


def _judge_camera(report: CameraReport, options: Options) -> tuple[bytes, str]:
    if report.incompatible and report.received_hz == 0:
        return DiagnosticStatus.ERROR, f"incompatible QoS on {report.topic}: {'; '.join(report.incompatible)}"
    if report.lost_percent > _MUCH_LOSS_PERCENT:
        return DiagnosticStatus.WARN, (
            f"{report.lost_percent:.0f} % of frames lost on {report.topic}: start the camera driver with the shipped "
            "Fast DDS profile (config/fastdds.xml), or set input_reliability to reliable where the camera is"
        )
    if report.silent_s > options.camera_timeout_s:
        count = f"{report.publishers} publisher{'' if report.publishers == 1 else 's'}"
        return DiagnosticStatus.WARN, f"no frame for {report.silent_s:.0f} s on {report.topic}, {count}"
    if report.damaged:
        return DiagnosticStatus.WARN, f"{report.damaged} frames on {report.topic} were damaged"
    if report.stamps_stand_still:
        return DiagnosticStatus.WARN, (
            f"the stamps on {report.topic} stand still: the camera driver must stamp each frame with its capture time"
        )
    if report.stamp_age_s is not None and abs(report.stamp_age_s) > _ODD_AGE_S:
        way = "older" if report.stamp_age_s > 0 else "newer"
        return DiagnosticStatus.WARN, (
            f"frames on {report.topic} are {abs(report.stamp_age_s):.0f} s {way} than the node's clock: "
            "for a recording set use_sim_time, else synchronize the clocks"
        )
    return DiagnosticStatus.OK, f"{report.received_hz:.1f} frames/s on {report.topic}"


def _status(name: str, level: bytes, message: str, values: Mapping[str, object]) -> DiagnosticStatus:
    pairs = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
    return DiagnosticStatus(name=name, level=level, message=message, hardware_id="emo_llama_ros", values=pairs)
