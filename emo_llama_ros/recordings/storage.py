"""What every storage format of rosbag2 gives: topics, and their serialized messages in the order of their times.

A new format is one more module with a `Storage` and one line in `bag_files.open_storage`.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

SECOND_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class StoredTopic:
    """A topic of one file: its messages' type ("sensor_msgs/msg/Image"), format ("cdr"), count and times."""

    key: int
    name: str
    kind: str
    serialization: str
    count: int
    start_ns: int
    end_ns: int


class Storage(Protocol):
    """One file of a recording, indexed when it is made; no file stays open between calls."""

    topics: list[StoredTopic]
    """Topics of the wanted types, with or without messages."""
    notes: list[str]
    """What of the file cannot be read, one sentence each; may grow while messages are read."""

    def messages(self, keys: Collection[int]) -> Iterator[tuple[int, bytes]]:
        """Yield (time of recording in nanoseconds, serialized message) of these topics, in the order of time."""
        ...


Source = tuple[int, Callable[[], Iterator[tuple[int, bytes]]]]
"""When a stream of messages starts at the earliest, and what opens it."""


def in_order_of_time(sources: Sequence[Source]) -> Iterator[tuple[int, bytes]]:
    """Merge streams that are each in order of time; each is opened only when its start has come.

    Of messages with equal times, those of the earlier source come first.
    """
    waiting = sorted(range(len(sources)), key=lambda n: sources[n][0], reverse=True)
    running: list[tuple[int, int, bytes, Iterator[tuple[int, bytes]]]] = []

    def advance(number: int, stream: Iterator[tuple[int, bytes]]) -> None:
        message = next(stream, None)
        if message is not None:
            heapq.heappush(running, (message[0], number, message[1], stream))

    while waiting or running:
        while waiting and (not running or sources[waiting[-1]][0] <= running[0][0]):
            number = waiting.pop()
            advance(number, sources[number][1]())
        if running:
            time_ns, number, data, stream = heapq.heappop(running)
            yield time_ns, data
            advance(number, stream)


def type_name(name: str) -> str:
    """Return a type in ROS 2's spelling: some writers leave "msg/" out."""
    package, slash, kind = name.partition("/")
    return f"{package}/msg/{kind}" if slash and "/" not in kind else name
