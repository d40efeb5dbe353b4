"""Many cameras, many people, and a model that is far too slow: what comes out, how old it is, and what was dropped.

    python benchmarks/stream.py --quick                       # 4 cameras, 8 people, model 10 x too slow; under 50 s
    python benchmarks/stream.py --cameras 2 --people 6 --slow 3 --seconds 600

Every camera has an engine of its own, as every camera has a node of its own: a real worker process with the real face
networks on the faces of the sample media (`emo_llama fetch --media`), fed at 30 Hz. Only the model is slowed: the clips
that come due are worth --slow times the time that there is. Then one camera is watched while the model burns all the
CPU that it may have: how late is the camera's callback, beside an idle model, and beside a model in the node's own
process? The last line printed is one JSON object:

| key | meaning | limit |
|---|---|---|
| `max_label_age_s` | age of the oldest published label: publication minus arrival of its newest frame | `max_age_s` |
| `drops_unexplained` | frames and clips without a known fate, and labels published but not counted | 0 |
| `memory_growth` | memory of all processes, last third of the run by middle third | 1.05 |
| `useful_share` | share of the model's time that went into labels which were published | >= 0.5 |
| `fairness` | labels of the least by labels of the most labelled person of one camera | >= 0.5 |
| `callback_p95_ms` | 30 Hz camera callback while the model burns: lateness of its start plus its length | 5 |
| `callback_vs_idle` | the same by that beside an idle model, which shows what the machine itself costs | 2 |
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import numpy.typing as npt
import psutil
from camera_stream import machine
from crowd import HEIGHT, WIDTH, frames
from slow_worker import SlowBackend, burn, slow_command

from emo_llama_ros.engine.api import Engine, EngineState, EngineStats, unexplained_clips
from emo_llama_ros.engine.in_process import InProcessEngine
from emo_llama_ros.engine.worker_engine import WorkerEngine
from emo_llama_ros.estimate import Estimate
from emo_llama_ros.frames import RawFrame
from emo_llama_ros.options import Options

RATE_HZ = 30.0
LIMITS = {
    "drops_unexplained": 0,
    "memory_growth": 1.05,
    "useful_share": 0.5,
    "fairness": 0.5,
    "callback_p95_ms": 5.0,
    "callback_vs_idle": 2.0,
}
SAMPLE_S = 0.5


@dataclass
class Camera:
    """One camera with its engine, and what was heard of it."""

    pictures: list[npt.NDArray[np.uint8]]
    engine: Engine = field(init=False)
    first_seen: dict[str, float] = field(default_factory=dict)
    """Estimate id → age in seconds of the label when it was published first."""
    people: Counter[str] = field(default_factory=Counter)
    submitted: int = 0
    callback_s: list[float] = field(default_factory=list)

    def hear(self, estimate: Estimate) -> None:
        """Take an estimate; stamps are `time.monotonic_ns()` at arrival."""
        if estimate.face_id and estimate.estimate_id not in self.first_seen:
            self.first_seen[estimate.estimate_id] = (time.monotonic_ns() - estimate.stamp_ns) / 1e9
            self.people[estimate.face_id] += 1

    def stream(self, until: float) -> None:
        """Submit frames at RATE_HZ."""
        begin, count = time.monotonic(), 0
        while (due := begin + count / RATE_HZ) < until:
            time.sleep(max(0.0, due - time.monotonic()))
            now = time.monotonic_ns()
            data = self.pictures[count % len(self.pictures)]
            self.engine.submit(RawFrame(now, "camera", data, "rgb8", WIDTH, HEIGHT, WIDTH * 3, received_ns=now))
            self.callback_s.append(time.monotonic() - max(due, begin))
            self.submitted += 1
            count += 1


def ready(engine: Engine) -> None:
    """Wait until the model is loaded."""
    deadline = time.monotonic() + 60
    while (stats := engine.stats()).state is not EngineState.READY:
        if time.monotonic() > deadline or stats.state is EngineState.FAILED:
            raise SystemExit(f"The engine is {stats.state.value}: {stats.message}")
        time.sleep(0.05)


def unexplained(stats: EngineStats) -> int:
    """Return frames and clips of one engine that have no fate."""
    frames_lost = stats.received - stats.used - stats.skipped - stats.in_flight - sum(stats.drops.values())
    return abs(frames_lost) + abs(unexplained_clips(stats.clips))


def memory_mb() -> float:
    """Return the resident memory of this process and all workers."""
    process = psutil.Process()
    total = 0
    for each in (process, *process.children(recursive=True)):
        try:
            total += each.memory_info().rss
        except psutil.Error:
            continue
    return total / 1e6


def overload(cameras: int, people: int, slow: float, seconds: float, label_rate_hz: float) -> dict[str, Any]:
    """Feed all cameras and return what came of it."""
    # Short windows, so that a clip comes due at every analyzed frame: far more than the model can read.
    options = Options(clip_s=8 / label_rate_hz, clip_min_s=2 / label_rate_hz, label_rate_hz=label_rate_hz)
    each = [people // cameras + (n < people % cameras) for n in range(cameras)]
    first = np.cumsum([0, *each]).tolist()
    rooms = [Camera(frames(count, start)) for count, start in zip(each, first, strict=False)]
    per_clip_s = [slow / max(1, count) / label_rate_hz for count in each]
    for camera, clip_s in zip(rooms, per_clip_s, strict=True):
        camera.engine = WorkerEngine(options, camera.hear, slow_command(clip_s))
        camera.engine.start()
    for camera in rooms:
        ready(camera.engine)
    threads = [threading.Thread(target=camera.stream, args=(time.monotonic() + seconds,)) for camera in rooms]
    for thread in threads:
        thread.start()
    memory, wrong, waiting = [], 0, 0
    while any(thread.is_alive() for thread in threads):
        time.sleep(SAMPLE_S)
        memory.append(memory_mb())
        snapshots = [camera.engine.stats() for camera in rooms]
        wrong = max(wrong, sum(map(unexplained, snapshots)))
        waiting = max(waiting, max(s.in_flight + s.clips.get("waiting", 0) for s in snapshots))
    for camera in rooms:
        camera.engine.stop()
    stats = [camera.engine.stats() for camera in rooms]
    for camera, found in zip(rooms, stats, strict=True):
        counted = found.clips.get("labelled", 0) + found.clips.get("failed", 0)
        wrong += unexplained(found) + abs(found.received - camera.submitted) + abs(counted - len(camera.first_seen))
    ages = np.array([age for camera in rooms for age in camera.first_seen.values()])
    if not len(ages):
        raise SystemExit("No label was published: max_age_s is shorter than one label takes; use a smaller --slow.")
    third = len(memory) // 3
    middle, last = np.median(memory[third : 2 * third] or memory), np.median(memory[-third:])
    frames_by_fate: Counter[str] = Counter()
    clips_by_fate: Counter[str] = Counter()
    for found in stats:
        frames_by_fate.update({"received": found.received, "used": found.used, "skipped": found.skipped})
        frames_by_fate.update({f"dropped: {reason}": n for reason, n in found.drops.items()})
        clips_by_fate.update(found.clips)
    shares = [len(c.first_seen) * s / seconds for c, s in zip(rooms, per_clip_s, strict=True)]
    fairness = [min(c.people.values()) / max(c.people.values()) for c in rooms if len(c.people) > 1]
    times = np.linspace(0, len(memory) * SAMPLE_S / 60, len(memory))
    return {
        "cameras": cameras,
        "people": people,
        "people_seen": sum(len(camera.people) for camera in rooms),
        "slow": slow,
        "seconds": seconds,
        "label_rate_hz": label_rate_hz,
        "max_age_s": options.max_age_s,
        "max_label_age_s": float(ages.max()),
        "label_age_s": dict(zip(("p50", "p95", "p99"), np.percentile(ages, (50, 95, 99)).tolist(), strict=True)),
        "labels_published": len(ages),
        "drops_unexplained": int(wrong),
        "most_waiting": int(waiting),
        "frames": dict(frames_by_fate),
        "clips": {fate: n for fate, n in sorted(clips_by_fate.items()) if n},
        "useful_share": float(np.mean(shares)),
        "fairness": min(fairness, default=1.0),
        "memory_mb": float(last),
        "memory_growth": float(last / middle),
        "memory_slope_mb_per_min": float(np.polyfit(times[third:], memory[third:], 1)[0]) if third > 1 else None,
    }


def callback(kind: str, seconds: float) -> list[float]:
    """Return the sorted callback times, in ms, of one camera with two people whose model is idle or burns."""
    options = Options(max_age_s=60.0, label_rate_hz=10.0, clip_s=0.8, clip_min_s=0.0, on_demand=kind == "idle")
    camera = Camera(frames(2))
    if kind == "in process":
        camera.engine = InProcessEngine(options, camera.hear, SlowBackend(options, 0.5, burn))
    else:
        camera.engine = WorkerEngine(options, camera.hear, slow_command(0.5, "burn"))
    camera.engine.start()
    ready(camera.engine)
    camera.stream(time.monotonic() + 1.0)  # until people are known and the model is at work
    camera.callback_s.clear()
    camera.stream(time.monotonic() + seconds)
    camera.engine.stop()
    return sorted(1e3 * s for s in camera.callback_s)


def main() -> None:
    """Run all parts, print them, then JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="ends within 50 s on two cores")
    parser.add_argument("--cameras", type=int, default=4)
    parser.add_argument("--people", type=int, default=8, help="in front of all cameras together")
    parser.add_argument("--slow", type=float, default=10.0, help="work that comes due by what the model can do")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the overload")
    parser.add_argument("--label-rate", type=float, default=10.0, help="clips due per second for each person")
    arguments = parser.parse_args()
    seconds, watched = (12.0, 4.0) if arguments.quick else (arguments.seconds, 15.0)
    report: dict[str, Any] = {"benchmark": "stream", "hardware": machine()}
    report |= overload(arguments.cameras, arguments.people, arguments.slow, seconds, arguments.label_rate)
    for kind in ("idle", "process", "in process"):
        times = callback(kind, watched)
        key = {"idle": "callback_idle", "process": "callback", "in process": "callback_in_process"}[kind]
        report |= {f"{key}_p50_ms": times[len(times) // 2], f"{key}_p95_ms": times[int(0.95 * len(times))]}
    report["callback_vs_idle"] = report["callback_p95_ms"] / report["callback_idle_p95_ms"]
    report["limits"] = {**LIMITS, "max_label_age_s": report["max_age_s"]}
    for name, value in report.items():
        print(f"{name:28} {value if not isinstance(value, float) else f'{value:.4g}'}")
    print(json.dumps(report))


if __name__ == "__main__":
    main()
