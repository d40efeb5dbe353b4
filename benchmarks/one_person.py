"""One person before the whole product at 640 x 480 and 30 Hz: what comes out, how late, and what it costs. See nano.py.

Camera, node and worker are processes of their own and share the cores that this process may use. A label is as old as
`age_at_publish` says: its publication minus the capture of the clip's newest frame, the transport included.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from camera_stream import film
from node_overhead import SIZES, TOPIC, Diagnostics, camera, use_own_graph

from emo_llama_ros.engine.api import unexplained_clips
from emo_llama_ros.estimate import Estimate
from emo_llama_ros.install.fetch import media_file
from emo_llama_ros.options import Options

VIDEO = "single_face.mp4"
SIZE = SIZES["640x480"]
REASONING_FATES = {"begun": "reasoning_due", "finished": "reasoned"} | {
    fate: f"reasoning_{fate}" for fate in ("cancelled", "failed", "superseded", "stale", "gone")
}
WARM_UP_S, DRAIN_S, PATIENCE_S = 3.0, 2.5, 60.0
SECOND_NS = 1_000_000_000


@dataclass
class Watch:
    """What was heard and counted, and the whole seconds [begin_ns, end_ns) of capture stamps that are evaluated."""

    estimates: list[Estimate] = field(default_factory=list)
    begin_ns: int = 0
    end_ns: int = 0
    frames: Mapping[str, int] = field(default_factory=dict)
    """Frames received since the start, and how many of them met each fate."""
    clips: Mapping[str, int] = field(default_factory=dict)
    stages_ms: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def open(self, now_ns: int, seconds: int) -> None:
        """Evaluate `seconds` whole seconds after `now_ns`: labels come due in cells of time that begin with them."""
        self.begin_ns = (now_ns // SECOND_NS + 1) * SECOND_NS
        self.end_ns = self.begin_ns + seconds * SECOND_NS

    def figures(self) -> dict[str, Any]:
        """Return rates and ages inside the window, and all counters since the start."""
        inside = [e for e in self.estimates if self.begin_ns <= e.stamp_ns < self.end_ns and e.face_id]
        first = {e.estimate_id: e for e in reversed(inside)}  # what comes first of an estimate is its label
        labels = [e for e in first.values() if e.label]
        reasons = [e for e in inside if e.label and e.reasoning]
        seconds = (self.end_ns - self.begin_ns) / SECOND_NS
        return {
            "seconds": seconds,
            "people": len({e.face_id for e in inside}),
            "labels_per_s": len(labels) / seconds,
            "labels_failed": len(first) - len(labels),
            "label_age_ms": _percentiles([e.age_at_publish_ns / 1e6 for e in labels]),
            "reasonings_per_s": len(reasons) / seconds,
            "reasonings": {fate: self.clips.get(name, 0) for fate, name in REASONING_FATES.items()},
            "reasoning_age_ms": _percentiles([e.age_at_publish_ns / 1e6 for e in reasons]),
            "stages_ms": self.stages_ms,
            "frames": self.frames,
            "clips": self.clips,
            "unexplained": abs(2 * self.frames.get("received", 0) - sum(self.frames.values()))
            + abs(unexplained_clips(self.clips)),
        }


class Listener(Diagnostics):
    """Hears the node's estimates besides its diagnostics."""

    def __init__(self) -> None:
        from emo_llama_ros.msg import EmotionEstimate

        from emo_llama_ros.ros.conversion import estimate_of

        self.watch = Watch()
        super().__init__()
        self._node.create_subscription(
            EmotionEstimate, "/emotion", lambda message: self.watch.estimates.append(estimate_of(message)), 100
        )


