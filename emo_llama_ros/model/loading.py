"""Load a checkpoint, and save one.

Loading builds the model without memory and fills it tensor by tensor while the files stream by, quantizing on the way:
the peak is the loaded model plus the file that is mapped at the moment.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from emo_llama_ros.errors import BadCheckpoint, BadParameter, OutOfMemory
from emo_llama_ros.model.checkpoint import (
    Checkpoint,
    Manifest,
    face_config_of,
    open_checkpoint,
    verify_checksums,
    write_checksums,
    write_description,
)
from emo_llama_ros.model.configuration import EmoLlamaConfig, FaceConfig
from emo_llama_ros.model.face_mining import FaceBranch
from emo_llama_ros.model.footprint import build_template, memory_need, parameter_count
from emo_llama_ros.model.memory import FreeMemory, MemoryNeed, check_fits, is_out_of_memory, release_memory
from emo_llama_ros.model.modeling import EmoLlama
from emo_llama_ros.model.placement import Placement, choose_placement
from emo_llama_ros.model.quantization import (
    Method,
    as_method,
    check_entries,
    entry_names,
    mark_quantized,
    quantizable_linears,
    quantize_weight,
    replace_linears,
    self_test,
)
from emo_llama_ros.model.shards import MAX_SHARD_BYTES, ShardWriter
from emo_llama_ros.model.weights import EMBEDDINGS, HEAD, stream_weights

LARGE_LLM_PARAMETERS = 2_000_000_000
"""From here on, quantization "auto" means NF4 for a checkpoint that is not quantized."""

LLM = "language_model."
FACE_BRANCH = "face_branch."

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What was loaded, how, and why so."""

    checkpoint: Checkpoint
    parameters: int
    quantization: Method
    placement: Placement
    need: MemoryNeed
    free: FreeMemory
    """As measured before loading."""
    verified: bool
    """Whether checksums were there and were compared."""
    seconds: float
    notes: tuple[str, ...] = ()
    """Sentences for the operator."""


def load_model(
    path: Path | str,
    *,
    quantization: str = "auto",
    device: str = "auto",
    dtype: str = "auto",
    adapters: Sequence[Path | str] = (),
    config: EmoLlamaConfig | None = None,
    new_face_branch: FaceConfig | None = None,
    verify: bool = True,
    attn_implementation: str | None = None,
) -> tuple[EmoLlama, LoadReport]:
    """Load a folder of ours or a published LLaMA-VID folder, ready to run (eval mode).

    quantization: auto, none, nf4, int8; "auto" keeps the checkpoint's own and takes NF4 for a large one that has none.
    adapters: folders merged in order before quantization. config: see `open_checkpoint`. new_face_branch: adds a face
    branch with random weights, for training. verify=False skips reading all files for their checksums.
    Raises MissingModel, BadCheckpoint, BadParameter, OutOfMemory, or EmoError when a quantized kernel does not work.
    """
    start = time.perf_counter()
    folders = [Path(adapter).expanduser() for adapter in adapters]
    checkpoint = with_adapters_face(open_checkpoint(path, config), folders)
    if new_face_branch is not None:
        if checkpoint.config.face is not None:
            raise BadParameter(f"{checkpoint.folder} has a face branch already; it cannot get a new one.")
        checkpoint = checkpoint.with_face(new_face_branch)
    template = build_template(checkpoint.config, attn_implementation)
    parameters = parameter_count(template)
    method = choose_quantization(checkpoint, quantization, template)
    placement = choose_placement(device, dtype, parameters)
    need = memory_need(template, method, placement.dtype, placement.device)
    free = check_fits(need, placement.device, _advice(method))
    self_test(placement.device, method, placement.dtype)
    verified = verify_checksums(checkpoint.folder) if verify else False
    try:
        _fill(template, checkpoint, method, placement, folders, fresh_face=new_face_branch is not None)
    except Exception as error:
        if isinstance(error, OutOfMemory) or not is_out_of_memory(error):
            raise
        del template
        release_memory()
        raise OutOfMemory(
            f"Memory ran out while {checkpoint.folder} was loaded on {placement.device}; {_advice(method)}."
        ) from error
    seconds = time.perf_counter() - start
    notes = _notes(method, placement)
    logger.info("Loaded %s (%s) in %.1f s. %s", checkpoint.folder, method, seconds, placement.reason)
    return template, LoadReport(
        checkpoint, parameters, method, placement, need, free, verified, seconds, (placement.reason, *notes)
    )


def save_model(
    model: EmoLlama, folder: Path | str, manifest: Manifest | None = None, max_shard_bytes: int = MAX_SHARD_BYTES
) -> None:
    """Write a model as a checkpoint folder: weights, config, manifest, checksums. Tokenizers are the caller's to add.

    A quantized model is saved quantized, exactly as it was loaded, also after it ran. The quantization and dtype of
    the manifest are the model's own. Call `checkpoint.write_checksums` again after adding files.
    """
    folder = Path(folder)
    writer = ShardWriter(folder, max_shard_bytes)
    tied = model.config.llm.tie_word_embeddings
    for name, tensor in model.state_dict().items():
        if not (tied and name == HEAD):
            writer.add(name, tensor)
    writer.close()
    dtype = str(model.dtype).removeprefix("torch.")
    manifest = replace(manifest or Manifest(), quantization=quantization_of(model), dtype=dtype)
    write_description(folder, model.config, manifest)
    write_checksums(folder)


def quantization_of(model: EmoLlama) -> Method:
    """Return how the language model's linears are stored now."""
    if getattr(model.language_model, "is_loaded_in_4bit", False):
        return "nf4"
    return "int8" if getattr(model.language_model, "is_loaded_in_8bit", False) else "none"


