"""image → faces → clips: everything that happens to a frame before a model reads it."""

from __future__ import annotations

from dataclasses import dataclass

from emo_llama_ros.faces.face import Face, FaceAnalyzer
from emo_llama_ros.frames import SECOND_NS, Frame
from emo_llama_ros.options import Options
from emo_llama_ros.perception.baseline import Baselines
from emo_llama_ros.perception.clips import Clip, ClipWindows
from emo_llama_ros.perception.stamps import FrameInterval, StampGrid
from emo_llama_ros.perception.tracking import Tracker


@dataclass(frozen=True, slots=True)
class Observation:
    """What one frame brought."""

    due: tuple[Clip, ...] = ()
    """Clips to be labelled now."""
    nobody: bool = False
    """Whether it is time to say that nobody is in view."""
    ended: tuple[str, ...] = ()
    """Ids of tracks that ended with this frame."""
    people: tuple[tuple[str, Face], ...] = ()
    """Everyone visible in this frame; faces that no clip needs are found, but not read."""


class Perception:
    """Finds and follows the people in a stream of frames and cuts a clip of each when it is due.

    People are followed in every frame. Their last landmarks say where to look; the whole image is searched
    `search_rate_hz` times a second, when somebody was lost, and while nobody is there. Once people are known, their
    faces are read in keyframes only, because clips hold nothing else. All this is decided by stamps, so a replay does
    the same.
    """

    def __init__(self, options: Options, analyzer: FaceAnalyzer) -> None:
        self._analyzer = analyzer
        self.interval = FrameInterval()
        self._tracker = Tracker(options, self.interval)
        self._baselines = Baselines(options)
        self._windows = ClipWindows(options, self.interval)
        self._nobody = StampGrid(round(SECOND_NS / options.label_rate_hz))
        self._search = StampGrid(round(SECOND_NS / options.search_rate_hz))
        self._faces: list[Face] = []
        self._frame_id = ""
        self._sizes: dict[str, float] = {}
        self.frames_with_faces = 0

    def observe(self, frame: Frame) -> Observation:
        """Analyze one frame; frames must come in the order of their stamps."""
        self._frame_id = frame.frame_id
        self.interval.add(frame.stamp_ns)
        everywhere = self._search.enters(frame.stamp_ns)
        faces = self._faces = self._analyzer.find(frame.rgb, self._faces, everywhere)
        self.frames_with_faces += bool(faces)
        people = dict(self._tracker.update(frame.stamp_ns, faces))
        ended = tuple(self._tracker.ended())
        for face_id in ended:
            self._forget(face_id)
        wanted = [face_id for face_id in people if self._windows.wants(face_id, frame.stamp_ns)]
        read = self._analyzer.read(frame.rgb, [people[face_id] for face_id in wanted])
        people |= zip(wanted, read, strict=True)
        due = []
        for face_id in people:
            self._sizes[face_id] = people[face_id].box.width
            if face_id not in wanted:
                continue
            self._baselines.add(face_id, frame.stamp_ns, people[face_id])
            if self._windows.add(face_id, frame.stamp_ns, people[face_id]):
                due.append(self._cut(face_id))
        # Somebody hidden for a moment is still there, and so is a face too new to have an id.
        nobody = not faces and not self._sizes and self._nobody.enters(frame.stamp_ns)
        return Observation(tuple(clip for clip in due if clip), nobody, ended, tuple(people.items()))

    def clip_of(self, face_id: str = "") -> Clip | None:
        """Return the clip of a person as it is now; of the largest face when `face_id` is empty."""
        if not face_id and self._sizes:
            face_id = max(self._sizes, key=lambda f: self._sizes[f])
        return self._cut(face_id)

    def flush(self) -> tuple[str, ...]:
        """Forget all tracks and windows, and return their ids: what comes next has nothing to do with what was."""
        ended = tuple(self._sizes)
        self._tracker.reset()
        self._baselines.reset()
        self._windows.flush()
        self._nobody.reset()
        self._search.reset()
        self._faces = []
        self._sizes.clear()
        return ended

    def _cut(self, face_id: str) -> Clip | None:
        return self._windows.cut(face_id, self._frame_id, self._baselines.of(face_id))

    def _forget(self, face_id: str) -> None:
        self._windows.forget(face_id)
        self._baselines.forget(face_id)
        self._sizes.pop(face_id, None)
