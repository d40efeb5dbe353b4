"""Reading camera images out of any rosbag2, without a ROS installation.

Takes a bag folder or one .mcap or .db3 file, every version and compression that `rosbags` reads. Only sensor_msgs are
decoded, whose definitions never changed, so a bag may hold any other types beside them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from rosbags.interfaces import Connection
from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, get_typestore
from typing_extensions import Self

from emo_llama_ros.errors import BadRecording
from emo_llama_ros.frames import RawFrame
from emo_llama_ros.images.layouts import LAYOUTS

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"

# Image topics that show no faces: measured or drawn pictures, and the infrared views of depth cameras.
_NO_CAMERA = ("depth", "disparity", "confidence", "infra", "mask", "overlay", "debug", "segment", "heatmap", "thermal")
_COLOUR = ("color", "colour", "rgb", "image_raw", "image_rect")


@dataclass(frozen=True, slots=True)
class ImageTopic:
    """A topic of sensor_msgs/Image or CompressedImage in a bag; `encoding` is that of its first message."""

    name: str
    compressed: bool
    count: int
    encoding: str = ""


class ImageBag:
    """A rosbag2 opened for reading its images; use as context manager."""

    def __init__(self, path: Path) -> None:
        """Name the bag; nothing is opened yet."""
        self._path = path
        self._types = get_typestore(Stores.LATEST)
        self._readers: list[Reader] = []
        self.unreadable = 0
        """Messages so far that are no valid serialized image."""
        self.unstamped = 0
        """Frames so far without a stamp of their own, which got the time of recording instead."""

    def __enter__(self) -> Self:
        """Open the bag; raise BadRecording where there is none or it cannot be read."""
        if not self._path.exists():
            raise BadRecording(f"There is no bag {self._path}.")
        for part in _parts(self._path):
            try:
                reader = Reader(part)
                reader.open()
            except Exception as error:  # rosbags raises what its storage libraries raise
                self.close()
                raise BadRecording(f"The bag {part} cannot be read: {_sentence(error)}") from None
            self._readers.append(reader)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close the bag."""
        self.close()

    def close(self) -> None:
        """Close the bag; harmless when it is closed."""
        while self._readers:
            self._readers.pop().close()

    @property
    def start_ns(self) -> int:
        """Time of recording of the first message on any topic."""
        return min((r.start_time for r in self._readers if r.message_count), default=0)

    @property
    def end_ns(self) -> int:
        """Time of recording of the last message on any topic."""
        return max((r.end_time - 1 for r in self._readers if r.message_count), default=0)

    def topics(self) -> list[ImageTopic]:
        """Return all image topics that hold messages, by name."""
        counts: dict[tuple[str, str], int] = {}
        for reader in self._readers:
            for connection in reader.connections:
                if connection.msgtype in (IMAGE, COMPRESSED_IMAGE):
                    key = connection.topic, connection.msgtype
                    counts[key] = counts.get(key, 0) + connection.msgcount
        found = [ImageTopic(name, kind == COMPRESSED_IMAGE, count) for (name, kind), count in counts.items() if count]
        return [replace(topic, encoding=self._encoding(topic)) for topic in sorted(found, key=lambda t: t.name)]

    def choose(self, name: str | None = None) -> ImageTopic:
        """Return the image topic called `name` (raw or compressed), or the one that most likely shows people.

        Raises BadRecording naming the image topics that there are.
        """
        topics = self.topics()
        if not topics:
            raise BadRecording(f"The bag {self._path} has no image topic with messages.")
        if name is None:
            return min(topics, key=_rank)
        wanted = "/" + name.strip("/")
        for candidate in (wanted, f"{wanted}/compressed"):
            for topic in topics:
                if topic.name == candidate:
                    return topic
        names = ", ".join(topic.name for topic in topics)
        raise BadRecording(f"The bag {self._path} has no images on {wanted}; there are images on {names}.")

    def messages(self, topic: ImageTopic) -> Iterator[tuple[int, bytes]]:
        """Yield (time of recording in nanoseconds, serialized message) in the order of recording."""
        kind = COMPRESSED_IMAGE if topic.compressed else IMAGE
        for reader in self._readers:
            connections: list[Connection] = [
                c for c in reader.connections if c.topic == topic.name and c.msgtype == kind
            ]
            if not connections:
                continue
            try:
                for _, time_ns, data in reader.messages(connections):
                    yield time_ns, data
            except GeneratorExit:
                raise
            except Exception as error:
                raise BadRecording(f"The bag {self._path} is damaged: {_sentence(error)}") from None

    def frames(self, topic: ImageTopic) -> Iterator[RawFrame]:
        """Yield the images of a topic in the order of recording, stamped with their header's stamp.

        What is no image is counted in `unreadable` and left out. A frame without a stamp gets its time of recording
        and is counted in `unstamped`.
        """
        kind = COMPRESSED_IMAGE if topic.compressed else IMAGE
        for time_ns, data in self.messages(topic):
            try:
                frame = _frame(self._types.deserialize_cdr(data, kind))
            except Exception:  # generated code meets arbitrary bytes
                self.unreadable += 1
                continue
            if frame.stamp_ns == 0:
                self.unstamped += 1
                frame = replace(frame, stamp_ns=time_ns)
            yield frame

    def _encoding(self, topic: ImageTopic) -> str:
        counted = self.unreadable, self.unstamped
        first = next(self.frames(topic), None)
        self.unreadable, self.unstamped = counted
        return first.encoding if first else ""


def _frame(message: Any) -> RawFrame:
    stamp = message.header.stamp
    stamp_ns = stamp.sec * 1_000_000_000 + stamp.nanosec
    frame_id = message.header.frame_id
    if hasattr(message, "format"):
        return RawFrame(stamp_ns, frame_id, message.data, message.format, compressed=True)
    m = message
    return RawFrame(stamp_ns, frame_id, m.data, m.encoding, m.width, m.height, m.step, m.is_bigendian)


def _rank(topic: ImageTopic) -> tuple[bool, bool, bool, bool, int, str]:
    """Order topics by how likely they show people in colour; the smallest is the best."""
    name = topic.name.lower()
    return (
        any(word in name for word in _NO_CAMERA) or "compressedDepth" in topic.encoding,
        not topic.compressed and topic.encoding not in LAYOUTS,
        not any(word in name for word in _COLOUR),
        topic.compressed,  # the same picture with less detail
        -topic.count,
        topic.name,
    )


def _parts(path: Path) -> list[Path]:
    """Return what to open: the bag folder, one file, or the files of a recording that was never finished."""
    if not path.is_dir() or (path / "metadata.yaml").exists():
        return [path]
    files = sorted(itertools.chain(path.glob("*.mcap"), path.glob("*.db3")))
    if not files:
        raise BadRecording(f"The folder {path} holds no rosbag2 (no metadata.yaml, .mcap or .db3 file).")
    return files


def _sentence(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if text.endswith(".") else f"{text}."
