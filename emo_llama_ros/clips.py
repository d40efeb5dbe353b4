"""Per-person time windows: which frames of a track the model looks at, and when."""

from __future__ import annotations

from dataclasses import dataclass

from emo_llama_ros.faces.face import Face, QualityFlaw


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
