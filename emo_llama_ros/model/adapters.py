"""Read what a training run left (LoRA matrices and fully trained tensors) and merge it into base weights.

A folder of adapters holds peft's `adapter_config.json` and `adapter_model.safetensors` (or .bin), and
`non_lora_trainables.safetensors` (or .bin) for tensors that were trained whole; either part may be missing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from emo_llama_ros.errors import BadCheckpoint, MissingModel
from emo_llama_ros.model.shards import read_json, read_tensors

CONFIG = "adapter_config.json"
LORA_FILES = ("adapter_model.safetensors", "adapter_model.bin")
TRAINABLES_FILES = ("non_lora_trainables.safetensors", "non_lora_trainables.bin")

Resolve = Callable[[str], "str | None"]
"""Maps a tensor name as a trainer wrote it to the model's own name; None when the model has no such tensor."""

_LORA_NAME = re.compile(r"(?P<module>.+)\.lora_(?P<side>[AB])(?:\.(?!weight$)[^.]+)?\.weight")
_WRAPPERS = ("base_layer", "original_module", r"modules_to_save\.[^.]+", "modules_to_save")
# These initialisations also change the base weights, which the adapter file does not hold.
_CHANGES_BASE = ("pissa", "olora", "corda", "loftq")


@dataclass(slots=True)
class LoraPair:
    """A low-rank update of one weight (out, in): `scale * up @ down`, down (r, in), up (out, r)."""

    scale: float
    down: Tensor | None = None
    up: Tensor | None = None


@dataclass(slots=True)
class Adapter:
    """The updates of one adapter folder under the model's own tensor names."""

    folder: Path
    lora: dict[str, LoraPair] = field(default_factory=dict)
    """Weight name → low-rank update."""
    whole: dict[str, Tensor] = field(default_factory=dict)
    """Tensor name → new value."""


@dataclass(slots=True)
class Merger:
    """Applies adapters to base tensors as they stream by, in the order given, and counts that each one was used."""

    adapters: Sequence[Adapter]
    _used: set[tuple[int, str]] = field(default_factory=set)

    def merge(self, name: str, tensor: Tensor) -> Tensor:
        """Return `tensor` with every update for `name` applied, in float32 where there was a LoRA update.

        LoRA (arXiv 2106.09685, section 4.1): W + alpha / r * B A.
        """
        for number, adapter in enumerate(self.adapters):
            if name in adapter.whole:
                replacement = adapter.whole[name]
                check_shape(name, replacement, tuple(tensor.shape), adapter.folder)
                tensor = replacement
                self._used.add((number, name))
            pair = adapter.lora.get(name)
            if pair is not None:
                assert pair.up is not None
                assert pair.down is not None
                delta = pair.up.float() @ pair.down.float()
                check_shape(name, delta, tuple(tensor.shape), adapter.folder)
                tensor = tensor.float() + pair.scale * delta
                self._used.add((number, name))
        return tensor

    def extra(self, present: Iterable[str]) -> list[tuple[str, Tensor]]:
        """Return whole tensors that the base does not have (a branch that was trained from nothing)."""
        have = set(present)
        added: dict[str, Tensor] = {}
        for number, adapter in enumerate(self.adapters):
            for name in adapter.whole.keys() - have:
                added[name] = adapter.whole[name]
                self._used.add((number, name))
        return sorted(added.items())

    def check_all_used(self) -> None:
        """Raise BadCheckpoint naming an update that met no base tensor."""
        for number, adapter in enumerate(self.adapters):
            for name in (*adapter.lora, *adapter.whole):
                if (number, name) not in self._used:
                    raise BadCheckpoint(f"The adapter {adapter.folder} changes '{name}', which the base does not have.")


def check_shape(name: str, tensor: Tensor, expected: tuple[int, ...], source: Path) -> None:
    """Raise BadCheckpoint when a tensor does not have the expected shape."""
    if tuple(tensor.shape) != expected:
        raise BadCheckpoint(
            f"Tensor '{name}' of {source} has shape {list(tensor.shape)}, but the model needs {list(expected)}."
        )


