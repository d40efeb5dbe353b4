"""Reads clips with an EMO-LLaMA: labels first, words after, nothing computed twice."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from emo_llama_ros.inference.cuda_graphs import CapturedPass
from emo_llama_ros.inference.decoding import EXTENT, CapturedDecoder, greedy_tokens, read_until
from emo_llama_ros.inference.frame_encoder import ClipFrames, FrameEncoder, VisualPrompt
from emo_llama_ros.inference.kv_cache import KVCache
from emo_llama_ros.inference.label_trie import LabelTrie
from emo_llama_ros.inference.prefix_cache import PrefixCache
from emo_llama_ros.inference.runner import LlamaRunner
from emo_llama_ros.inference.scoring import TreePass
from emo_llama_ros.model.modeling import EmoLlama

KEPT_PLANS = 16


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt around one visual block, as token ids of the language model, and its words for the Q-Formers."""

    head_ids: tuple[int, ...]
    """Everything before the visual block, the begin token included."""
    tail_ids: tuple[int, ...]
    """Everything after it, up to where the answer begins."""
    visual: VisualPrompt


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """One clip under one prompt: what the labels scored, and where to go on from."""

    log_likelihoods: Tensor
    """(labels,) float32, on the CPU."""
    head_ids: tuple[int, ...]
    embeds: Tensor
    """(n, hidden): visual block and tail, enough to prefill again if another clip took the cache."""
    row: int
    owner: object


