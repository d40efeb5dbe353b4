"""Choose the fastest way to run by running each, and say why."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice
from typing import Literal

import torch
from torch import Tensor

from emo_llama_ros.inference.clip_reader import ClipReader, Prompt
from emo_llama_ros.inference.cuda_graphs import RecordedPasses
from emo_llama_ros.inference.decoding import greedy_tokens
from emo_llama_ros.model.face_mining import FacePriors
from emo_llama_ros.model.modeling import EmoLlama

Mode = Literal["auto", "plain", "compile"]
TIMED_PASSES = 5
TIMED_TOKENS = 16
CAPTURED_FRAMES = 2  # new frames that a clip brings at most when labels come at 2 Hz from 8 frames in 2 s


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen, and one sentence why."""

    captured: tuple[str, ...]
    """Parts that replay a CUDA graph: "vision", "tokens", "faces", "label", "decode"."""
    reason: str


def tune(reader: ClipReader, mode: Mode, prompt: Prompt, frames: int, max_tokens: int) -> Choice:
    """Set `reader` up for clips of `frames` frames under `prompt` and answers of up to `max_tokens` tokens.

    On a GPU each part (vision tower, token generation, face tokens, label pass, decoding step) is recorded as a CUDA
    graph and timed against the plain one; the faster stays. "compile" also fuses the small operations with
    torch.compile, "plain" does nothing. On a CPU there is nothing to record: a compiled decoder was measured to gain
    6 % after a minute of compiling.
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
        ("faces", lambda: _race_faces(reader, prompt)),
        ("label", lambda: _race_label(reader, prompt, padded)),
        ("decode", lambda: _race_decode(reader, length)),
    ):
        if not _has(part, reader.model):
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


@torch.inference_mode()
def _race_vision(reader: ClipReader) -> tuple[float, float]:
    model, config = reader.model, reader.model.config.vision
    assert config is not None
    shape = (3, config.image_size, config.image_size)
    examples = [
        (torch.zeros(count, *shape, device=model.device, dtype=model.dtype),) for count in range(1, CAPTURED_FRAMES + 1)
    ]
    recorded = reader.frames.encode = RecordedPasses(model.encode_frames, examples, reader.graph_pool)
    return milliseconds(lambda: model.encode_frames(*examples[0])), milliseconds(lambda: recorded(*examples[0]))


@torch.inference_mode()
def _race_tokens(reader: ClipReader, prompt: Prompt) -> tuple[float, float]:
    model, plainly, config = reader.model, reader.frames.generate_plainly, reader.model.config.vision
    assert config is not None
    shape = (1 + config.num_patches, config.hidden_size)
    examples = [
        (torch.zeros(count, *shape, device=model.device, dtype=model.dtype), *_words(prompt, count))
        for count in range(1, CAPTURED_FRAMES + 1)
    ]
    recorded = reader.frames.generate = RecordedPasses(plainly, examples, reader.graph_pool)
    return milliseconds(lambda: plainly(*examples[0])), milliseconds(lambda: recorded(*examples[0]))


@torch.inference_mode()
def _race_faces(reader: ClipReader, prompt: Prompt) -> tuple[float, float]:
    plainly = reader.frames.mine_plainly
    blank = _blank_priors(reader.model, CAPTURED_FRAMES)
    given = [name for name in ("embedding", "landmarks", "evidence") if getattr(blank, name) is not None]

    def run(*inputs: Tensor) -> Tensor:
        *priors, ids, mask = inputs
        return plainly(replace(blank, **dict(zip(given, priors, strict=True))), ids, mask)

    examples = [(*blank[:count].given, *_words(prompt, count)) for count in range(1, CAPTURED_FRAMES + 1)]
    recorded = RecordedPasses(run, examples, reader.graph_pool)
    reader.frames.mine = lambda priors, ids, mask: recorded(*priors.given, ids, mask)
    return milliseconds(lambda: run(*examples[0])), milliseconds(lambda: recorded(*examples[0]))


def _words(prompt: Prompt, count: int) -> tuple[Tensor, Tensor]:
    visual = prompt.visual
    return visual.prompt_ids.expand(count, -1), visual.prompt_mask.expand(count, -1)


def _blank_priors(model: EmoLlama, count: int) -> FacePriors:
    """Return priors of the shapes that the model reads; feature maps have the size they are pooled to."""
    face = model.config.face
    assert face is not None

    def zeros(*shape: int) -> Tensor:
        return torch.zeros(count, *shape, device=model.device, dtype=model.dtype)

    grid = (face.global_grid, face.global_grid) if face.embedding_is_map else ()
    return FacePriors(
        torch.ones(count, dtype=torch.bool, device=model.device),
        zeros(face.embedding_dim, *grid) if face.embedding_dim else None,
        zeros(face.num_landmarks, 2) if face.landmark_regions else None,
        zeros(face.evidence_dim) if face.evidence_dim else None,
    )


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


def _has(part: str, model: EmoLlama) -> bool:
    if part == "faces":
        return model.face_branch is not None and model.face_branch.config.scope == "frame"
    return model.vision_tower is not None or part not in ("vision", "tokens")


def _uncapture(reader: ClipReader, part: str) -> None:
    if part in ("vision", "tokens", "faces"):
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
