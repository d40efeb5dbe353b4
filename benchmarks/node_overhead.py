"""What the node itself costs, model excluded, beside a bare rclpy subscriber on the same stream in the same run.

python benchmarks/node_overhead.py [--quick] [--minutes M] [--seconds S] [--rounds N]

A camera process streams 640x480 and 1920x1080 raw images at 30 Hz. In turns it is watched by a bare rclpy subscriber
(deserialized images, best effort, depth 1) and by emo_llama_node with its worker. CPU time is that of the node's own
process; the worker, which searches the faceless images for faces, is another process. Then the node runs for --minutes
at 640x480 while its memory is watched. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psutil
from camera_stream import machine

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

RATE = 30.0
SIZES = {"640x480": (640, 480), "1920x1080": (1920, 1080)}
LIMITS = {"receive_to_worker_ms_p95": 5.0, "cpu_ratio": 1.3}
TOPIC = "/camera/image_raw"
WARM_UP_S = 2.0

BARE = """
import numpy, rclpy
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Image
qos_profile_sensor_data.depth = 1
rclpy.init()
node = rclpy.create_node("bare_subscriber")
node.create_subscription(Image, "{topic}", lambda image: numpy.frombuffer(image.data, numpy.uint8), qos_profile_sensor_data)
print("ready", flush=True)
rclpy.spin(node)
"""  # noqa: E501


def use_own_graph() -> None:
    """Give this process and its children a domain of their own and the shipped profile: DDS is not what is compared."""
    os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 100)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    from emo_llama_ros.ros.transport import use_shipped_profile

    use_shipped_profile()


@contextmanager
def bare_subscriber() -> Iterator[psutil.Process]:
    """Run the subscriber that everybody writes first."""
    process = subprocess.Popen([sys.executable, "-c", BARE.format(topic=TOPIC)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield psutil.Process(process.pid)
    finally:
        process.kill()
        process.communicate()


class Diagnostics:
    """Listens to the node's /diagnostics in a thread."""

    def __init__(self) -> None:
        import rclpy
        from diagnostic_msgs.msg import DiagnosticArray
        from rclpy.executors import SingleThreadedExecutor

        self.values: dict[str, dict[str, str]] = {}
        rclpy.init()
        self._node = rclpy.create_node("overhead_listener")
        self._node.create_subscription(DiagnosticArray, "/diagnostics", self._take, 10)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._executor.spin)
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        import rclpy

        self._executor.shutdown(timeout_sec=1.0)
        self._thread.join()
        self._node.destroy_node()
        rclpy.shutdown()

    def _take(self, message: Any) -> None:
        for status in message.status:
            self.values[status.name.rsplit(": ", 1)[1]] = {pair.key: pair.value for pair in status.values}

    def number(self, part: str, key: str) -> float:
        """Return a value of the newest report, NaN when there is none."""
        return float(self.values.get(part, {}).get(key) or "nan")

    def wait(self, part: str, key: str, value: str) -> None:
        """Wait for a value."""
        deadline = time.monotonic() + 60
        while self.values.get(part, {}).get(key) != value:
            if time.monotonic() > deadline:
                raise SystemExit(f"The node never reported {key} = {value}.")
            time.sleep(0.05)


@contextmanager
def camera(size: tuple[int, int], seconds: float, video: Path | None = None) -> Iterator[psutil.Process]:
    """Stream noise, or a video, until the block ends."""
    arguments = [*map(str, size), str(RATE), str(seconds), TOPIC, "reliable", *([str(video)] if video else [])]
    process = subprocess.Popen([sys.executable, str(HERE / "camera_stream.py"), *arguments], stdout=subprocess.DEVNULL)
    try:
        yield psutil.Process(process.pid)
    finally:
        process.kill()
        process.wait()


def cpu_percent(process: psutil.Process, seconds: float) -> float:
    """Return the process's CPU time over the next `seconds`, in percent of one core."""
    before, start = process.cpu_times(), time.monotonic()
    time.sleep(seconds)
    after, took = process.cpu_times(), time.monotonic() - start
    return 100 * (after.user + after.system - before.user - before.system) / took


def measure_bare(size: tuple[int, int], seconds: float) -> float:
    """Return the bare subscriber's CPU share, percent of one core."""
    with bare_subscriber() as process, camera(size, seconds + WARM_UP_S + 30):
        time.sleep(WARM_UP_S)
        return cpu_percent(process, seconds)


def measure_node(size: tuple[int, int], seconds: float, diagnostics: Diagnostics, log: Path) -> dict[str, float]:
    """Return the node's CPU share and its latencies."""
    from emo_llama_ros.ros.live_replay import running_node

    diagnostics.values.clear()
    with running_node({"image_topic": TOPIC, "backend": "expression"}, log) as process:
        diagnostics.wait("model", "model state", "ready")
        with camera(size, seconds + WARM_UP_S + 30):
            time.sleep(WARM_UP_S)
            share = cpu_percent(psutil.Process(process.pid), seconds)
            time.sleep(1.1)
            return {
                "cpu_percent": share,
                "receive_to_worker_ms_p50": diagnostics.number("estimates", "receive_to_worker ms p50"),
                "receive_to_worker_ms_p95": diagnostics.number("estimates", "receive_to_worker ms p95"),
                "publish_ms_p50": diagnostics.number("estimates", "publish ms p50"),
                "publish_ms_p95": diagnostics.number("estimates", "publish ms p95"),
                "received_hz": diagnostics.number("camera", "received Hz"),
                "lost_on_the_way": diagnostics.number("camera", "frames lost on the way"),
            }


