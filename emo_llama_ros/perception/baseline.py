"""A person's neutral face, learned while they are followed."""

from __future__ import annotations

from collections import deque
from statistics import median

from emo_llama_ros.faces.face import Face, QualityFlaw
from emo_llama_ros.frames import SECOND_NS
from emo_llama_ros.labels import RAF_DB
from emo_llama_ros.options import Options

MIN_NEUTRAL = 0.6
"""Probability of neutral from which the network's reading counts as a neutral face."""
MIN_EYE_OPENING = 0.15
"""A blink is no neutral face."""
MIN_FRAMES, MIN_SPAN_S = 5, 0.4
MAX_FRAMES = 100
"""The median is over the newest so many neutral frames."""
MAX_TURN_DEG = 20.0
"""Only faces turned less than this are learned from; further, the measures drift with the pose."""

_NEUTRAL = RAF_DB.index("neutral")


class Baselines:
    """Keeps for each followed person the median of their measures over frames that read as neutral.

    A baseline depends on the frames alone, so a replay learns the same one.
    """

    def __init__(self, options: Options) -> None:
        self._frames: dict[str, deque[tuple[int, dict[str, float]]]] = {}
        self._medians: dict[str, dict[str, float]] = {}

    def add(self, face_id: str, stamp_ns: int, face: Face) -> None:
        """Learn from a face, if it is neutral and well seen."""
        if not _is_neutral(face):
            return
        frames = self._frames.setdefault(face_id, deque(maxlen=MAX_FRAMES))
        frames.append((stamp_ns, dict(face.measures)))
        self._medians.pop(face_id, None)

    def of(self, face_id: str) -> dict[str, float] | None:
        """Return the baseline of a person, None until there were enough neutral frames over enough time."""
        frames = self._frames.get(face_id)
        if not frames or len(frames) < MIN_FRAMES or frames[-1][0] - frames[0][0] < MIN_SPAN_S * SECOND_NS:
            return None
        if face_id not in self._medians:
            self._medians[face_id] = {name: median(m[name] for _, m in frames) for name in frames[0][1]}
        return self._medians[face_id]

    def forget(self, face_id: str) -> None:
        """Drop what was learned about a person."""
        self._frames.pop(face_id, None)
        self._medians.pop(face_id, None)

    def reset(self) -> None:
        """Drop everybody's baseline."""
        self._frames.clear()
        self._medians.clear()


def _is_neutral(face: Face) -> bool:
    if face.expression is None or face.pose is None or not face.measures or face.flaws != QualityFlaw.NONE:
        return False
    if max(abs(face.pose.yaw), abs(face.pose.pitch)) > MAX_TURN_DEG:
        return False
    return float(face.expression[_NEUTRAL]) >= MIN_NEUTRAL and face.measures["eye_opening"] >= MIN_EYE_OPENING
