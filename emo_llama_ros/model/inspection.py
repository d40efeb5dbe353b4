"""Say what a checkpoint is, what it needs and whether it can run here, without loading it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from emo_llama_ros import prompts
from emo_llama_ros.errors import EmoError
from emo_llama_ros.findings import Finding, Level
from emo_llama_ros.model.checkpoint import (
    CALIBRATION,
    CHECKSUMS,
    Checkpoint,
    open_checkpoint,
    verify_checksums,
)
from emo_llama_ros.model.footprint import (
    CONTEXT_TOKENS,
    KV_CACHE,
    WORKSPACE,
    build_template,
    memory_need,
    parameter_count,
    weight_need,
)
from emo_llama_ros.model.loading import choose_quantization, stored_shapes
from emo_llama_ros.model.memory import MemoryNeed, free_memory, gigabytes
from emo_llama_ros.model.modeling import EmoLlama
from emo_llama_ros.model.placement import Placement, choose_placement
from emo_llama_ros.model.processing import BERT_VOCAB_FILE, QFormerTokenizer, load_text_tokenizer
from emo_llama_ros.model.quantization import Method, check_shapes, self_test
from emo_llama_ros.model.weights import stream_weights

COMFORTABLE = 0.85
"""A model that takes more than this share of what is free leaves little to the robot's other programs."""


def model_report(
    path: Path | str, device: str = "auto", quantization: str = "auto", dtype: str = "auto", verify: bool = True
) -> list[Finding]:
    """Return findings about the checkpoint at `path`, in the order a person wants to read them.

    Nothing is loaded; with `verify` every file is read once for its checksum. An EmoError on the way becomes the last
    finding: what comes after it could not be found out.
    """
    findings: list[Finding] = []
    try:
        for finding in _findings(path, device, quantization, dtype, verify):
            findings.append(finding)
    except EmoError as error:
        findings.append(Finding(Level.FAIL, "model", str(error)))
    return findings


def _findings(path: Path | str, device: str, quantization: str, dtype: str, verify: bool) -> Iterator[Finding]:
    checkpoint = open_checkpoint(path)
    template = build_template(checkpoint.config)
    count = parameter_count(template)
    yield Finding(Level.OK, "checkpoint", _identity(checkpoint, count))
    yield from _integrity(checkpoint, template, verify)
    yield from _companions(checkpoint)
    method = choose_quantization(checkpoint, quantization, template)
    placement = choose_placement(device, dtype, count)
    yield Finding(Level.OK, "device", placement.reason)
    need = memory_need(template, method, placement.dtype, placement.device)
    yield Finding(Level.OK, "memory", _need_sentence(need, method))
    yield _fit(checkpoint, template, need, method, placement)
    check_shapes(template.language_model, method)
    self_test(placement.device, method, placement.dtype)
    if method != "none":
        yield Finding(Level.OK, "kernel", f"The {method} kernel computes correctly on {placement.device}.")


def _identity(checkpoint: Checkpoint, parameters: int) -> str:
    kind = "a published LLaMA-VID checkpoint" if checkpoint.published else "an EMO-LLaMA checkpoint"
    config = checkpoint.config
    parts = [*(["vision tower"] if config.vision else []), *(["face branch"] if config.face else [])]
    labels = f", label set {checkpoint.manifest.label_set}" if checkpoint.manifest else ""
    return (
        f"{checkpoint.folder} is {kind} with {' and '.join(parts)}: {parameters / 1e6:,.1f} million parameters, "
        f"{gigabytes(checkpoint.shards.size)} on disk in {len(checkpoint.shards.files)} file(s), quantization "
        f"{checkpoint.quantization}{labels}."
    )


