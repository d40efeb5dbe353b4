"""A checkpoint as a stream of tensors under the model's own names, each accounted for, adapters merged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from emo_llama_ros.errors import BadCheckpoint
from emo_llama_ros.model import key_map
from emo_llama_ros.model.adapters import Adapter, Merger, Resolve, read_adapter
from emo_llama_ros.model.checkpoint import Checkpoint
from emo_llama_ros.model.vision import resize_position_embedding

HEAD, EMBEDDINGS = "language_model.lm_head.weight", "language_model.model.embed_tokens.weight"
_POSITIONS = "vision_tower.embeddings.position_embedding"


class Ledger:
    """Checks that every expected tensor comes exactly once and in its shape, and nothing else comes.

    `expected` maps names to shapes; a shape of None is checked elsewhere.
    """

    def __init__(self, expected: Mapping[str, tuple[int, ...] | None], source: Path) -> None:
        self._expected = dict(expected)
        self._source = source
        self._taken: set[str] = set()

    def take(self, name: str, tensor: Tensor) -> None:
        """Enter one tensor; raise BadCheckpoint when it is unexpected, misshapen, or came before."""
        if name not in self._expected:
            raise BadCheckpoint(f"{self._source} has a tensor '{name}' that this model does not have.")
        if name in self._taken:
            raise BadCheckpoint(f"{self._source} has the tensor '{name}' twice.")
        shape = self._expected[name]
        if shape is not None and tuple(tensor.shape) != shape:
            raise BadCheckpoint(
                f"Tensor '{name}' of {self._source} has shape {list(tensor.shape)}, but the model needs {list(shape)}."
            )
        self._taken.add(name)

    @property
    def taken(self) -> frozenset[str]:
        """The names that came so far."""
        return frozenset(self._taken)

    def check_complete(self) -> None:
        """Raise BadCheckpoint naming what did not come."""
        missing = [name for name in self._expected if name not in self._taken]
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise BadCheckpoint(f"{self._source} lacks the tensor '{missing[0]}'{more}.")


def stream_weights(
    checkpoint: Checkpoint, expected: Mapping[str, tuple[int, ...] | None], adapters: Sequence[Path] = ()
) -> Iterator[tuple[str, Tensor]]:
    """Yield every (name, tensor) of the model exactly once, in the order of the files, on the CPU.

    Tensors may be views of mapped files. Adapters are merged in the order given; a merged tensor is float32.
    Raises BadCheckpoint at the first tensor that is unexpected, misshapen or repeated, and at the end for the missing.
    """
    ledger = Ledger(expected, checkpoint.folder)
    merger = Merger([read_adapter(folder, resolver(expected)) for folder in adapters])
    _refuse_merging_into_quantized(checkpoint, merger.adapters)
    _refuse_untying(checkpoint, merger.adapters)
    for name, tensor in _translated(checkpoint):
        if name == HEAD and checkpoint.config.llm.tie_word_embeddings:
            continue  # some files repeat the tied embeddings
        ledger.take(name, tensor)
        yield name, merger.merge(name, tensor)
    for name, tensor in merger.extra(ledger.taken):
        ledger.take(name, tensor)
        yield name, tensor
    merger.check_all_used()
    ledger.check_complete()


def resolver(expected: Mapping[str, object]) -> Resolve:
    """Return a function from the names trainers write to ours: ours, published, or relative to the language model."""

    def resolve(name: str) -> str | None:
        for candidate in (name, f"language_model.{name}"):
            if candidate in expected:
                return candidate
        try:
            target = key_map.destination(name)
        except BadCheckpoint:
            return None
        return target.name if target.third is None and target.name in expected else None

    return resolve


def _translated(checkpoint: Checkpoint) -> Iterator[tuple[str, Tensor]]:
    if not checkpoint.published:
        yield from checkpoint.shards.tensors()
        return
    thirds: dict[str, dict[int, Tensor]] = {}
    for published, tensor in checkpoint.shards.tensors():
        if key_map.is_computed(published):
            continue
        target = key_map.destination(published)
        if target.third is not None:
            parts = thirds.setdefault(target.name, {})
            parts[target.third] = tensor.clone()
            if len(parts) == 2:
                del thirds[target.name]
                yield target.name, torch.cat((parts[0], torch.zeros_like(parts[0]), parts[2]))
            continue
        if target.name == _POSITIONS and checkpoint.config.vision is not None:
            tensor = resize_position_embedding(tensor, checkpoint.config.vision.num_patches)
        yield target.name, tensor
    for name, parts in thirds.items():
        query, value = key_map.published_names(name)
        raise BadCheckpoint(f"{checkpoint.folder} lacks the tensor '{value if 0 in parts else query}'.")


def _refuse_merging_into_quantized(checkpoint: Checkpoint, adapters: Sequence[Adapter]) -> None:
    for adapter in adapters:
        if adapter.lora and checkpoint.quantization != "none":
            raise BadCheckpoint(
                f"LoRA weights ({adapter.folder.name}) must be merged before quantization, but {checkpoint.folder} is "
                f"{checkpoint.quantization} already; convert the unquantized checkpoint with these adapters."
            )


def _refuse_untying(checkpoint: Checkpoint, adapters: Sequence[Adapter]) -> None:
    """Refuse a copy of tied embeddings: peft changes the words read with it, merging would change those said, too."""
    for adapter in adapters:
        if checkpoint.config.llm.tie_word_embeddings and EMBEDDINGS in adapter.copied:
            raise BadCheckpoint(
                f"The adapter {adapter.folder.name} trained a copy of the embeddings (modules_to_save), but in "
                f"{checkpoint.folder} they are the output layer, too; train the adapter without them."
            )
