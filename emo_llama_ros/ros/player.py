"""Images that were recorded, published as a camera would: each at its time, and with /clock where that is wanted."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from rclpy.node import Node
from rclpy.qos import QoSProfile
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image

from emo_llama_ros.recordings.bags import ImageBag, ImageTopic
from emo_llama_ros.ros.conversion import time_message

_CLOCK_HZ = 100.0
_LEAD_NS = 100_000_000
_Item = TypeVar("_Item")


@dataclass(slots=True)
class Played:
    """What was played, and how punctually."""

    frames: int = 0
    seconds: float = 0.0
    """Recorded time from the first to the last frame."""
    worst_delay_s: float = 0.0


class ClockPublisher:
    """Publishes recorded time on /clock."""

    def __init__(self, node: Node) -> None:
        """Advertise /clock."""
        self._publisher = node.create_publisher(Clock, "/clock", QoSProfile(depth=1))

    def tick(self, time_ns: int) -> None:
        """Publish one time."""
        self._publisher.publish(Clock(clock=time_message(max(0, time_ns))))


def in_time(
    items: Iterable[tuple[int, _Item]],
    rate: float = 1.0,
    clock: ClockPublisher | None = None,
    over: threading.Event | None = None,
    played: Played | None = None,
) -> Iterator[tuple[int, _Item]]:
    """Yield (time of recording in ns, item) pairs at `rate` times their recorded pace, with `clock` ticking at 100 Hz.

    Ends early when `over` is set. `played` counts the items along and keeps the worst delay.
    """
    over, played = over or threading.Event(), played or Played()
    pairs = iter(items)
    first = next(pairs, None)
    if first is None:
        return
    time_ns = start_ns = first[0]
    base_ns = time.perf_counter_ns() + _LEAD_NS
    tick_ns = round(1e9 / _CLOCK_HZ * rate)
    next_tick_ns = start_ns - round(_LEAD_NS * rate)
    for time_ns, item in itertools.chain([first], pairs):
        while clock is not None and next_tick_ns <= time_ns and not over.is_set():
            _wait(base_ns + (next_tick_ns - start_ns) / rate, over)
            clock.tick(next_tick_ns)
            next_tick_ns += tick_ns
        late_s = _wait(base_ns + (time_ns - start_ns) / rate, over)
        if over.is_set():
            return
        played.worst_delay_s = max(played.worst_delay_s, late_s)
        played.seconds = (time_ns - start_ns) / 1e9
        played.frames += 1
        yield time_ns, item
    if clock is not None:
        clock.tick(time_ns)


class BagPlayer:
    """Publishes one image topic of a bag, serialized as it was recorded, with /clock, as `ros2 bag play --clock`."""

    def __init__(self, node: Node, topic: ImageTopic) -> None:
        """Advertise the topic and /clock; reliable, so that every subscriber can choose."""
        kind = CompressedImage if topic.compressed else Image
        self._topic = topic
        self._images = node.create_publisher(kind, topic.name, QoSProfile(depth=10))
        self._clock = ClockPublisher(node)

    @property
    def has_listener(self) -> bool:
        """Whether somebody subscribes to the images."""
        return self._images.get_subscription_count() > 0

    def play(self, bag: ImageBag, rate: float = 1.0, on_frame: Callable[[int], None] = lambda time_ns: None) -> Played:
        """Publish all frames at `rate` times their recorded pace and return when the last one is out.

        `on_frame` is called with the time of recording of each frame that has just been published.
        """
        played = Played()
        for time_ns, data in in_time(bag.messages(self._topic), rate, self._clock, played=played):
            self._images.publish(data)
            on_frame(time_ns)
        return played


def _wait(until_ns: float, over: threading.Event) -> float:
    """Sleep until `until_ns` of the performance counter, or until `over`; return how late it is, in seconds."""
    left = (until_ns - time.perf_counter_ns()) / 1e9
    if left > 0:
        over.wait(left)
        return 0.0
    return -left