def _integrity(checkpoint: Checkpoint, template: EmoLlama, verify: bool) -> Iterator[Finding]:
    tensors = sum(1 for _ in stream_weights(checkpoint, stored_shapes(template, checkpoint.quantization)))
    yield Finding(Level.OK, "weights", f"All {tensors} tensors are there, in the right shapes.")
    if not verify:
        return
    if verify_checksums(checkpoint.folder):
        yield Finding(Level.OK, "checksums", "Every file is as it was written (SHA-256).")
    elif not checkpoint.published:
        yield Finding(
            Level.WARN,
            "checksums",
            f"The folder has no {CHECKSUMS}, so a damaged or exchanged file would go unnoticed.",
            "write it again with `emo_llama convert`",
        )


def _companions(checkpoint: Checkpoint) -> Iterator[Finding]:
    load_text_tokenizer(checkpoint.folder)
    config = checkpoint.config
    qformer = config.qformer or (config.face.aggregator if config.face else None)
    if qformer is not None:
        pieces = len(QFormerTokenizer(checkpoint.folder / BERT_VOCAB_FILE))
        if pieces > qformer.vocab_size:
            yield Finding(
                Level.FAIL,
                "tokenizers",
                f"{BERT_VOCAB_FILE} has {pieces} pieces, but the Q-Former knows {qformer.vocab_size}: it is another "
                "vocabulary than the one it was trained with.",
            )
    if checkpoint.manifest is None:
        yield Finding(
            Level.WARN,
            "checkpoint",
            "A published folder has no face branch, labels or checksums.",
            "run `emo_llama convert` on it",
        )
        return
    if checkpoint.manifest.prompt_hash not in ("", prompts.prompt_hash()):
        yield Finding(
            Level.WARN,
            "prompts",
            f"The model was made for prompts {checkpoint.manifest.prompt_hash}, but this version asks with "
            f"{prompts.prompt_hash()}: its accuracy may differ.",
        )
    if not (checkpoint.folder / CALIBRATION).is_file():
        yield Finding(
            Level.WARN, "calibration", f"There is no {CALIBRATION}: confidences are the model's raw probabilities."
        )


def _need_sentence(need: MemoryNeed, method: Method) -> str:
    parts = ", ".join(f"{part} {gigabytes(count)}" for part, count in need.parts.items())
    return (
        f"With quantization {method} it needs {gigabytes(need.total)} of memory: {parts} "
        f"(KV cache for {CONTEXT_TOKENS} tokens at {need.kv_per_token / 1e6:.2f} MB each)."
    )


def _fit(checkpoint: Checkpoint, template: EmoLlama, need: MemoryNeed, method: Method, placement: Placement) -> Finding:
    available = free_memory(placement.device)
    free = f"{gigabytes(available.free)} of {gigabytes(available.total)} {available.where}"
    shared = " The GPU takes it from the CPU's memory." if available.unified else ""
    if need.total <= available.free * COMFORTABLE:
        return Finding(Level.OK, "memory", f"It fits: {free} are free.{shared}")
    if need.total <= available.free:
        return Finding(
            Level.WARN, "memory", f"It just fits: {free} are free, which leaves little for other programs.{shared}"
        )
    smaller = _smaller(checkpoint, template, method, placement, available.free)
    return Finding(
        Level.FAIL,
        "memory",
        f"It does not fit: it needs {gigabytes(need.total)}, but only {free} are free.{shared}",
        smaller,
    )


def _smaller(checkpoint: Checkpoint, template: EmoLlama, method: Method, placement: Placement, free: int) -> str:
    """Say what would fit: the first tighter quantization that does, or what else to do."""
    tighter: dict[Method, tuple[Method, ...]] = {"none": ("int8", "nf4"), "int8": ("nf4",), "nf4": ()}
    for other in tighter[method]:
        if checkpoint.quantization == "none":
            need = memory_need(template, other, placement.dtype, placement.device)
            if need.total <= free:
                return f"quantization:={other} needs {gigabytes(need.total)} and fits"
    need = memory_need(template, method, placement.dtype, placement.device)
    if weight_need(need.parts) > free:
        return "close other programs, or use a smaller model or a machine with more memory"
    return f"close other programs ({KV_CACHE} and {WORKSPACE} are what is missing)"