def private_mb(process: psutil.Process) -> float:
    """Return the memory that the process has for itself, without pages of the camera's shared memory segment."""
    return process.memory_full_info().uss / 1e6


def measure_memory(minutes: float, diagnostics: Diagnostics, log: Path) -> dict[str, float]:
    """Return how the private memory of node and worker grows at 640x480."""
    import numpy as np
    from scipy.stats import theilslopes

    from emo_llama_ros.ros.live_replay import running_node

    diagnostics.values.clear()
    with running_node({"image_topic": TOPIC, "backend": "expression"}, log) as process:
        diagnostics.wait("model", "model state", "ready")
        with camera(SIZES["640x480"], minutes * 60 + 60):
            time.sleep(5.0)
            node = psutil.Process(process.pid)
            (worker,) = node.children()
            samples = []
            end = time.monotonic() + minutes * 60
            while time.monotonic() < end:
                samples.append((time.monotonic(), private_mb(node), private_mb(worker)))
                time.sleep(min(2.0, minutes * 60 / 20))
            frames = diagnostics.number("estimates", "frames received")
    times, node_mb, worker_mb = np.array(samples).T
    settled = times > times[0] + (times[-1] - times[0]) / 4  # caches fill in the first quarter
    minutes_in = (times[settled] - times[0]) / 60
    # The median of all pairwise slopes: one step, as when a thread gets its arena, is no growth; a leak is.
    slope = {
        name: float(theilslopes(mb[settled], minutes_in)[0]) for name, mb in (("node", node_mb), ("worker", worker_mb))
    }
    return {
        "minutes": minutes,
        "frames": frames,
        "node_mb": float(node_mb[-1]),
        "node_mb_at_start": float(node_mb[0]),
        "worker_mb": float(worker_mb[-1]),
        "worker_mb_at_start": float(worker_mb[0]),
        "node_mb_per_minute": slope["node"],
        "worker_mb_per_minute": slope["worker"],
    }


def main() -> None:
    """Measure, print a table, then JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="under 50 s, no statement about memory growth")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long to watch the memory; 0 does not")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="alternating measurements per size; medians count")
    arguments = parser.parse_args()
    rounds, seconds, minutes = arguments.rounds, arguments.seconds, arguments.minutes
    if arguments.quick:
        rounds, seconds, minutes = 1, 4.0, 0.0
    use_own_graph()
    log = Path(tempfile.mkdtemp(prefix="node_overhead_")) / "node.log"
    results: dict[str, Any] = {}
    with closing(Diagnostics()) as diagnostics:
        for name, size in SIZES.items():
            bare, node = [], []
            for _ in range(rounds):
                bare.append(measure_bare(size, seconds))
                node.append(measure_node(size, seconds, diagnostics, log))
            merged = {key: statistics.median(run[key] for run in node) for key in node[0]}
            merged["bare_cpu_percent"] = statistics.median(bare)
            merged["cpu_ratio"] = statistics.median(n["cpu_percent"] / b for n, b in zip(node, bare, strict=True))
            results[name] = merged
            print(_row(name, merged), flush=True)
        memory = measure_memory(minutes, diagnostics, log) if minutes else None
    if memory:
        print(_memory_row(memory))
    print(
        json.dumps(
            {
                "benchmark": "node_overhead",
                "hardware": machine(),
                "rate_hz": RATE,
                "limits": LIMITS,
                "sizes": results,
                "memory": memory,
            }
        )
    )


def _row(name: str, found: dict[str, float]) -> str:
    return (
        f"{name:10} CPU {found['cpu_percent']:5.1f} % of a core, bare subscriber {found['bare_cpu_percent']:5.1f} %, "
        f"ratio {found['cpu_ratio']:.2f}; "
        f"receive to worker p50/p95 {found['receive_to_worker_ms_p50']:.2f}/"
        f"{found['receive_to_worker_ms_p95']:.2f} ms; "
        f"publish p50/p95 {found['publish_ms_p50']:.2f}/{found['publish_ms_p95']:.2f} ms"
    )


def _memory_row(found: dict[str, float]) -> str:
    return (
        f"memory over {found['minutes']:g} min: "
        f"node {found['node_mb_at_start']:.0f} to {found['node_mb']:.0f} MB "
        f"(median slope {found['node_mb_per_minute']:+.2f} MB/min), "
        f"worker {found['worker_mb_at_start']:.0f} to {found['worker_mb']:.0f} MB "
        f"({found['worker_mb_per_minute']:+.2f} MB/min)"
    )


if __name__ == "__main__":
    main()
