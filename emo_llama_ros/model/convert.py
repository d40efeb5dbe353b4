"""Turn a published LLaMA-VID checkpoint, or one of ours, with adapters into one self-describing folder.

The weights stream from the source into the new files, merged and quantized on the way: the peak of memory is one shard
of each, whatever the size of the model.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from emo_llama_ros import prompts
from emo_llama_ros.errors import BadParameter, MissingModel
from emo_llama_ros.labels import label_set as find_label_set
from emo_llama_ros.model.checkpoint import (
    CALIBRATION,
    MANIFEST,
    Checkpoint,
    Manifest,
    open_checkpoint,
    read_manifest,
    verify_checksums,
    write_checksums,
    write_description,
)
from emo_llama_ros.model.configuration import EmoLlamaConfig
from emo_llama_ros.model.footprint import build_template, parameter_count
from emo_llama_ros.model.loading import LLM, choose_quantization, stored_shapes, with_adapters_face
from emo_llama_ros.model.placement import DTYPES, Placement, choose_placement
from emo_llama_ros.model.processing import BERT_VOCAB_FILE, SENTENCEPIECE_FILE, TOKENIZERS_FILE
from emo_llama_ros.model.quantization import Method, check_shapes, quantizable_linears, quantize_weight, self_test
from emo_llama_ros.model.shards import MAX_SHARD_BYTES, ShardWriter
from emo_llama_ros.model.weights import stream_weights

CARD = "README.md"

_TOKENIZER_FILES = (
    SENTENCEPIECE_FILE,
    TOKENIZERS_FILE,
    "tokenizer_config.json",
    "special_tokens_map.json",
    BERT_VOCAB_FILE,
)


@dataclass(frozen=True, slots=True)
class Conversion:
    """What was written."""

    folder: Path
    parameters: int
    source_bytes: int
    written_bytes: int
    quantization: Method
    seconds: float


def convert(
    source: Path | str,
    out: Path | str,
    *,
    adapters: Sequence[Path | str] = (),
    quantization: str = "keep",
    dtype: str = "auto",
    device: str = "auto",
    label_set: str = "",
    qformer_vocab: Path | str | None = None,
    tokenizer: Path | str | None = None,
    config: EmoLlamaConfig | None = None,
    overwrite: bool = False,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    progress: Callable[[str, int], None] = lambda name, count: None,
) -> Conversion:
    """Write `out` from `source` and `adapters`; `progress` gets each tensor's name and its bytes as they are read.

    quantization: keep, none, nf4, int8. dtype: number format of what is not quantized; "auto" keeps the source's, or
    takes bfloat16 for a published one. device: where to quantize. label_set: "" keeps the adapters' or the source's.
    qformer_vocab: bert-base-uncased's vocab.txt, which published folders lack. tokenizer: a folder or file with the
    language model's tokenizer, where the source has none. Nothing is at `out` until everything was written.
    Raises MissingModel, BadCheckpoint or BadParameter.
    """
    start = time.perf_counter()
    out, folders = Path(out).expanduser(), [Path(adapter).expanduser() for adapter in adapters]
    checkpoint = with_adapters_face(open_checkpoint(source, config), folders)
    _check_target(out, checkpoint.folder, overwrite)
    template = build_template(checkpoint.config)
    method = checkpoint.quantization
    if quantization != "keep":
        method = choose_quantization(checkpoint, quantization, template)
    check_shapes(template.language_model, method)
    manifest = _manifest(checkpoint, method, dtype, label_set, folders)
    placement = choose_placement(device, manifest.dtype)
    if method != checkpoint.quantization:
        self_test(placement.device, method, placement.dtype)
    verify_checksums(checkpoint.folder)
    files = _files_to_copy(checkpoint.folder, folders, qformer_vocab, tokenizer, needs_vocab=_has_qformer(checkpoint))
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        writer = ShardWriter(partial, max_shard_bytes)
        _write_weights(writer, checkpoint, folders, method, placement, progress)
        write_description(partial, checkpoint.config, manifest)
        for name, file in files.items():
            shutil.copyfile(file, partial / name)
        parameters = parameter_count(template)
        (partial / CARD).write_text(_card(out.name, checkpoint.config, manifest, parameters), encoding="utf-8")
        write_checksums(partial)
        if out.exists():
            shutil.rmtree(out)
        partial.replace(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    seconds = time.perf_counter() - start
    return Conversion(out, parameters, checkpoint.shards.size, writer.total_bytes, method, seconds)


def _write_weights(
    writer: ShardWriter,
    checkpoint: Checkpoint,
    adapters: Sequence[Path],
    method: Method,
    placement: Placement,
    progress: Callable[[str, int], None],
) -> None:
    template = build_template(checkpoint.config)
    expected = stored_shapes(template, checkpoint.quantization)
    quantize = set()
    if method != checkpoint.quantization:
        quantize = {f"{LLM}{name}.weight" for name, _ in quantizable_linears(template.language_model)}
    for name, tensor in stream_weights(checkpoint, expected, adapters):
        progress(name, tensor.numel() * tensor.element_size())
        if name in quantize:
            module = name.removesuffix("weight")
            for entry, part in quantize_weight(tensor.to(placement.device), method, placement.dtype).items():
                writer.add(f"{module}{entry}", part)
        else:
            writer.add(name, _cast(tensor, placement.dtype, stored_quantized=expected[name] is None))
    writer.close()


def _cast(tensor: Tensor, dtype: torch.dtype, stored_quantized: bool) -> Tensor:
    # The float32 statistics of a quantized weight are part of its exact value.
    return tensor.to(dtype) if tensor.is_floating_point() and not stored_quantized else tensor


def _manifest(checkpoint: Checkpoint, method: Method, dtype: str, label_set: str, adapters: Sequence[Path]) -> Manifest:
    before = checkpoint.manifest or Manifest(base=checkpoint.folder.resolve().name, prompt_hash=prompts.prompt_hash())
    for folder in adapters:
        if (folder / MANIFEST).is_file():
            trained = read_manifest(folder)
            before = replace(before, label_set=trained.label_set, prompt_hash=trained.prompt_hash)
    name = label_set or before.label_set
    if dtype == "auto":
        dtype = before.dtype
    if dtype not in DTYPES:
        raise BadParameter(f"dtype must be auto, {', '.join(DTYPES)}, not '{dtype}'.")
    return replace(
        before,
        quantization=method,
        dtype=dtype,
        label_set=name,
        labels=find_label_set(name).labels,
        adapters=(*before.adapters, *(folder.resolve().name for folder in adapters)),
    )


def _check_target(out: Path, source: Path, overwrite: bool) -> None:
    if out.resolve() == source.resolve() or out.resolve() in source.resolve().parents:
        raise BadParameter(f"{out} holds the source; choose another folder.")
    if out.exists() and not overwrite and (not out.is_dir() or any(out.iterdir())):
        raise BadParameter(f"{out} exists already; choose another folder, or overwrite it with --overwrite.")


def _has_qformer(checkpoint: Checkpoint) -> bool:
    return checkpoint.config.qformer is not None or checkpoint.config.face is not None


def _files_to_copy(
    source: Path,
    adapters: Sequence[Path],
    qformer_vocab: Path | str | None,
    tokenizer: Path | str | None,
    needs_vocab: bool,
) -> dict[str, Path]:
    """Find the files that go along: name in the new folder → where it is now. Later sources win."""
    files: dict[str, Path] = {}
    for folder in (source, *adapters):
        files |= {name: folder / name for name in (*_TOKENIZER_FILES, CALIBRATION) if (folder / name).is_file()}
    if tokenizer is not None:
        given = Path(tokenizer).expanduser()
        folder = given if given.is_dir() else given.parent
        files |= {name: folder / name for name in _TOKENIZER_FILES if (folder / name).is_file()}
    if qformer_vocab is not None:
        files[BERT_VOCAB_FILE] = Path(qformer_vocab).expanduser()
    if SENTENCEPIECE_FILE not in files and TOKENIZERS_FILE not in files:
        raise MissingModel(
            f"{source} has neither {SENTENCEPIECE_FILE} nor {TOKENIZERS_FILE}; name the folder of the language "
            "model's tokenizer with --tokenizer."
        )
    if needs_vocab and not files.get(BERT_VOCAB_FILE, Path()).is_file():
        raise MissingModel(
            f"The Q-Former reads prompts with the vocabulary of bert-base-uncased, which {source} does not hold; name "
            "its vocab.txt with --qformer-vocab."
        )
    return files


def _card(name: str, config: EmoLlamaConfig, manifest: Manifest, parameters: int) -> str:
    """Write the first lines of a model card; the rest is for whoever trained the model."""
    parts = [
        "LLaMA language model",
        *(["EVA-CLIP vision tower and Q-Former (LLaMA-VID)"] if config.vision else []),
        *(["face branch (Face Info Mining)"] if config.face else []),
    ]
    merged = ", ".join(manifest.adapters) or "none"
    return (
        f"# {name}\n\n"
        f"EMO-LLaMA checkpoint written by {manifest.made_by}. Load it with `model_path`, inspect it with\n"
        f"`emo_llama doctor --model`.\n\n"
        "| | |\n|---|---|\n"
        f"| parts | {'; '.join(parts)} |\n"
        f"| parameters | {parameters / 1e6:,.1f} million |\n"
        f"| quantization | {manifest.quantization} (language model's linears only), rest {manifest.dtype} |\n"
        f"| made from | {manifest.base or 'unknown'} |\n"
        f"| adapters merged | {merged} |\n"
        f"| label set | {manifest.label_set}: {', '.join(manifest.labels)} |\n"
        f"| prompts | {manifest.prompt_hash or 'unknown'} |\n\n"
        "To be filled in by whoever publishes it: training data and its licence, evaluation (WAR, UAR) and on which\n"
        "people, intended use, known failures. The licences of the base checkpoint apply to this folder.\n"
    )
