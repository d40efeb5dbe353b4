"""What can stand in for a camera: a bag, videos and pictures, or a webcam, as frames with their times."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from emo_llama_ros.errors import BadRecording
from emo_llama_ros.frames import RawFrame
from emo_llama_ros.images.files import medium_of, shown
from emo_llama_ros.recordings.bags import ImageBag
from emo_llama_ros.recordings.media import file_frames, webcam_frames

TOPIC = "/camera/image_raw"
_SUFFIX = "/compressed"
_PERIOD_NS = 33_333_333
_LONGEST_PERIOD_NS = 1_000_000_000

TimedFrames = Iterator[tuple[int, RawFrame]]
"""(time in nanoseconds, frame): when it was recorded, or is grabbed."""


@dataclass(frozen=True, slots=True)
class Playable:
    """A source of frames."""

    name: str
    """For people: "webcam 0", "my_bag"."""
    topic: str
    """Base topic of the images: where they were recorded, or TOPIC."""
    open: Callable[[], TimedFrames]
    """Return the frames from the start; raises BadRecording."""
    live: bool = False
    """The frames come at their own pace and are stamped with the wall clock."""
    notes: Callable[[], Sequence[str]] = tuple
    """What could not be read so far, one sentence each."""


def webcam(source: str, fps: float | None = None) -> Playable:
    """Return a camera by its index, device path or stream address; a file plays over and over instead.

    Nothing is opened yet. Raises BadRecording for what is none of these.
    """
    if source.isdecimal():
        camera: int | str = int(source)
    elif "://" in source or source.startswith("/dev/"):
        camera = source
    elif Path(source).is_file():
        files = [Path(source)]
        return Playable(shown(files[0]), TOPIC, lambda: looped(lambda: _timed(file_frames(files, fps=fps))))
    else:
        raise BadRecording(
            f"There is no camera or video {source}: name a camera by its number (0 is the first), its device "
            "(/dev/video0) or its address (rtsp://…), or a video file."
        )
    return Playable(f"webcam {source}", TOPIC, lambda: _timed(webcam_frames(camera, fps)), live=True)


@contextmanager
def recording(paths: Sequence[Path], topic: str | None = None) -> Iterator[Playable]:
    """Open a bag, or videos and pictures that follow one another.

    `topic` chooses the image topic of a bag (by name and encoding if None). Raises BadRecording where there is nothing
    to play.
    """
    media = [path for path in paths if medium_of(path) is not None]
    if len(media) < len(paths) and len(paths) > 1:
        other = next(path for path in paths if path not in media)
        why = "can only be played alone" if other.exists() else "is not there"
        raise BadRecording(f"{shown(other)} {why}: several files must be pictures and videos.")
    if media:
        yield Playable(", ".join(shown(Path(p.name)) for p in paths), TOPIC, lambda: _timed(file_frames(paths)))
        return
    with ImageBag(paths[0]) as bag:
        chosen = bag.choose(topic)

        def notes() -> list[str]:
            lost = bag.unreadable
            return [*bag.notes, *([f"{lost} messages on {chosen.name} are no valid images."] if lost else [])]

        yield Playable(
            shown(Path(paths[0].resolve().name)),
            chosen.name.removesuffix(_SUFFIX) if chosen.compressed else chosen.name,
            lambda: bag.timed_frames(chosen),
            notes=notes,
        )


def looped(start: Callable[[], TimedFrames]) -> TimedFrames:
    """Yield frames over and over, times and stamps going on by a frame's period from each end to the next start.

    Ends when there is none at all.
    """
    shift_ns = 0
    while True:
        first_ns = last_ns = None
        period_ns = _PERIOD_NS
        for time_ns, frame in start():
            first_ns = time_ns if first_ns is None else first_ns
            if last_ns is not None and time_ns > last_ns:
                period_ns = min(time_ns - last_ns, _LONGEST_PERIOD_NS)
            last_ns = time_ns
            yield time_ns + shift_ns, replace(frame, stamp_ns=frame.stamp_ns + shift_ns)
        if first_ns is None or last_ns is None:
            return
        shift_ns += last_ns - first_ns + period_ns


def _timed(frames: Iterator[RawFrame]) -> TimedFrames:
    for frame in frames:
        yield frame.stamp_ns, frame
