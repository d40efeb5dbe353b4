"""What the node says about itself on /diagnostics, once a second, in every lifecycle state.

Levels follow rates over the last 10 s, so one odd frame changes nothing, and what has passed is forgotten.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from emo_llama_ros.engine.api import EngineState, EngineStats
from emo_llama_ros.options import Options
from emo_llama_ros.ros.camera import TYPES, WINDOW_S, CameraReport, how_to_read
from emo_llama_ros.ros.verdicts import ERROR, OK, WARN, Recent, Verdict

_SOME, _MUCH = 0.05, 0.5
"""Shares from which something is a warning, and an error."""
_FEW = 2
"""Fewer frames or clips than these say nothing."""
_ODD_AGE_S = 5.0
_PERIODS_OF_SILENCE = 2.5
_SHARED_MEMORY = "/dev/shm"
_SHARED_MEMORY_NEED = 128 << 20


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
    callback_errors: int = 0
    """Messages and requests of the last 10 s that could not be handled."""
    last_callback_error: str = ""


@dataclass(frozen=True, slots=True)
class Judged:
    """A verdict and the values beside it."""

    verdict: Verdict
    values: Mapping[str, object] = field(default_factory=dict)


def status_message(name: str, judged: Judged) -> DiagnosticStatus:
    """Return a judgement as the message for /diagnostics."""
    pairs = [KeyValue(key=key, value=str(value)) for key, value in judged.values.items()]
    return DiagnosticStatus(
        name=name,
        level=judged.verdict.level,
        message=judged.verdict.message,
        hardware_id="emo_llama_ros",
        values=pairs,
    )


def judge_camera(report: CameraReport | None, options: Options, elsewhere: Mapping[str, str]) -> Judged:
    """Judge the camera stream: first what keeps frames away, then what makes them few or odd.

    `elsewhere` are the image topics of the graph, name to transport, for the advice.
    """
    if report is None:
        return Judged(Verdict(OK, "not subscribed: the node is not active"))
    values = {
        "topic": report.topic,
        "transport": report.transport,
        "reliability": report.reliability,
        "publishers": report.publishers,
        "received Hz": f"{report.received_hz:.1f}",
        "published Hz": f"{report.published_hz:.1f}",
        "frames received": report.received,
        "frames lost on the way": report.lost,
        "frames damaged": report.damaged,
        "seconds since the last frame": f"{report.silent_s:.2f}",
        "stamp age s": "" if report.stamp_age_s is None else f"{report.stamp_age_s:.3f}",
    }
    verdict = _without_frames(report, options, elsewhere) or _with_odd_frames(report)
    return Judged(verdict or Verdict(OK, f"{report.received_hz:.1f} frames/s on {report.topic}"), values)


def judge_model(stats: EngineStats | None, recent: Recent, node: NodeReport, options: Options) -> Judged:
    """Judge the model side: its state, memory and restarts."""
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
    return Judged(_model_verdict(stats, recent, node), values)


def judge_estimates(stats: EngineStats | None, recent: Recent, node: NodeReport, options: Options) -> Judged:
    """Judge what came out: people, ages, latencies, and where frames and clips went."""
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
        "why there is no estimate": stats.silence,
    }
    values |= {f"frames dropped: {reason}": n for reason, n in sorted(stats.drops.items())}
    values |= {f"clips {fate}": n for fate, n in sorted(stats.clips.items())}
    for stage, (p50, p95) in sorted(stats.latency_ms.items()):
        values |= {f"{stage} ms p50": f"{p50:.2f}", f"{stage} ms p95": f"{p95:.2f}"}
    if stats.last_bad_image:
        values["last bad image"] = stats.last_bad_image
    fine = Verdict(OK, f"{stats.people} people, {node.published} estimates")
    if not options.enabled:
        return Judged(fine, values)
    odd = Verdict(WARN, " ".join(stats.remarks), " ".join(stats.remarks)) if stats.remarks else None
    return Judged(_frames_verdict(stats, recent) or odd or _clips_verdict(stats, recent, options) or fine, values)


def judge_node(node: NodeReport) -> Judged:
    """Judge what came in beside images: messages and requests that could not be handled."""
    values = {"lifecycle": node.lifecycle_state, "requests and messages that failed": node.callback_errors}
    if node.callback_errors:
        return Judged(Verdict(WARN, node.last_callback_error, "callback"), values)
    return Judged(Verdict(OK, node.lifecycle_state), values)


def judge_privacy(options: Options) -> Judged:
    """Say whether people are observed, where, and why."""
    message = "observing displayed expressions" if options.enabled else "disabled: every frame is dropped undecoded"
    values = {
        "enabled": str(options.enabled).lower(),
        "deployment context": options.deployment_context,
        "medical or safety reason": options.medical_or_safety_reason,
        "overlay": str(options.overlay).lower(),
    }
    return Judged(Verdict(OK, message), values)


def _without_frames(report: CameraReport, options: Options, elsewhere: Mapping[str, str]) -> Verdict | None:
    """Judge what keeps frames away altogether."""
    patience_s = max(options.camera_timeout_s, _PERIODS_OF_SILENCE * report.period_s)
    if report.other_types and not report.publishers:
        return Verdict(
            WARN, f"{report.topic} carries {', '.join(report.other_types)}, {_reads(report, elsewhere)}", "type"
        )
    if report.incompatible and report.silent_s > min(1.0, patience_s):
        return Verdict(ERROR, f"incompatible QoS on {report.topic}: {'; '.join(report.incompatible)}: set "
                       "input_reliability to auto or best_effort", "qos")  # fmt: skip
    if report.silent_s <= patience_s:
        return None
    count = f"{report.publishers} publisher{'' if report.publishers == 1 else 's'}"
    said = f"no frame for {max(report.silent_s, 1):.0f} s on {report.topic}, {count}"
    if report.publishers:
        return Verdict(WARN, f"{said}: see if the camera driver still runs, and if large messages pass the network",
                       "silent")  # fmt: skip
    others = {name: transport for name, transport in elsewhere.items() if name != report.topic}
    if not others:
        return Verdict(WARN, f"{said}: start the camera driver; if it runs, compare ROS_DOMAIN_ID, and the network",
                       "no publisher")  # fmt: skip
    advice = advice_on_topic(report.topic, others)
    return Verdict(WARN, f"{said}: {advice}", advice)


def advice_on_topic(wanted: str, published: Mapping[str, str]) -> str:
    """Return how to read the image topic of the graph that is most likely meant, of `published` (name to transport)."""
    likely = [n for n in published if not any(word in n.lower() for word in ("depth", "disparity", "mask", "overlay"))]
    (nearest, *_) = (*get_close_matches(wanted, likely, 1, 0.0), min(published))
    return f"there is {nearest} ({published[nearest]}): set {how_to_read(nearest, published[nearest])}"


def _reads(report: CameraReport, elsewhere: Mapping[str, str]) -> str:
    wanted = f"but image_transport is {report.transport}, which reads {TYPES[report.transport]}"
    transport = next((t for t, kind in TYPES.items() if kind in report.other_types), "")
    if transport:
        return f"{wanted}: set {how_to_read(report.topic, transport)}"
    others = {name: transport for name, transport in elsewhere.items() if name != report.topic}
    return f"{wanted}: {advice_on_topic(report.topic, others) if others else 'set image_topic to a topic of images'}"


def _with_odd_frames(report: CameraReport) -> Verdict | None:
    """Judge what makes frames few, or odd."""
    if report.lost_percent > 100 * _SOME:
        return Verdict(WARN, f"{report.lost_percent:.0f} % of frames lost on {report.topic}: {_against_loss(report)}",
                       "lost")  # fmt: skip
    if report.damaged_percent > 100 * _SOME:
        level = ERROR if report.damaged_percent > 100 * _MUCH else WARN
        return Verdict(level, f"{report.damaged_percent:.0f} % of the messages on {report.topic} are no image messages "
                       f"({report.last_damage}): see who publishes there: {', '.join(report.publisher_names)}",
                       "damaged")  # fmt: skip
    if report.clock_jumps_percent > 100 * _SOME:
        names = ", ".join(report.publisher_names)
        return Verdict(WARN, f"the stamps on {report.topic} go back again and again, as those of several clocks do: "
                       f"let one publisher alone send there, or synchronize their clocks ({names})",
                       "clocks")  # fmt: skip
    if report.stamps_stand_still:
        return Verdict(WARN, f"the stamps on {report.topic} stand still: the camera driver must stamp each frame with "
                       "its capture time", "stamps")  # fmt: skip
    if report.sim_time_stands:
        return Verdict(WARN, "use_sim_time is set, but nothing has come on /clock: play the recording with --clock, or "
                       "set use_sim_time to false", "no clock")  # fmt: skip
    if report.stamp_age_s is not None and abs(report.stamp_age_s) > _ODD_AGE_S:
        way = "older" if report.stamp_age_s > 0 else "newer"
        cure = "for a recording set use_sim_time, else synchronize the clocks"
        if report.follows_sim_time:
            cure = "/clock and the frames are not of one recording: play both together, with their own stamps"
        return Verdict(WARN, f"frames on {report.topic} are {abs(report.stamp_age_s):.0f} s {way} than the node's "
                       f"clock: {cure}", "age")  # fmt: skip
    return None


def _against_loss(report: CameraReport) -> str:
    cures = ["start the camera driver with the shipped Fast DDS profile (config/fastdds.xml)"]
    if report.reliability == "best_effort":
        cures.append("set input_reliability to auto, or reliable, where the camera is")
    try:
        free = shutil.disk_usage(_SHARED_MEMORY).free
    except OSError:
        free = _SHARED_MEMORY_NEED
    if free < _SHARED_MEMORY_NEED:
        cures.insert(0, f"{_SHARED_MEMORY} has only {free / 1e6:.0f} MB free (Docker: --shm-size=512m or --ipc=host)")
    return ", or ".join(cures)


def _model_verdict(stats: EngineStats | None, recent: Recent, node: NodeReport) -> Verdict:
    if node.failure:
        return Verdict(ERROR, node.failure, node.failure)
    if stats is None:
        return Verdict(OK, f"not loaded: the node is {node.lifecycle_state}")
    state = stats.state.value
    if stats.state in (EngineState.RESTARTING, EngineState.FAILED):
        return Verdict(ERROR, stats.message or stats.last_restart or state, state)
    if stats.state is EngineState.UNRESPONSIVE:
        return Verdict(WARN, stats.message or "the model shows no life", state)
    if recent.restarts > 0:
        reason = stats.last_restart or "the model process ended and was restarted"
        return Verdict(WARN, f"{state}, after {recent.restarts} restart(s): {reason}", "restarted")
    return Verdict(OK, stats.message or state)


_FRAME_CURES = {
    "bad_image": "cannot be decoded",
    "faces_failed": "could not be searched for faces",
    "worker_lost": "were with a model process that ended: see the model's status, and if the machine has memory left",
    "old_stamp": "have stamps that stand still or go back: see the camera's status",
    "busy": "came while an older one was still looked at: lower analysis_rate_hz, or leave more CPU to the node",
}
_NATURAL_DROPS = ("disabled", "stopped", "not_ready")


def _frames_verdict(stats: EngineStats, recent: Recent) -> Verdict | None:
    """Judge why frames were not used; the most frequent reason is named."""
    if recent.wanted < _FEW:
        return None
    for reason in sorted(recent.drops, key=lambda reason: -recent.drops[reason]):
        share = recent.share(reason)
        # A camera that is faster than the machine is usual; one of which most frames are missed is not.
        # While the model loads, it takes the processor from the frames for some seconds.
        if reason in _NATURAL_DROPS or (reason == "busy" and stats.state is EngineState.LOADING):
            continue
        if share <= (_MUCH if reason == "busy" else _SOME):
            continue
        words = _FRAME_CURES.get(reason, f"were dropped: {reason}")
        if reason in ("bad_image", "faces_failed") and stats.last_bad_image:
            words += f": {stats.last_bad_image}"
        level = ERROR if share > _MUCH and reason != "busy" else WARN
        return Verdict(level, f"{share:.0%} of the frames of the last {WINDOW_S:.0f} s {words}", reason)
    return None


_CLIP_CURES = {
    ("late", "stale"): "were older than max_age_s when their label came: take a lighter model, lower label_rate_hz, or "
    "raise max_age_s",
    ("failed",): "could not be read by the model: see the reasoning of the ERROR estimates",
    ("flushed",): "were given up because the clock or the stamps jumped: see the camera's status",
    ("worker_lost",): "were with a model process that ended",
}


def _clips_verdict(stats: EngineStats, recent: Recent, options: Options) -> Verdict | None:
    """Judge why clips got no label."""
    due = recent.clips.get("due", 0)
    if due >= _FEW:
        for fates, words in _CLIP_CURES.items():
            share = sum(recent.clips.get(fate, 0) for fate in fates) / due
            if share > _MUCH:
                level = ERROR if "failed" in fates else WARN
                return Verdict(
                    level, f"{min(share, 1):.0%} of the clips of the last {WINDOW_S:.0f} s {words}", fates[0]
                )
    quiet = not due and recent.used >= _FEW and recent.seconds >= WINDOW_S
    if quiet and stats.people and not options.on_demand and stats.state is EngineState.READY:
        words = f"{stats.people} people are in view, but no clip was complete in {WINDOW_S:.0f} s"
        cure = "frames must come in less than max_gap_s, and people stay for clip_min_s"
        return Verdict(WARN, f"{words}: {cure}", "no clip")
    return None
