"""The camera's side of the product: put a frame in without waiting, get estimates out by callback."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

from emo_llama_ros.backends.backend import ModelInfo
from emo_llama_ros.estimate import Estimate
from emo_llama_ros.frames import RawFrame

UNRESPONSIVE_S = 5.0
MAX_QUESTION_CHARACTERS = 1000
MAX_ID_CHARACTERS = 256
"""Of a face_id in a question, and of the frame_id and encoding of an image."""


class EngineState(Enum):
    """What the model side is doing."""

    STOPPED = "stopped"
    LOADING = "loading"
    READY = "ready"
    UNRESPONSIVE = "unresponsive"
    """It was ready, and has shown no life for longer than `UNRESPONSIVE_S`."""
    RESTARTING = "restarting"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class EngineStats:
    """Counters since start: `received` = `used` + `skipped` + the sum of `drops` + `in_flight`."""

    state: EngineState = EngineState.STOPPED
    message: str = ""
    """One sentence for the operator when something is wrong, else empty."""
    received: int = 0
    """Frames submitted."""
    used: int = 0
    """Frames decoded and searched for faces."""
    skipped: int = 0
    """Frames left undecoded because analysis_rate_hz asks for fewer."""
    in_flight: int = 0
    """Frames being looked at, or waiting for that: never more than two."""
    drops: Mapping[str, int] = field(default_factory=dict)
    """Frames lost, by reason: disabled, busy, bad_image, not_ready, worker_lost, …"""
    clips: Mapping[str, int] = field(default_factory=dict)
    """Clips by fate: labelled, superseded, stale, …; `unexplained_clips` adds them up."""
    people: int = 0
    latency_ms: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Stage name → (p50, p95) over the last few hundred estimates."""
    worker_memory_mb: float = 0.0
    restarts: int = 0
    last_restart: str = ""
    """Why the worker was last restarted, one sentence; "" when it never was."""
    last_bad_image: str = ""
    converter: str = ""
    """Who turns image messages into pixels, and why."""
    frames_with_faces: int = 0
    """Of the frames used, those in which a face was found."""
    remarks: tuple[str, ...] = ()
    """Sentences on what is odd about the stream of frames, each with its remedy."""
    silence: str = ""
    """Why no estimate has come since the start, one sentence; "" when one has."""


CLIP_FATES = (
    "labelled",  # published
    "failed",  # the model could not read it: published as ERROR
    "late",  # its label came when the clip was older than max_age_s
    "stale",  # it was older than max_age_s before the model was free
    "superseded",  # a newer clip of the same person came before the model was free
    "unchanged",  # skip_unchanged
    "gone",  # its person left
    "flushed",  # the clock jumped, the camera was switched off, or the engine stopped
    "worker_lost",  # it was with a worker process that ended
    "waiting",
    "in_work",
)


def unexplained_clips(clips: Mapping[str, int]) -> int:
    """Return how many of the clips that were due have no fate: 0, or something is wrong."""
    return clips.get("due", 0) - sum(clips.get(fate, 0) for fate in CLIP_FATES)


@dataclass(frozen=True, slots=True)
class TimedEstimate:
    """An estimate on its way from the model side to whoever is to have it. Times are `time.monotonic_ns()`."""

    estimate: Estimate
    counted_as: str
    """The fate under which the model side has counted its clip."""
    arrived_ns: int
    """When the clip's newest frame arrived, or its question was asked."""
    deadline_ns: int | None = None
    """When it is older than max_age_s, and worth nothing; None for what has no such limit."""
    ticket: Any = None
    """That of the question it answers, else None."""


@dataclass(frozen=True, slots=True)
class LiveStats:
    """What the model side counts, wherever it runs; see `EngineStats` for the meaning."""

    clips: Mapping[str, int]
    people: int
    latency_ms: Mapping[str, tuple[float, float]]
    last_bad_image: str
    busy_s: float
    """How long model or face networks have shown no life at their present work; 0 when idle or still loading."""
    converter: str = ""
    frames_with_faces: int = 0


@dataclass(frozen=True, slots=True)
class Question:
    """A request of the ask action: who, and what to ask; empty text asks for label and reasoning only."""

    face_id: str = ""
    text: str = ""
    timeout_s: float = 10.0

    def fault(self) -> str:
        """Return one sentence why this cannot be asked, "" when it can: nothing long is sent or tokenized."""
        if len(self.text) > MAX_QUESTION_CHARACTERS:
            return f"A question has at most {MAX_QUESTION_CHARACTERS} characters, this one {len(self.text)}."
        if len(self.face_id) > MAX_ID_CHARACTERS:
            return f"There is nobody with an id of {len(self.face_id)} characters."
        return ""


class Engine(Protocol):
    """The model side, in this process or in a worker process: same calls, same results.

    Callbacks come from a thread of the engine, one at a time; they must not block.
    """

    def start(self) -> None:
        """Return at once; loading goes on behind. Progress and failure show in `stats()`."""

    def submit(self, frame: RawFrame) -> None:
        """Hand a frame over and return at once. The newest frame wins; what is not used is counted."""

    def ask(
        self,
        question: Question,
        on_estimate: Callable[[Estimate], None],
        on_text: Callable[[str], None],
        on_refused: Callable[[str], None],
    ) -> None:
        """Answer a question about a person in view by callback.

        Comes first the LABEL estimate, then pieces of text, then the FINAL estimate whose reasoning is the complete
        answer; or one sentence why there will be no answer. `question.timeout_s` is for the caller to keep.
        """

    def flush(self) -> None:
        """Empty all windows and tracks, for example when the clock jumped.

        No estimate of what came before is published after this; questions stay.
        """

    def set_live_option(self, name: str, value: object) -> None:
        """Change an option whose `Spec.live` is true.

        `enabled` false also wipes everything that was seen: nothing of it is published, no question is answered from
        it, and a question that waits is refused.
        """

    def stats(self) -> EngineStats:
        """Return a snapshot of the counters."""

    @property
    def model_info(self) -> ModelInfo | None:
        """The loaded model; None until READY."""

    def stop(self, timeout_s: float = 1.5) -> None:
        """Stop within `timeout_s`, killing what does not stop, and free the model's memory."""
