"""Reading camera images out of any rosbag2, without a ROS installation.

Takes a bag folder or one of its files, in both storages, of every version and compression, finished or not. What can be
read is read; what cannot is told in `ImageBag.notes`. Only sensor_msgs are decoded, whose definitions never changed, so
a bag may hold any other types beside them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any

from rosbags.typesys import Stores, get_typestore
from typing_extensions import Self

from emo_llama_ros.errors import BadRecording
from emo_llama_ros.frames import RawFrame
from emo_llama_ros.images.files import shown
from emo_llama_ros.images.layouts import LAYOUTS
from emo_llama_ros.recordings.bag_files import ZSTD_MAGIC, BagFiles, find_files, open_storage
from emo_llama_ros.recordings.storage import Source, Storage, StoredTopic, in_order_of_time

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"

# Image topics that show no faces: measured or drawn pictures, and the infrared views of depth cameras.
_NO_CAMERA = ("depth", "disparity", "confidence", "infra", "mask", "overlay", "debug", "segment", "heatmap", "thermal")
_COLOUR = ("color", "colour", "rgb", "image_raw", "image_rect")
_STAMPS_LOOKED_AT = 30


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
        self._stack = ExitStack()
        self._storages: list[Storage] = []
        self._notes: list[str] = []
        self.unreadable = 0
        """Messages so far that are no valid serialized image."""
        self.unstamped = 0
        """Frames so far without a usable stamp of their own, which got the time of recording instead."""

    def __enter__(self) -> Self:
        """Open the bag; raise BadRecording where there is none or nothing of it can be read."""
        files = find_files(self._path, (IMAGE, COMPRESSED_IMAGE))
        self._notes = list(files.notes)
        scratch = Path(self._stack.enter_context(TemporaryDirectory(prefix="emo_llama_")))
        try:
            self._storages = [storage for _, storage in self._opened(files.listed, scratch)]
            if not self._storages:
                raise BadRecording(f"Nothing of the bag {shown(self._path)} can be read: {self._notes[-1]}")
            self._add_unlisted(files, scratch)
        except BaseException:
            self.close()
            raise
        self._compare_counts(files)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close the bag."""
        self.close()

    def close(self) -> None:
        """Close the bag; harmless when it is closed."""
        self._storages = []
        self._stack.close()

    @property
    def notes(self) -> list[str]:
        """What of the bag could not be read or was read differently so far, one sentence each."""
        return list(dict.fromkeys([*self._notes, *(note for storage in self._storages for note in storage.notes)]))

    @property
    def start_ns(self) -> int:
        """Time of recording of the first image on any topic."""
        return min((t.start_ns for s in self._storages for t in s.topics if t.count), default=0)

    @property
    def end_ns(self) -> int:
        """Time of recording of the last image on any topic."""
        return max((t.end_ns for s in self._storages for t in s.topics if t.count), default=0)

    def topics(self) -> list[ImageTopic]:
        """Return all image topics that hold messages, by name."""
        counts: dict[tuple[str, str], int] = {}
        for storage in self._storages:
            for topic in filter(_is_cdr, storage.topics):
                counts[topic.name, topic.kind] = counts.get((topic.name, topic.kind), 0) + topic.count
        found = [ImageTopic(name, kind == COMPRESSED_IMAGE, count) for (name, kind), count in counts.items() if count]
        return [replace(topic, encoding=self._encoding(topic)) for topic in sorted(found, key=lambda t: t.name)]

    def choose(self, name: str | None = None) -> ImageTopic:
        """Return the image topic called `name` (raw or compressed), or the one that most likely shows people.

        Raises BadRecording naming the image topics that there are.
        """
        topics = self.topics()
        if not topics:
            why = "".join(f" {note}" for note in self.notes)
            raise BadRecording(f"The bag {shown(self._path)} has no image topic with messages.{why}")
        if name is None:
            return min(topics, key=_rank)
        wanted = "/" + name.strip("/")
        for candidate in (wanted, f"{wanted}/compressed"):
            for topic in topics:
                if topic.name == candidate:
                    return topic
        names = ", ".join(topic.name for topic in topics)
        raise BadRecording(f"The bag {shown(self._path)} has no images on {wanted}; there are images on {names}.")

    def messages(self, topic: ImageTopic) -> Iterator[tuple[int, bytes]]:
        """Yield (time of recording in nanoseconds, serialized message) in the order of recording, from all files."""
        kind = COMPRESSED_IMAGE if topic.compressed else IMAGE
        sources: list[Source] = []
        for storage in self._storages:
            stored = [t for t in storage.topics if (t.name, t.kind) == (topic.name, kind) and t.count and _is_cdr(t)]
            if stored:
                start_ns = min(t.start_ns for t in stored)
                sources.append((start_ns, partial(storage.messages, [t.key for t in stored])))
        for time_ns, data in in_order_of_time(sources):
            # Messages of a recording that compresses each of them; a serialized one begins with 0.
            if data.startswith(ZSTD_MAGIC):
                try:
                    data = zstd.decompress(data)
                except zstd.ZstdError:
                    data = b""
            yield time_ns, data

    def frames(self, topic: ImageTopic) -> Iterator[RawFrame]:
        """Yield the images of a topic like `timed_frames`, without their times of recording."""
        for _, frame in self.timed_frames(topic):
            yield frame

    def timed_frames(self, topic: ImageTopic) -> Iterator[tuple[int, RawFrame]]:
        """Yield (time of recording in nanoseconds, image stamped with its header's stamp) in the order of recording.

        What is no image is counted in `unreadable` and left out. A frame without a stamp gets its time of recording
        and is counted in `unstamped`; so do all frames where most stamps do not advance.
        """
        stamped = self._stamps_advance(topic)
        if not stamped:
            self._notes.append(
                f"The stamps on {topic.name} do not advance from frame to frame, so the times of recording were taken."
            )
        for frame, time_ns in self._decoded(topic):
            if frame is None:
                self.unreadable += 1
            elif frame.stamp_ns <= 0 or not stamped:
                self.unstamped += 1
                yield time_ns, replace(frame, stamp_ns=time_ns)
            else:
                yield time_ns, frame

    def _decoded(self, topic: ImageTopic) -> Iterator[tuple[RawFrame | None, int]]:
        """Yield (frame with its header's stamp, or None for what is no image; time of recording)."""
        kind = COMPRESSED_IMAGE if topic.compressed else IMAGE
        for time_ns, data in self.messages(topic):
            try:
                frame = _frame(self._types.deserialize_cdr(data, kind))
            except Exception:  # generated code meets arbitrary bytes
                frame = None
            yield frame, time_ns

    def _stamps_advance(self, topic: ImageTopic) -> bool:
        """Tell whether the first frames' own stamps advance at least as often as their times of recording, or mostly.

        Some drivers stamp every frame alike, or never set a stamp.
        """
        looked_at = islice(self._decoded(topic), _STAMPS_LOOKED_AT)
        pairs = [(frame.stamp_ns, time_ns) for frame, time_ns in looked_at if frame is not None]
        own, recorded = (_steps([pair[i] for pair in pairs]) for i in (0, 1))
        return own >= recorded or own > (len(pairs) - 1) / 2

    def _encoding(self, topic: ImageTopic) -> str:
        return next((frame.encoding for frame, _ in self._decoded(topic) if frame is not None), "")

    def _opened(self, paths: list[Path], scratch: Path) -> Iterator[tuple[Path, Storage]]:
        """Open the files, noting those that cannot be read."""
        for path in paths:
            try:
                storage = open_storage(path, (IMAGE, COMPRESSED_IMAGE), scratch)
            except BadRecording as error:
                self._notes.append(str(error))
                continue
            self._notes += [
                f"The images on {t.name} are serialized as {t.serialization!r} instead of 'cdr' and cannot be read."
                for t in storage.topics
                if not _is_cdr(t)
            ]
            yield path, storage

    def _add_unlisted(self, files: BagFiles, scratch: Path) -> None:
        """Take in files that metadata.yaml does not name where they go on with the recording; copies do not."""
        start_ns, end_ns = self.start_ns, self.end_ns
        for path, storage in self._opened(files.unlisted, scratch):
            times = [(t.start_ns, t.end_ns) for t in storage.topics if t.count]
            if not times:
                continue
            apart = all(end < start_ns or start > end_ns for start, end in times)
            verb = "was read too" if apart else "was left out"
            self._notes.append(f"{shown(Path(path.name))}, which metadata.yaml does not name, {verb}.")
            if apart:
                self._storages.append(storage)

    def _compare_counts(self, files: BagFiles) -> None:
        found: dict[str, int] = {}
        for topic in (t for storage in self._storages for t in storage.topics):
            found[topic.name] = found.get(topic.name, 0) + topic.count
        self._notes += [
            f"metadata.yaml counts {count} images on {name}, the files hold {found.get(name, 0)}."
            for name, count in files.metadata.counts.items()
            if count > found.get(name, 0)
        ]


def _is_cdr(topic: StoredTopic) -> bool:
    return topic.serialization == "cdr"


def _steps(times: list[int]) -> int:
    """Return how many of the times are later than all before, the first left out."""
    steps = 0
    newest = times[0] if times else 0
    for time_ns in times[1:]:
        if time_ns > newest:
            newest, steps = time_ns, steps + 1
    return steps


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
