"""A camera for the benchmarks: raw images at a steady rate from a process of its own.

python benchmarks/camera_stream.py WIDTH HEIGHT RATE SECONDS TOPIC [best_effort|reliable [VIDEO]]

Without a VIDEO the images are noise.
"""

from __future__ import annotations

import array
import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    with open("/proc/cpuinfo") as lines:
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "load_average": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "ros": os.environ.get("ROS_DISTRO") or f"wheels of rclpy {version('rclpy')}",
    }


def film(video: Path, width: int, height: int) -> list[array.array[int]]:
    """Return the rgb8 messages of a video fitted into width x height, forth and back, so that a loop never jumps."""
    import cv2
    import numpy as np

    from emo_llama_ros.recordings.media import file_frames

    messages = []
    for frame in file_frames([video]):
        scale = min(width / frame.width, height / frame.height)
        fitted = cv2.resize(
            cv2.cvtColor(frame.data.reshape(frame.height, frame.width, 3), cv2.COLOR_BGR2RGB),
            (round(frame.width * scale), round(frame.height * scale)),
        )
        top, left = (height - fitted.shape[0]) // 2, (width - fitted.shape[1]) // 2
        picture = np.zeros((height, width, 3), np.uint8)
        picture[top : top + fitted.shape[0], left : left + fitted.shape[1]] = fitted
        messages.append(array.array("B", picture.tobytes()))
    return messages + messages[-2:0:-1]


def main() -> None:
    """Wait for a subscriber, stream, print the number of images."""
    import rclpy
    from rclpy.qos import QoSProfile, ReliabilityPolicy
    from sensor_msgs.msg import Image

    from emo_llama_ros.ros.conversion import time_message

    width, height = int(sys.argv[1]), int(sys.argv[2])
    rate, seconds, topic = float(sys.argv[3]), float(sys.argv[4]), sys.argv[5]
    reliability = ReliabilityPolicy[(sys.argv[6] if len(sys.argv) > 6 else "reliable").upper()]
    rclpy.init()
    node = rclpy.create_node(f"camera_{os.getpid()}")
    publisher = node.create_publisher(Image, topic, QoSProfile(depth=10, reliability=reliability))
    image = Image(width=width, height=height, step=width * 3, encoding="rgb8")
    noise = [array.array("B", os.urandom(width * 3) * height)]
    pictures = film(Path(sys.argv[7]), width, height) if len(sys.argv) > 7 else noise
    deadline = time.monotonic() + 20
    while not publisher.get_subscription_count() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.5)
    start, sent = time.monotonic(), 0
    while sent < rate * seconds:
        time.sleep(max(0.0, start + sent / rate - time.monotonic()))
        image.data = pictures[sent % len(pictures)]
        image.header.stamp = time_message(time.time_ns())
        publisher.publish(image)
        sent += 1
    time.sleep(0.5)
    print(sent, flush=True)
    node.destroy_node()
    rclpy.shutdown()


if __name__ == "__main__":
    main()