def stored_shapes(template: EmoLlama, method: Method) -> dict[str, tuple[int, ...] | None]:
    """Return name → shape of every tensor in a checkpoint that is quantized by `method`.

    `template` is unquantized. Shapes of quantized tensors are None: `check_entries` knows them.
    """
    shapes: dict[str, tuple[int, ...] | None] = {
        name: tuple(tensor.shape) for name, tensor in template.state_dict().items()
    }
    if template.config.llm.tie_word_embeddings:
        shapes.pop(HEAD, None)
    if method != "none":
        for linear, _ in quantizable_linears(template.language_model):
            del shapes[f"{LLM}{linear}.weight"]
            shapes |= dict.fromkeys(f"{LLM}{linear}.{entry}" for entry in entry_names(method))
    return shapes


def choose_quantization(checkpoint: Checkpoint, wanted: str, template: EmoLlama) -> Method:
    """Decide how the language model is held; raise BadParameter when a quantized checkpoint cannot become `wanted`."""
    stored = checkpoint.quantization
    if wanted == "auto":
        large = parameter_count(template.language_model) >= LARGE_LLM_PARAMETERS
        return "nf4" if stored == "none" and large else stored
    method = as_method(wanted)
    if stored not in ("none", method):
        raise BadParameter(
            f"{checkpoint.folder} is quantized as {stored} and cannot be loaded as {method}; use quantization:=auto, "
            "or convert the original checkpoint again."
        )
    return method


def with_adapters_face(checkpoint: Checkpoint, adapters: Sequence[Path]) -> Checkpoint:
    """Return the checkpoint with the face branch that the last adapter having one brings along."""
    for adapter in adapters:
        face = face_config_of(adapter)
        if face is not None:
            checkpoint = checkpoint.with_face(face)
    return checkpoint


def _fill(
    model: EmoLlama,
    checkpoint: Checkpoint,
    method: Method,
    placement: Placement,
    adapters: Sequence[Path],
    fresh_face: bool,
) -> None:
    """Give every tensor of a model on the meta device its memory and value."""
    device, dtype = placement.device, placement.dtype
    expected = stored_shapes(model, checkpoint.quantization)
    if fresh_face:
        expected = {name: shape for name, shape in expected.items() if not name.startswith(FACE_BRANCH)}
    linears = {f"{LLM}{name}": linear for name, linear in quantizable_linears(model.language_model)}
    sizes = {name: (linear.out_features, linear.in_features) for name, linear in linears.items()}
    replace_linears(model.language_model, method, dtype)
    mark_quantized(model, method)
    entry_of = {
        f"{name}.{entry}": (name, entry)
        for name in (linears if method != "none" else ())
        for entry in entry_names(checkpoint.quantization)
    }
    partial: dict[str, dict[str, Tensor]] = {}
    # Views of mapped files cost nothing, but hold the whole file; a file that is quantized away must be let go.
    keep_views = method == checkpoint.quantization
    for name, tensor in stream_weights(checkpoint, expected, adapters):
        if name not in entry_of:
            _assign(model, name, _placed(tensor, device, dtype, keep_views))
            continue
        linear, entry = entry_of[name]
        if checkpoint.quantization == "none":
            entries = quantize_weight(tensor.to(device), method, dtype)
        else:
            partial.setdefault(linear, {})[entry] = tensor
            if len(partial[linear]) < len(entry_names(method)):
                continue
            entries = partial.pop(linear)
            check_entries(linear, entries, method, sizes[linear])
        layer = model.get_submodule(linear)
        layer.install(entries, device)  # type: ignore[operator]
    if fresh_face:
        assert model.config.face is not None
        attn = model.language_model.config._attn_implementation
        model.face_branch = FaceBranch(model.config.face, model.config.llm.hidden_size, attn).to(device, dtype)
    if model.config.llm.tie_word_embeddings:
        _assign(model, HEAD, model.get_parameter(EMBEDDINGS))
    model.restore_buffers()
    model.eval()
    empty = [name for name, tensor in (*model.named_parameters(), *model.named_buffers()) if tensor.is_meta]
    if empty:
        raise BadCheckpoint(f"The model's tensor '{empty[0]}' was left without a value.")


def _placed(tensor: Tensor, device: torch.device, dtype: torch.dtype, keep_view: bool) -> Tensor:
    placed = tensor.to(device, dtype) if tensor.is_floating_point() else tensor.to(device)
    return placed.clone() if placed is tensor and not keep_view else placed


def _assign(model: nn.Module, name: str, tensor: Tensor) -> None:
    path, _, leaf = name.rpartition(".")
    module = model.get_submodule(path)
    if leaf in module._buffers:
        module._buffers[leaf] = tensor
        return
    old = module._parameters[leaf]
    assert old is not None
    parameter = tensor if isinstance(tensor, nn.Parameter) else nn.Parameter(tensor, requires_grad=old.requires_grad)
    module._parameters[leaf] = parameter


def _advice(method: Method) -> str:
    if method == "nf4":
        return "close other programs, or use a smaller model or a machine with more memory"
    return f"use quantization:={'nf4' if method == 'int8' else 'nf4 or int8'}, or close other programs"


def _notes(method: Method, placement: Placement) -> tuple[str, ...]:
    if method != "nf4" or placement.device.type != "cpu":
        return ()
    from emo_llama_ros.model.bnb_linear import has_packed_cpu_path

    if has_packed_cpu_path():
        return ()
    return ("NF4 runs about 100 times slower on this CPU than on one with AVX512-BF16; quantization:=int8 is faster.",)
