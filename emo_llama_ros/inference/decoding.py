"""Greedy decoding in a loop of our own: words stream out, and a cancel is obeyed within one token."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from emo_llama_ros.inference.cuda_graphs import CapturedPass
from emo_llama_ros.inference.kv_cache import KVCache
from emo_llama_ros.inference.runner import LlamaRunner

REPLACEMENT = "\ufffd"
EXTENT = 256  # slots; captured steps attend to a multiple of this


class Detokenizer(Protocol):
    """The part of a tokenizer that is needed to read its tokens."""

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of `ids`, without special tokens."""


def greedy_tokens(runner: LlamaRunner, cache: KVCache, logits: Tensor, position: int) -> Iterator[int]:
    """Yield the most likely next tokens without end, starting from `logits` (vocab,) of the token before `position`.

    Row 0 of the cache holds slots 0..position-1; each token is read into the next slot when one more is asked for.
    """
    token = logits.argmax()
    while True:
        yield int(token)
        if position >= cache.slots:
            return
        token = read_token(runner, cache, token, position).argmax()
        position += 1


def read_token(runner: LlamaRunner, cache: KVCache, token: Tensor, position: int) -> Tensor:
    """Read one token id into slot `position` of row 0; return the logits (vocab,) of the next one."""
    slot = torch.tensor([position], device=runner.device)
    hidden = runner.hidden_states(runner.embed(token.view(1, 1)), slot[None], cache, slot, position + 1, mask=None)
    return runner.logits(hidden[0, -1])


class CapturedDecoder:
    """Greedy decoding of row 0 of one cache with a CUDA graph per token.

    The GPU is kept one token ahead of the host, so that turning tokens into text costs it no time. A graph attends to
    a fixed number of slots (a multiple of 256), the unused ones masked.
    """

    def __init__(self, runner: LlamaRunner, cache: KVCache, pool: Any = None) -> None:
        self._runner, self.cache = runner, cache
        self._token = torch.zeros(1, 1, dtype=torch.long, device=runner.device)
        self._position = torch.zeros(1, dtype=torch.long, device=runner.device)
        self._steps: dict[int, CapturedPass] = {}
        self._host = [torch.zeros(1, 1, dtype=torch.long).pin_memory() for _ in range(2)]
        self._done = [torch.cuda.Event() for _ in range(2)]
        for extent in range(EXTENT, cache.slots + 1, EXTENT):
            self._steps[extent] = CapturedPass(self._step_of(extent), pool=pool)

    def _step_of(self, extent: int) -> Callable[[], Tensor]:
        runner, everywhere = self._runner, torch.arange(extent, device=self._runner.device)
        never = torch.full((), float("-inf"), dtype=runner.dtype, device=runner.device)
        always = torch.zeros((), dtype=runner.dtype, device=runner.device)

        def step() -> Tensor:
            mask = torch.where(everywhere <= self._position, always, never)[None, None, None]
            hidden = runner.hidden_states(
                runner.embed(self._token), self._position[None], self.cache, self._position, extent, mask
            )
            logits = runner.logits(hidden[:, -1])
            self._token.copy_(logits.argmax(-1, keepdim=True))
            self._position.add_(1)
            return logits

        return step

    def read(self, token: int, position: int) -> Tensor:
        """Read a given token into slot `position`; return the logits (1, vocab) after it, until the next call."""
        self._token.fill_(token)
        self._position.fill_(position)
        return self._step(position)

    def tokens(self, logits: Tensor, position: int) -> Iterator[int]:
        """Yield tokens as `greedy_tokens` does."""
        self._token.copy_(logits.argmax().view(1, 1))
        self._position.fill_(position)
        self._fetch(0)
        turn = 0
        while True:
            ahead = position < max(self._steps, default=0)
            if ahead:
                self._step(position)
                self._fetch(1 - turn)
                position += 1
            self._done[turn].synchronize()
            yield int(self._host[turn])
            if not ahead:
                return
            turn = 1 - turn

    def _step(self, position: int) -> Tensor:
        return self._steps[-(-(position + 1) // EXTENT) * EXTENT]()

    def _fetch(self, turn: int) -> None:
        self._host[turn].copy_(self._token, non_blocking=True)
        self._done[turn].record()


def read_until(
    tokens: Iterable[int], stop: frozenset[int], max_tokens: int, cancelled: Callable[[], bool] = lambda: False
) -> Iterator[int]:
    """Yield tokens up to, and without, the first one in `stop`; end after `max_tokens` or when `cancelled()`."""
    if max_tokens <= 0 or cancelled():
        return
    for count, token in enumerate(tokens, 1):
        if token in stop or cancelled():
            return
        yield token
        if count == max_tokens:
            return


def stream_text(tokens: Iterable[int], tokenizer: Detokenizer) -> Iterator[str]:
    """Yield pieces of text whose concatenation is the text of all tokens; never half a character.

    Decoding starts again from the last piece boundary, since a token's text depends on its neighbours (spaces,
    characters of several bytes).
    """
    context: list[int] = []
    fresh: list[int] = []
    for token in tokens:
        fresh.append(token)
        piece = _tail(tokenizer, context, fresh)
        if piece and not piece.endswith(REPLACEMENT):
            yield piece
            context, fresh = fresh, []
    if fresh and (piece := _tail(tokenizer, context, fresh)):
        yield piece


def _tail(tokenizer: Detokenizer, context: list[int], fresh: list[int]) -> str:
    before = tokenizer.decode(context) if context else ""
    return tokenizer.decode(context + fresh)[len(before) :]
