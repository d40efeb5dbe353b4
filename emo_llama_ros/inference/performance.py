"""Choose the fastest way to run by running each, and say why."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import torch

from emo_llama_ros.inference.clip_reader import ClipReader, Prompt
from emo_llama_ros.inference.cuda_graphs import CapturedPass
from emo_llama_ros.inference.decoding import greedy_tokens

Mode = Literal["auto", "plain", "compile"]
TIMED_PASSES = 5
TIMED_TOKENS = 16
CAPTURED_FRAMES = 2  # new frames that a clip brings at most when labels come at 2 Hz from 8 frames in 2 s


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen, and one sentence why."""

    captured: tuple[str, ...]
    """Parts that replay a CUDA graph: "vision", "tokens", "label", "decode"."""
    reason: str


def tune(reader: ClipReader, mode: Mode, prompt: Prompt, frames: int, max_tokens: int) -> Choice:
    """Set `reader` up for clips of `frames` frames under `prompt` and answers of up to `max_tokens` tokens.

    On a GPU each part (vision tower, token generation, label pass, decoding step) is recorded as a CUDA graph and
    timed against the plain one; the faster stays. "compile" also fuses the small operations with torch.compile,
    "plain" does nothing. On a CPU there is nothing to record: a compiled decoder was measured to gain 6 % after a
    minute of compiling.
    """
    if mode == "plain":
        return Choice((), "plain because it was asked for.")
    if reader.runner.device.type != "cuda":
        return Choice((), "plain because CUDA graphs need a GPU.")
    notes = []
    if mode == "compile":
        notes.append(_attempt("pointwise operations", reader.runner.compile_pointwise))
    captured = []
    rows = frames * (reader.model.config.visual_tokens_per_frame + reader.model.config.face_tokens_per_frame)
    padded = rows + len(prompt.tail_ids)
    length = len(prompt.head_ids) + padded + max_tokens + 64  # the label, a second turn
    for part, race in (
        ("vision", lambda: _race_vision(reader)),
        ("tokens", lambda: _race_tokens(reader, prompt)),
        ("label", lambda: _race_label(reader, prompt, padded)),
        ("decode", lambda: _race_decode(reader, length)),
    ):
        if part in ("vision", "tokens") and reader.model.vision_tower is None:
            continue
        try:
            plain_ms, graph_ms = race()
        except (RuntimeError, NotImplementedError) as reason:
            notes.append(f"{part} plain because it cannot be recorded ({str(reason).splitlines()[0][:120]})")
            torch.cuda.synchronize()
            _uncapture(reader, part)
            continue
        if graph_ms < plain_ms:
            captured.append(part)
        else:
            _uncapture(reader, part)
        better, worse = ("graph", "plain") if graph_ms < plain_ms else ("plain", "graph")
        low, high = sorted((plain_ms, graph_ms))
        notes.append(f"{part} {better} {low:.2f} ms ({worse} {high:.2f} ms)")
    return Choice(tuple(captured), "; ".join(note for note in notes if note) + ".")


def _race_vision(reader: ClipReader) -> tuple[float, float]:
    model = reader.model
    assert model.config.vision is not None
    size = model.config.vision.image_size
    weight = model.vision_tower.embeddings.patch_embedding.weight  # type: ignore[union-attr]
    passes = {}
    for count in range(1, CAPTURED_FRAMES + 1):
        pixels = torch.zeros(count, 3, size, size, device=weight.device, dtype=weight.dtype)
        passes[count] = CapturedPass(model.encode_frames, pixels, pool=reader.graph_pool)
    pixels = pixels[:1]
    plain = milliseconds(lambda: model.encode_frames(pixels))
    graph = milliseconds(lambda: passes[1](pixels))

    def encode(pixels: torch.Tensor) -> torch.Tensor:
        captured = passes.get(len(pixels))
        return captured(pixels) if captured is not None else model.encode_frames(pixels)

    reader.frames.encode = encode
    return plain, graph


@torch.inference_mode()
def _race_tokens(reader: ClipReader, prompt: Prompt) -> tuple[float, float]:
    model, plainly = reader.model, reader.frames.generate_plainly
    assert model.config.vision is not None
    words, mask = prompt.visual.prompt_ids, prompt.visual.prompt_mask
    rows = 1 + model.config.vision.num_patches
    features = torch.zeros(CAPTURED_FRAMES, rows, model.config.vision.hidden_size, device=model.device)
    passes = {}
    for count in range(1, CAPTURED_FRAMES + 1):
        inputs = features[:count].to(model.dtype), words.repeat(count, 1), mask.repeat(count, 1)
        passes[count, words.shape[1]] = CapturedPass(plainly, *inputs, pool=reader.graph_pool)
    one = features[:1].to(model.dtype), words, mask
    plain = milliseconds(lambda: plainly(*one))
    graph = milliseconds(lambda: passes[1, words.shape[1]](*one))

    def generate(features: torch.Tensor, prompt_ids: torch.Tensor, prompt_mask: torch.Tensor) -> torch.Tensor:
        captured = passes.get((prompt_ids.shape[0], prompt_ids.shape[1]), plainly)
        return captured(features, prompt_ids, prompt_mask)

    reader.frames.generate = generate
    return plain, graph


@torch.inference_mode()
def _race_label(reader: ClipReader, prompt: Prompt, padded: int) -> tuple[float, float]:
    width = reader.runner.embedding.weight.shape[1]
    embeds = torch.zeros(1, padded, width, device=reader.runner.device, dtype=reader.runner.dtype)
    plain = milliseconds(lambda: reader.score_embeds(embeds, prompt.head_ids))
    reader.capture_label(prompt.head_ids, padded)
    return plain, milliseconds(lambda: reader.score_embeds(embeds, prompt.head_ids))


@torch.inference_mode()
def _race_decode(reader: ClipReader, length: int) -> tuple[float, float]:
    runner = reader.runner
    decoder = reader.capture_decode(length)
    logits = torch.zeros(reader.model.config.llm.vocab_size, device=runner.device)
    start = length - TIMED_TOKENS - 2
    plain = milliseconds(lambda: list(islice(greedy_tokens(runner, decoder.cache, logits, start), TIMED_TOKENS)))
    graph = milliseconds(lambda: list(islice(decoder.tokens(logits, start), TIMED_TOKENS)))
    return plain / TIMED_TOKENS, graph / TIMED_TOKENS


def _uncapture(reader: ClipReader, part: str) -> None:
    if part in ("vision", "tokens"):
        reader.frames.uncapture(part)
    else:
        reader.uncapture(part)


def _attempt(what: str, action: Callable[[], None]) -> str:
    try:
        action()
    except Exception as reason:  # a missing compiler shows as any of a dozen exceptions
        return f"{what} not compiled ({type(reason).__name__}: {str(reason).splitlines()[0][:120]})"
    return f"{what} compiled"


def milliseconds(run: Callable[[], object], passes: int = TIMED_PASSES) -> float:
    """Return the median time of `run` in milliseconds, after one untimed call; waits for the GPU around each."""
    run()
    times = []
    for _ in range(passes):
        _wait()
        begin = time.perf_counter()
        run()
        _wait()
        times.append(time.perf_counter() - begin)
    return 1e3 * statistics.median(times)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