def watch_node(parameters: Mapping[str, Any], seconds: int, log: Path) -> dict[str, Any]:
    """Run emo_llama_node with `parameters` before a camera process and return the figures."""
    use_own_graph()
    from emo_llama_ros.ros.live_replay import running_node

    listener = Listener()
    watch = listener.watch
    try:
        with running_node({**parameters, "image_topic": TOPIC}, log) as process:
            listener.wait("model", "model state", "ready")
            with camera(SIZE, seconds + 2 * PATIENCE_S, media_file(VIDEO)) as camera_process:
                _wait_for_a_label(watch)
                time.sleep(WARM_UP_S)
                watch.open(time.time_ns(), seconds)
                _sleep_until(watch.begin_ns, time.time_ns())
                node = psutil.Process(process.pid)
                parts = {"node": node, "worker": node.children()[0], "camera": camera_process}
                before = {name: part.cpu_times() for name, part in parts.items()}
                _sleep_until(watch.end_ns, time.time_ns())
                cpu = {name: _cpu_percent(part, before[name], seconds) for name, part in parts.items()}
                rate_hz = listener.number("camera", "received Hz")
            time.sleep(DRAIN_S)
            memory = {"node": node, "worker": parts["worker"]}
            peak = {name: _peak_mb(part) for name, part in memory.items()}
            shared_out = {name: part.memory_full_info().pss / 1e6 for name, part in memory.items()}
            values = dict(listener.values["estimates"])
            lost = {part: listener.number("camera", f"frames {part}") for part in ("lost on the way", "damaged")}
    except SystemExit as error:
        words = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:]
        raise SystemExit("\n".join([str(error), "The node's last words:", *words])) from None
    finally:
        listener.close()
    watch.frames, watch.clips = _counters(values, "frames "), _counters(values, "clips ")
    watch.stages_ms = _stages(values)
    return watch.figures() | {
        "driven": "emo_llama_node over DDS",
        "camera_hz": rate_hz,
        "cpu_percent_of_a_core": cpu,
        "node_cpu_ms_per_frame": 10 * cpu["node"] / rate_hz,
        "frames_not_arrived": lost,
        "memory_mb": sum(peak.values()),
        "memory_peak_mb": peak,
        "memory_pss_mb": shared_out,
    }


def watch_engine(options: Options, seconds: int) -> dict[str, Any]:
    """Do the same without ROS: an engine with its worker, fed from a thread. There is no node whose memory counts."""
    from stream import Camera, ready

    from emo_llama_ros.engine.worker_engine import WorkerEngine

    watch = Watch()

    def take(estimate: Estimate) -> None:
        watch.estimates.append(replace(estimate, age_at_publish_ns=time.monotonic_ns() - estimate.stamp_ns))

    room = Camera([np.frombuffer(picture, np.uint8) for picture in film(media_file(VIDEO), *SIZE)])
    engine = room.engine = WorkerEngine(options, take)
    engine.start()
    try:
        ready(engine)
        watch.open(time.monotonic_ns() + round(2 * WARM_UP_S * SECOND_NS), seconds)
        thread = threading.Thread(target=room.stream, args=(watch.end_ns / SECOND_NS,))
        thread.start()
        _sleep_until(watch.begin_ns, time.monotonic_ns())
        room.callback_s.clear()
        thread.join()
        callbacks = [1e3 * s for s in room.callback_s]
        time.sleep(DRAIN_S)
        assert engine.worker_pid is not None
        peak = _peak_mb(psutil.Process(engine.worker_pid))
        stats = engine.stats()
    finally:
        engine.stop()
    watch.frames = {"received": stats.received, "used": stats.used, "skipped": stats.skipped}
    watch.frames |= {"in flight": stats.in_flight, **{f"dropped: {reason}": n for reason, n in stats.drops.items()}}
    watch.clips = stats.clips
    watch.stages_ms = {name: {"p50": p50, "p95": p95} for name, (p50, p95) in stats.latency_ms.items()}
    return watch.figures() | {
        "driven": "the engine without ROS, because rclpy is not installed; memory is the worker's alone",
        "camera_hz": len(callbacks) / seconds,
        "callback_ms": _percentiles(callbacks),
        "memory_mb": peak,
    }


def _wait_for_a_label(watch: Watch) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not any(estimate.label for estimate in list(watch.estimates)):
        if time.monotonic() > deadline:
            raise SystemExit("The node never published a label.")
        time.sleep(0.05)


def _sleep_until(then_ns: int, now_ns: int) -> None:
    time.sleep(max(0, then_ns - now_ns) / 1e9)


def _cpu_percent(process: psutil.Process, before: Any, seconds: float) -> float:
    now = process.cpu_times()
    return 100 * (now.user + now.system - before.user - before.system) / seconds


def _peak_mb(process: psutil.Process) -> float:
    """Return the largest resident memory that the process ever had, loading included."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024 / 1e6


def _percentiles(values: Sequence[float]) -> dict[str, float] | None:
    if not values:
        return None
    p50, p95, most = np.percentile(values, (50, 95, 100)).tolist()
    return {"p50": p50, "p95": p95, "max": most}


def _counters(values: Mapping[str, str], prefix: str) -> dict[str, int]:
    return {key.removeprefix(prefix): int(n) for key, n in values.items() if key.startswith(prefix)}


def _stages(values: Mapping[str, str]) -> dict[str, dict[str, float]]:
    stages: dict[str, dict[str, float]] = {}
    for key, value in values.items():
        stage, _, percentile = key.partition(" ms ")
        if percentile:
            stages.setdefault(stage, {})[percentile] = float(value)
    return stages