class ClipReader:
    """One loaded model and its caches. One thread at a time.

    `score` prefills only what differs from the last clip and scores all labels in the same pass. `generate` goes on
    from the keys and values of that pass, unless another clip was scored in between.
    """

    def __init__(
        self, model: EmoLlama, trie: LabelTrie, visual_cache_bytes: int = 256 << 20, max_rows: int = 4
    ) -> None:
        self.model = model
        self.runner = LlamaRunner(model.language_model)
        self.frames = FrameEncoder(model, visual_cache_bytes)
        self.prefixes = PrefixCache(self.runner)
        self.max_rows = max_rows
        """People whose clips run as one batch."""
        self._trie = trie
        # One row stays apart from batches, so that a captured pass keeps its addresses when more people come.
        self._label_caches: dict[str, KVCache] = {}
        self._words_cache: KVCache | None = None
        self._tail: tuple[tuple[int, ...], Tensor] | None = None
        self._plans: OrderedDict[tuple[int, int, tuple[int, ...]], TreePass] = OrderedDict()
        self._captured_label: tuple[tuple[int, int], CapturedPass] | None = None
        self._decoder: CapturedDecoder | None = None
        # Passes run one after the other, so they may share their working memory.
        self.graph_pool = torch.cuda.graph_pool_handle() if self.runner.device.type == "cuda" else None

    @torch.inference_mode()
    def score(self, clips: Sequence[ClipFrames], prompts: Sequence[Prompt]) -> list[Reading]:
        """Score the labels of each clip, in order; clips under the same head and visual prompt share a batch."""
        readings: list[Reading] = []
        start = 0
        while start < len(clips):
            end = start + 1
            while end < len(clips) and end - start < self.max_rows and _alike(prompts[start], prompts[end]):
                end += 1
            readings += self._score_batch(clips[start:end], prompts[start:end])
            start = end
        return readings

    @torch.inference_mode()
    def read(self, clip: ClipFrames, prompt: Prompt) -> Reading:
        """Prepare a clip under a prompt whose answer is not scored, for example a free question."""
        block = self.frames.blocks([clip], prompt.visual)[0]
        return Reading(torch.empty(0), prompt.head_ids, self._embeds(block, prompt), 0, None)

    def generate(
        self,
        reading: Reading,
        more_ids: Sequence[int],
        stop: frozenset[int],
        max_tokens: int,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Iterator[int]:
        """Yield the greedy answer's token ids after the reading's prompt and `more_ids` (the label, another turn).

        Ends before a token in `stop`, at `max_tokens`, or within one token of `cancelled()`. A generator that is
        resumed after another one has started raises RuntimeError.
        """
        if cancelled():
            return
        owner = object()
        with torch.inference_mode():
            cache, logits, position = self._resume(reading, list(more_ids), max_tokens)
            cache.owner = owner
            decoder = self._decoder
            tokens = (
                decoder.tokens(logits, position)
                if decoder is not None and decoder.cache is cache
                else greedy_tokens(self.runner, cache, logits, position)
            )
        source = read_until(tokens, stop, max_tokens, cancelled)
        while True:
            if cache.owner is not owner:
                raise RuntimeError("Another answer was begun; only one can be generated at a time.")
            # Not around the whole loop: a suspended generator must not leave its caller in inference mode.
            with torch.inference_mode():
                token = next(source, None)
            if token is None:
                return
            yield token

    def forget(self, face_id: str) -> None:
        """Drop what is cached for a person who has left."""
        self.frames.forget(face_id)

    def release(self) -> None:
        """Free all caches and captured passes; the next call starts from nothing, and runs plainly."""
        self.frames.clear()
        for part in ("vision", "tokens", "faces"):
            self.frames.uncapture(part)
        self.prefixes.clear()
        self._plans.clear()
        self._captured_label = self._decoder = self._tail = None
        self._label_caches.clear()
        self._words_cache = None

    @torch.inference_mode()
    def score_embeds(self, embeds: Tensor, head_ids: tuple[int, ...]) -> Tensor:
        """Return the label log-likelihoods (1, labels) of one prompt whose embeddings (1, n, hidden) are ready."""
        return self._score_embeds(embeds, head_ids, (embeds.shape[1],))[0]

    # --- captured passes ---

    @torch.inference_mode()
    def capture_label(self, head_ids: tuple[int, ...], padded: int) -> None:
        """Record the scoring pass of one clip with `padded` tokens behind the head; others stay uncaptured."""
        cache = self._label_rows(1, head_ids, padded)
        plan = self._plan(len(head_ids), padded, (padded,))
        embeds = torch.zeros(
            1, padded, self.runner.embedding.weight.shape[1], device=self.runner.device, dtype=self.runner.dtype
        )
        captured = CapturedPass(lambda e: plan.run(self.runner, cache, e), embeds, pool=self.graph_pool)
        self._captured_label = ((len(head_ids), padded), captured)
        cache.owner = None

    @torch.inference_mode()
    def capture_decode(self, tokens: int) -> CapturedDecoder:
        """Record the decoding step for sequences of up to `tokens` tokens."""
        cache = self._word_row(tokens)
        cache.prefix = ()  # recording writes to the first slots
        self._decoder = CapturedDecoder(self.runner, cache, self.graph_pool)
        return self._decoder

    def uncapture(self, part: str) -> None:
        """Run "label" or "decode" plainly again."""
        if part == "label":
            self._captured_label = None
        else:
            self._decoder = None

    # --- parts ---

    def _score_batch(self, clips: Sequence[ClipFrames], prompts: Sequence[Prompt]) -> list[Reading]:
        head = prompts[0].head_ids
        blocks = self.frames.blocks(clips, prompts[0].visual)
        rows = [self._embeds(block, prompt) for block, prompt in zip(blocks, prompts, strict=True)]
        lengths = tuple(len(row) for row in rows)
        embeds = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True) if len(rows) > 1 else rows[0][None]
        # (B, N, hidden)
        scores, cache = self._score_embeds(embeds, head, lengths)
        owner = cache.owner = object()
        scores = scores.cpu()
        return [Reading(scores[i], head, row, i, owner) for i, row in enumerate(rows)]

    def _score_embeds(self, embeds: Tensor, head: tuple[int, ...], lengths: tuple[int, ...]) -> tuple[Tensor, KVCache]:
        rows, padded = embeds.shape[:2]
        cache = self._label_rows(rows, head, padded)
        cache.owner = None
        captured = self._captured_label
        if captured is not None and rows == 1 and captured[0] == (len(head), padded):
            return captured[1](embeds), cache
        return self._plan(len(head), padded, lengths).run(self.runner, cache, embeds), cache

    def _embeds(self, block: Tensor, prompt: Prompt) -> Tensor:
        if self._tail is None or self._tail[0] != prompt.tail_ids:
            ids = torch.tensor(prompt.tail_ids, dtype=torch.long, device=self.runner.device)
            self._tail = prompt.tail_ids, self.runner.embed(ids)
        return torch.cat([block.to(self.runner.dtype), self._tail[1]])

    def _plan(self, prefix: int, padded: int, lengths: tuple[int, ...]) -> TreePass:
        key = (prefix, padded, lengths)
        plan = self._plans.get(key)
        if plan is None:
            plan = TreePass(self._trie, prefix, padded, lengths, self.runner.dtype, self.runner.device)
            self._plans[key] = plan
            if len(self._plans) > KEPT_PLANS:
                self._plans.popitem(last=False)
        self._plans.move_to_end(key)
        return plan

    def _label_rows(self, rows: int, head_ids: tuple[int, ...], padded: int) -> KVCache:
        need = len(head_ids) + padded + len(self._trie)
        kind = "batch" if rows > 1 else "single"
        cache = self._label_caches.get(kind)
        if cache is None or cache.rows < rows or cache.slots < need:
            if kind == "single":
                self._captured_label = None
            cache = None
            self._label_caches.pop(kind, None)  # free the old one first
            cache = self._label_caches[kind] = self.runner.new_cache(rows, -(-need // 64) * 64)
        self.prefixes.place(head_ids, cache)
        return cache

    def _word_row(self, tokens: int) -> KVCache:
        cache = self._words_cache
        if cache is None or cache.slots < tokens:
            self._decoder = self._words_cache = cache = None
            cache = self._words_cache = self.runner.new_cache(1, -(-tokens // EXTENT) * EXTENT)
        return cache

    def _resume(self, reading: Reading, more_ids: list[int], max_tokens: int) -> tuple[KVCache, Tensor, int]:
        """Bring a reading's keys and values into the word cache; return it, the last logits, and the next position."""
        prefix, own = len(reading.head_ids), len(reading.embeds)
        length = prefix + own
        cache = self._word_row(length + len(more_ids) + max_tokens)
        source = next((c for c in self._label_caches.values() if c.owner is reading.owner), None)
        ids = torch.tensor(more_ids, dtype=torch.long, device=self.runner.device)
        if reading.owner is not None and source is not None and more_ids:
            cache.prefix = ()
            cache.copy_row(source, reading.row, length)
            cache.prefix = reading.head_ids
            return cache, self.runner.extend(self.runner.embed(ids[None]), cache, length), length + len(ids)
        self.prefixes.place(reading.head_ids, cache)
        embeds = torch.cat([reading.embeds, self.runner.embed(ids)])[None]
        return cache, self.runner.extend(embeds, cache, prefix), length + len(ids)


def _alike(a: Prompt, b: Prompt) -> bool:
    return a.head_ids == b.head_ids and a.visual.prompt_hash == b.visual.prompt_hash
