"""How many raw images of a 30 Hz camera arrive on the same machine: Fast DDS as it is, and with the shipped profile.

python benchmarks/transport.py [--quick] [--seconds S] [--repeat N]

Each case streams from one process to the node's camera subscription, with this input_reliability, in another. The last
line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from camera_stream import machine

RATE = 30.0
SIZES = {"640x480": (640, 480), "1920x1080": (1920, 1080)}
CASES = {
    "default, best effort": ("", "best_effort"),
    "default, reliable": ("", "reliable"),
    "default, auto": ("", "auto"),
    "shipped profile, best effort": ("profile", "best_effort"),
    "shipped profile, reliable": ("profile", "reliable"),
    "shipped profile, auto": ("profile", "auto"),
}
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE", "FASTDDS_BUILTIN_TRANSPORTS")


def environment(profile: str) -> dict[str, str]:
    """Return the environment of one case; both processes get it."""
    from emo_llama_ros.ros.transport import use_shipped_profile

    clean = {k: v for k, v in os.environ.items() if k not in PROFILE_VARIABLES}
    clean["PYTHONPATH"] = os.pathsep.join([str(HERE.parent), clean.get("PYTHONPATH", "")])
    if profile:
        use_shipped_profile(clean)
    return clean


def subscribe(topic: str, reliability: str) -> None:
    """Count images until standard input closes; print the count and the latencies."""
    import rclpy
    from rclpy.executors import SingleThreadedExecutor

    from emo_llama_ros.frames import RawFrame
    from emo_llama_ros.options import Options
    from emo_llama_ros.ros.camera import Camera

    latencies: list[float] = []

    def take(frame: RawFrame) -> None:
        latencies.append((time.time_ns() - frame.stamp_ns) / 1e6)

    rclpy.init()
    node = rclpy.create_node(f"subscriber_{os.getpid()}")
    camera = Camera(node, Options(image_topic=topic, input_reliability=reliability), take)
    node.create_timer(0.2, camera.follow_publishers)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    os.set_blocking(sys.stdin.fileno(), False)
    while sys.stdin.buffer.read(1) != b"":
        executor.spin_once(timeout_sec=0.05)
    print(json.dumps(latencies), flush=True)
    node.destroy_node()
    rclpy.shutdown()


def measure(size: tuple[int, int], profile: str, reliability: str, seconds: float) -> dict[str, float]:
    """Run one case once."""
    topic = f"/transport_{os.getpid()}/image"
    env = environment(profile)
    subscriber = subprocess.Popen(
        [sys.executable, str(HERE / "transport.py"), "--subscribe", topic, reliability],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env,
    )  # fmt: skip
    # The camera offers reliable in every case; what is asked for decides how the images travel.
    camera = subprocess.run(
        [sys.executable, str(HERE / "camera_stream.py"), *map(str, size), str(RATE), str(seconds), topic, "reliable"],
        stdout=subprocess.PIPE, env=env, check=True, timeout=120,
    )  # fmt: skip
    output, _ = subscriber.communicate(timeout=30)
    latencies = json.loads(output)
    sent = int(camera.stdout)
    return {
        "delivered_percent": 100 * len(latencies) / sent,
        "latency_ms_p50": statistics.median(latencies) if latencies else float("nan"),
    }


def main() -> None:
    """Measure every case and print a table, then JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="under 75 s")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each stream")
    parser.add_argument("--repeat", type=int, default=3, help="streams per case; the median counts")
    parser.add_argument("--subscribe", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.subscribe:
        subscribe(*arguments.subscribe)
        return
    seconds, repeat = (1.5, 1) if arguments.quick else (arguments.seconds, arguments.repeat)
    # A domain of its own, so that no other traffic is measured.
    os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 100)
    results: dict[str, dict[str, dict[str, float | None]]] = {}
    print(f"{'raw images at 30 Hz':20}  {'transport':30}  delivered   latency p50")
    for size_name, size in SIZES.items():
        results[size_name] = {}
        for case, (profile, reliability) in CASES.items():
            runs = [measure(size, profile, reliability, seconds) for _ in range(repeat)]
            delivered = statistics.median(run["delivered_percent"] for run in runs)
            known = [run["latency_ms_p50"] for run in runs if run["latency_ms_p50"] == run["latency_ms_p50"]]
            latency = statistics.median(known) if known else None
            results[size_name][case] = {"delivered_percent": delivered, "latency_ms_p50": latency}
            shown = "-" if latency is None else f"{latency:8.1f} ms"
            print(f"{size_name:20}  {case:30}  {delivered:7.1f} %  {shown}", flush=True)
    print(
        json.dumps(
            {
                "benchmark": "transport",
                "hardware": machine(),
                "rate_hz": RATE,
                "seconds": seconds,
                "repeat": repeat,
                "delivery": results,
            }
        )
    )


if __name__ == "__main__":
    main()
