"""Play the images of a bag into the ROS graph in real time, with /clock, as `ros2 bag play --clock` does."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass

from rclpy.node import Node
from rclpy.qos import QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image

from emo_llama_ros.recordings.bags import ImageBag, ImageTopic
from emo_llama_ros.ros.conversion import time_message

_CLOCK_HZ = 100.0
_LEAD_NS = 100_000_000


@dataclass(frozen=True, slots=True)
class Played:
    """What was played, and how punctually."""

    frames: int
    seconds: float
    """Recorded time from the first to the last frame."""
    worst_delay_s: float


class BagPlayer:
    """Publishes one image topic of a bag, serialized as it was recorded."""

    def __init__(self, node: Node, topic: ImageTopic) -> None:
        """Advertise the topic and /clock; reliable, so that every subscriber can choose."""
        kind = CompressedImage if topic.compressed else Image
        self._topic = topic
        self._images = node.create_publisher(kind, topic.name, QoSProfile(depth=10))
        self._clock = node.create_publisher(Clock, "/clock", QoSProfile(depth=1))

    @property
    def has_listener(self) -> bool:
        """Whether somebody subscribes to the images."""
        return self._images.get_subscription_count() > 0

    def play(self, bag: ImageBag, rate: float = 1.0, on_frame: Callable[[int], None] = lambda time_ns: None) -> Played:
        """Publish all frames at `rate` times their recorded pace and return when the last one is out.

        `on_frame` is called with the time of recording of each frame that has just been published.
        """
        messages = bag.messages(self._topic)
        first = next(messages, None)
        if first is None:
            return Played(0, 0.0, 0.0)
        start_ns = first[0]
        base_ns = time.perf_counter_ns() + _LEAD_NS
        tick_ns = round(1e9 / _CLOCK_HZ * rate)
        next_tick_ns = start_ns - round(_LEAD_NS * rate)
        frames, time_ns, worst = 0, start_ns, 0.0
        for time_ns, data in itertools.chain([first], messages):
            while next_tick_ns <= time_ns:
                self._wait(base_ns, (next_tick_ns - start_ns) / rate)
                self._clock.publish(Clock(clock=time_message(max(0, next_tick_ns))))
                next_tick_ns += tick_ns
            worst = max(worst, self._wait(base_ns, (time_ns - start_ns) / rate))
            self._images.publish(data)
            frames += 1
            on_frame(time_ns)
        self._clock.publish(Clock(clock=time_message(time_ns)))
        return Played(frames, (time_ns - start_ns) / 1e9, worst)

    @staticmethod
    def _wait(base_ns: int, offset_ns: float) -> float:
        """Sleep until `offset_ns` after `base_ns`; return how late it is, in seconds."""
        left = (base_ns + offset_ns - time.perf_counter_ns()) / 1e9
        if left > 0:
            time.sleep(left)
            return 0.0
        return -left
