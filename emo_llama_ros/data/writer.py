"""What can write a conversation about a labelled face."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from emo_llama_ros.errors import EmoError
from emo_llama_ros.frames import Frame
from emo_llama_ros.prompts import Turn


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that an item cost, unusable answers included."""

    prompt_tokens: int = 0
    completion_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.prompt_tokens + other.prompt_tokens, self.completion_tokens + other.completion_tokens)


class WriterUnusable(EmoError):
    """No item can succeed: wrong address, key, model or request."""


class ItemFailed(Exception):
    """This item failed; others may succeed. `usage` is what it cost all the same."""

    def __init__(self, reason: str, usage: Usage | None = None) -> None:
        super().__init__(reason)
        self.usage = usage or Usage()


class Writer(Protocol):
    """Writes a conversation of one or two turns."""

    async def converse(self, frames: Sequence[Frame], label: str) -> tuple[tuple[Turn, ...], Usage]:
        """Return the turns about `frames`, oldest first, and what they cost; raise ItemFailed or WriterUnusable."""

    async def close(self) -> None:
        """Free connections and models."""
