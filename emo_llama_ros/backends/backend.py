"""The one interface between a clip and whatever reads it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from emo_llama_ros.estimate import NAN, ActionUnit, Status
from emo_llama_ros.labels import LabelSet
from emo_llama_ros.options import Options
from emo_llama_ros.perception.clips import Clip


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Which model answers; fields as in msg/ModelInfo.msg, empty where unknown."""

    backend: str
    model: str
    label_set: LabelSet
    checkpoint: str = ""
    checksum: str = ""
    quantization: str = "none"
    device: str = "cpu"
    dtype: str = ""
    prompt_hash: str = ""
    calibration: str = "identity"


@dataclass(frozen=True, slots=True)
class LabelAnswer:
    """The first step of the answer: probabilities over the closed label set."""

    probabilities: tuple[float, ...]
    """Calibrated, same order as `ModelInfo.label_set.labels`, sums to 1; empty unless status is OK."""
    action_units: tuple[ActionUnit, ...] = ()
    valence: float = NAN
    arousal: float = NAN
    status: Status = Status.OK
    message: str = ""
    """One sentence why, when status is ERROR or UNPARSED."""
    frames: int = 0
    """How many of the clip's newest frames were looked at; 0 means all."""
    state: Any = None
    """What `explain` can continue from (a KV cache, the measured evidence); opaque to everyone else."""


class Backend(Protocol):
    """Label first, reasoning after. Used by one thread at a time."""

    @property
    def info(self) -> ModelInfo:
        """Valid after `load`."""

    def load(self) -> None:
        """Bring the model into memory; raise EmoError with a sentence for the operator when that is impossible."""

    def label(self, clips: Sequence[Clip]) -> list[LabelAnswer]:
        """Answer several people's clips as one batch, in order, each as if it had been alone."""

    def explain(
        self, clip: Clip, answer: LabelAnswer, question: str = "", cancelled: Callable[[], bool] = lambda: False
    ) -> Iterator[str]:
        """Stream the reasoning (or the answer to a free question) in pieces; stop within one token of `cancelled()`."""

    def forget(self, face_id: str) -> None:
        """Drop whatever is cached for a track that has ended."""

    def close(self) -> None:
        """Free the model's memory. The backend can be loaded again."""


@dataclass(frozen=True, slots=True)
class Declaration:
    """What a backend says of itself before any of its packages is imported.

    Each choice of the option `backend` is a module of this folder with a `DECLARATION` of that name.
    """

    name: str
    make: Callable[[Options], Backend]
    """Imports what the backend needs, and returns it, not yet loaded."""
    label_sets: tuple[str, ...]
    """Names of the label sets in which it can answer."""
    packages: tuple[str, ...] = ()
    """Modules that it needs beside those that are always installed."""
    extra: str = ""
    """The extra of this package that brings them, "" where none is needed."""
    reads_mesh: bool = False
    """Whether it answers from what is measured on landmarks, so that a face without them is an error."""
    options: frozenset[str] = frozenset()
    """Options of the group `model` that it reads beside label_set, calibration_file and min_confidence."""