def read_adapter(folder: Path, resolve: Resolve) -> Adapter:
    """Read an adapter folder; raise MissingModel when it holds nothing, BadCheckpoint for whatever cannot be used.

    Every tensor of the files must find its place: a name that resolves to nothing is an error, so that a file whose
    keys were renamed by a library cannot load as no adapter at all.
    """
    adapter = Adapter(folder)
    lora_file = _first(folder, LORA_FILES)
    whole_file = _first(folder, TRAINABLES_FILES)
    if lora_file is None and whole_file is None:
        raise MissingModel(
            f"{folder} holds no adapter: neither {LORA_FILES[0]} nor {TRAINABLES_FILES[0]}, nor a .bin of those."
        )
    if lora_file is not None:
        _read_lora(adapter, lora_file, _scale_of(folder), resolve)
    if whole_file is not None:
        for name, tensor in read_tensors(whole_file):
            adapter.whole[_resolved(name, resolve, whole_file)] = tensor
    return adapter


def _read_lora(adapter: Adapter, file: Path, scale_of: Callable[[str, int], float], resolve: Resolve) -> None:
    for name, tensor in read_tensors(file):
        match = _LORA_NAME.fullmatch(name)
        if match is None:
            if "lora_" in name:
                raise BadCheckpoint(
                    f"'{name}' of {file} is a kind of LoRA that cannot be merged here; merge it with peft first."
                )
            adapter.whole[_resolved(name, resolve, file)] = tensor
            continue
        target = _resolved(f"{match['module']}.weight", resolve, file)
        pair = adapter.lora.setdefault(target, LoraPair(1.0))
        if match["side"] == "A":
            pair.down = tensor
            pair.scale = scale_of(match["module"], tensor.shape[0])
        else:
            pair.up = tensor
    for target, pair in adapter.lora.items():
        if pair.down is None or pair.up is None or pair.down.shape[0] != pair.up.shape[1]:
            raise BadCheckpoint(f"The LoRA update of '{target}' in {file} lacks one of its two matching matrices.")
    if not adapter.lora:
        raise BadCheckpoint(f"{file} holds no LoRA matrices (lora_A, lora_B).")


def _scale_of(folder: Path) -> Callable[[str, int], float]:
    config = read_json(folder / CONFIG)
    _check_supported(config, folder)
    alpha, patterns = config.get("lora_alpha", 8), config.get("alpha_pattern") or {}

    def scale_of(module: str, rank: int) -> float:
        matching = (value for key, value in patterns.items() if re.fullmatch(rf"(.*\.)?({key})", module))
        value = float(next(matching, alpha))
        return value / math.sqrt(rank) if config.get("use_rslora") else value / rank

    return scale_of


def _check_supported(config: dict[str, Any], folder: Path) -> None:
    what = ""
    if config.get("peft_type", "LORA") != "LORA":
        what = f"of type {config['peft_type']}, not LoRA"
    for switch in ("use_dora", "lora_bias", "fan_in_fan_out"):
        if config.get(switch):
            what = f"made with {switch}"
    if str(config.get("init_lora_weights")).lower().startswith(_CHANGES_BASE):
        what = f"made with init_lora_weights={config['init_lora_weights']}, which changes the base"
    if what:
        raise BadCheckpoint(f"The adapter {folder} is {what}; merge it with peft into the base first.")


def _resolved(name: str, resolve: Resolve, file: Path) -> str:
    plain = name
    for wrapper in _WRAPPERS:
        plain = re.sub(rf"\.{wrapper}\.", ".", plain)
    candidates = [plain]
    for prefix in ("base_model.model.", "base_model."):
        if plain.startswith(prefix):
            candidates.append(plain.removeprefix(prefix))
    for candidate in candidates:
        target = resolve(candidate)
        if target is not None:
            return target
    raise BadCheckpoint(
        f"'{name}' of {file} fits no tensor of this model; the adapter was made for another model, or its keys were "
        "renamed when it was saved."
    )


def _first(folder: Path, names: Sequence[str]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)
