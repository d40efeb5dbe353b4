"""What was computed for a frame stays until its person leaves: overlapping clips share their frames."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar


class Sized(Protocol):
    """Anything that knows its size in memory (a tensor or an array)."""

    @property
    def nbytes(self) -> int:
        """Bytes held."""


V = TypeVar("V", bound=Sized)


@dataclass(frozen=True, slots=True)
class FrameKey:
    """One frame of one person; `prompt_hash` is empty for what does not depend on the prompt."""

    face_id: str
    stamp_ns: int
    prompt_hash: str = ""


class VisualCache(Generic[V]):
    """Least recently used frames give way when `max_bytes` is exceeded. One thread at a time.

    Only visual tokens can be kept: their keys and values in the language model depend on everything before them, and
    in a sliding window that changes with every clip.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.nbytes = 0
        self._entries: OrderedDict[Hashable, tuple[str, V]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: FrameKey) -> V | None:
        """Return what was kept for `key`, or None."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry[1]

    def put(self, key: FrameKey, value: V) -> None:
        """Keep `value`; a value larger than the whole cache is not kept."""
        self._remove(key)
        if value.nbytes > self.max_bytes:
            return
        self._entries[key] = (key.face_id, value)
        self.nbytes += value.nbytes
        while self.nbytes > self.max_bytes:
            self._remove(next(iter(self._entries)))

    def forget(self, face_id: str) -> None:
        """Drop every frame of a person."""
        for key in [key for key, (owner, _) in self._entries.items() if owner == face_id]:
            self._remove(key)

    def clear(self) -> None:
        """Drop everything."""
        self._entries.clear()
        self.nbytes = 0

    def _remove(self, key: Hashable) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.nbytes -= entry[1].nbytes
