"""Per-person time windows: which frames of a track the model looks at, and when.

Everything is decided by capture stamps, never by arrival, so the same recording gives the same clips. Time is cut into
a fixed grid of cells; the first frame that falls into a new cell of `clip_s / clip_frames` is a keyframe. Overlapping
clips therefore share their keyframes, and whatever a backend computes for one frame it can use again in the next clip.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from emo_llama_ros.faces.face import Face, QualityFlaw
from emo_llama_ros.frames import SECOND_NS
from emo_llama_ros.options import Options
from emo_llama_ros.perception.stamps import FrameInterval, StampGrid


@dataclass(frozen=True, slots=True)
class Clip:
    """One person over one time window: `faces[i]` was captured at `stamps_ns[i]`, oldest first, never empty."""

    face_id: str
    frame_id: str
    stamps_ns: tuple[int, ...]
    faces: tuple[Face, ...]
    baseline: dict[str, float] | None = None
    """The person's neutral `Face.measures`, learned on this track; None until there is enough evidence for one."""

    @property
    def stamp_ns(self) -> int:
        """Capture time of the newest frame."""
        return self.stamps_ns[-1]

    @property
    def start_ns(self) -> int:
        """Capture time of the oldest frame."""
        return self.stamps_ns[0]

    @property
    def flaws(self) -> QualityFlaw:
        """The flaws of the newest frame: what stands in the way of reading the face now."""
        return self.faces[-1].flaws


@dataclass(slots=True)
class _Window:
    """The keyframes of one track."""

    frames: deque[tuple[int, Face]]
    first_ns: int
    keyframes: StampGrid
    labels: StampGrid
    newest_ns: int


class ClipWindows:
    """Collects the keyframes of every track and cuts a clip when one is due."""

    def __init__(self, options: Options, interval: FrameInterval | None = None) -> None:
        """Make windows for frames that come at this `interval`."""
        self._interval = interval or FrameInterval()
        self._length = options.clip_frames
        self._clip_ns = round(options.clip_s * SECOND_NS)
        self._first_after_ns = round(options.clip_min_s * SECOND_NS)
        self._max_gap_ns = round(options.max_gap_s * SECOND_NS)
        self._label_ns = round(SECOND_NS / options.label_rate_hz)
        self._windows: dict[str, _Window] = {}

    def wants(self, face_id: str, stamp_ns: int) -> bool:
        """Note that a person was seen, and return whether their face should be read in this frame.

        It should in every keyframe, and in all frames of the first `clip_s`, so that their baseline is known soon.
        """
        window = self._window(face_id, stamp_ns)
        return stamp_ns - window.first_ns < self._clip_ns or window.keyframes.would_enter(stamp_ns)

    def add(self, face_id: str, stamp_ns: int, face: Face) -> bool:
        """Add one sighting; return whether a clip of this person is due now."""
        window = self._window(face_id, stamp_ns)
        if not window.keyframes.enters(stamp_ns):
            return False
        window.frames.append((stamp_ns, face))
        while window.frames[0][0] <= stamp_ns - self._clip_ns:
            window.frames.popleft()
        # Where the next frame is further away than clip_min_s, the first is all there is to go by.
        if stamp_ns - window.first_ns < self._first_after_ns and self._interval.ns < self._first_after_ns:
            return False
        return window.labels.enters(stamp_ns)

    def cut(self, face_id: str, frame_id: str, baseline: dict[str, float] | None = None) -> Clip | None:
        """Return the clip of a person as it is now; None for a person without keyframes."""
        window = self._windows.get(face_id)
        if window is None or not window.frames:
            return None
        stamps, faces = zip(*window.frames, strict=True)
        return Clip(face_id, frame_id, stamps, faces, baseline)

    def forget(self, face_id: str) -> None:
        """Drop the window of a track that has ended."""
        self._windows.pop(face_id, None)

    def flush(self) -> None:
        """Drop all windows."""
        self._windows.clear()

    def _window(self, face_id: str, stamp_ns: int) -> _Window:
        """Return the window of somebody seen now: a gap of more than `max_gap_s` empties it, so no clip spans one."""
        window = self._windows.get(face_id)
        if window is None or stamp_ns - window.newest_ns > self._interval.gap_ns(self._max_gap_ns):
            window = self._windows[face_id] = self._open(stamp_ns)
        window.newest_ns = stamp_ns
        return window

    def _open(self, stamp_ns: int) -> _Window:
        keyframes = StampGrid(self._clip_ns // self._length)
        return _Window(deque(maxlen=self._length), stamp_ns, keyframes, StampGrid(self._label_ns), stamp_ns)
