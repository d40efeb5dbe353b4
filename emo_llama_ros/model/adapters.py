"""Read what a training run left (LoRA matrices and fully trained tensors) and merge it into base weights.

A folder of adapters holds peft's `adapter_config.json` and `adapter_model.safetensors` (or .bin), and
`non_lora_trainables.safetensors` (or .bin) for tensors that were trained whole; either part may be missing.
"""

from __future__ import annotations

import json
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
_PEFT_PREFIX = "base_model.model."
_MERGE_FIRST = "cannot be merged here; merge it with peft into the base first"

# The fields of peft 0.21's LoraConfig that are understood; any other one that is set is refused by name, because
# merging without it would give another model than peft's.
_MERGED = {"peft_type", "r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "init_lora_weights"}
_SEEN_IN_FILES = {  # these say which tensors were trained, and the files hold all of those
    *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "modules_to_save", "bias"),
}
_WITHOUT_EFFECT = {  # these steer training or loading, or belong to a field that is refused when it is set
    *("task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision", "inference_mode"),
    *("lora_dropout", "runtime_config", "eva_config", "merge_weights", "megatron_core", "qalora_group_size"),
}
# Initialisations that leave the base weights alone. The others change weights that the adapter's files do not hold.
_INITIALISATIONS = ("true", "false", "none", "gaussian", "eva", "orthogonal")
_NEVER_MERGED = {  # adapters that no merged weight can stand for, so peft cannot merge them either
    "alora_invocation_tokens": "an activated LoRA, which acts on some tokens only",
    "alora_invocation_string": "an activated LoRA, which acts on some tokens only",
    "arrow_config": "a router that chooses among adapters at each token",
}


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
    copied: set[str] = field(default_factory=set)
    """Names in `whole` of which peft trained a copy (`modules_to_save`) that shares its weights with nothing."""


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
        _read_lora(adapter, lora_file, _Scales(folder), resolve)
    if whole_file is not None:
        _read_whole(adapter, list(read_tensors(whole_file)), whole_file, resolve)
    return adapter


def _read_lora(adapter: Adapter, file: Path, scales: _Scales, resolve: Resolve) -> None:
    modules: dict[str, str] = {}
    others: list[tuple[str, Tensor]] = []
    for name, tensor in read_tensors(file):
        match = _LORA_NAME.fullmatch(name)
        if match is None:
            if "lora_" in name:
                raise BadCheckpoint(f"'{name}' of {file} belongs to a kind of LoRA that {_MERGE_FIRST}.")
            others.append((name, tensor))
            continue
        target = _resolved(f"{match['module']}.weight", resolve, file)
        pair = adapter.lora.setdefault(target, LoraPair(1.0))
        side = "down" if match["side"] == "A" else "up"
        if getattr(pair, side) is not None:
            raise BadCheckpoint(f"{file} holds two LoRA updates of '{target}'; save each adapter in its own folder.")
        if tensor.ndim != 2:
            raise BadCheckpoint(f"'{name}' of {file} updates a convolution, which {_MERGE_FIRST}.")
        setattr(pair, side, tensor)
        modules[target] = match["module"]
    for target, pair in adapter.lora.items():
        if pair.down is None or pair.up is None or pair.down.shape[0] != pair.up.shape[1]:
            raise BadCheckpoint(f"The LoRA update of '{target}' in {file} lacks one of its two matching matrices.")
        pair.scale = scales.of(modules[target], pair.down.shape[0])
    if not adapter.lora:
        raise BadCheckpoint(f"{file} holds no LoRA matrices (lora_A, lora_B).")
    _read_whole(adapter, others, file, resolve)
    adapter.copied.update(adapter.whole)


def _read_whole(adapter: Adapter, tensors: Sequence[tuple[str, Tensor]], file: Path, resolve: Resolve) -> None:
    targets = [_resolved(name, resolve, file) for name, _ in tensors]
    copies = {target for (name, _), target in zip(tensors, targets, strict=True) if ".modules_to_save." in name}
    for (name, tensor), target in zip(tensors, targets, strict=True):
        if ".original_module." in name and target in copies:
            continue  # what peft keeps beside the trained copy
        if target in adapter.whole:
            raise BadCheckpoint(f"{file} holds '{target}' a second time; save the adapter with one value of it.")
        adapter.whole[target] = tensor


class _Scales:
    """The factor of each low-rank update, from `adapter_config.json`; refuses kinds of LoRA that it does not know."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / CONFIG
        self._config = read_json(self._file)
        _check_understood(self._config, folder)
        try:
            self._rank = self._config.get("r")
            self._ranks = _patterns(self._config.get("rank_pattern"))
            self._alpha = float(self._config.get("lora_alpha", 8))
            self._alphas = _patterns(self._config.get("alpha_pattern"))
        except (TypeError, ValueError, AttributeError, re.error) as error:
            raise BadCheckpoint(f"{self._file} is not what peft writes ({error}); save the adapter again.") from error

    def of(self, module: str, rank: int) -> float:
        """Return alpha / r (rsLoRA: alpha / √r) of a module as the file names it, whose matrices have this rank."""
        name = module.removeprefix(_PEFT_PREFIX)
        expected = _first_match(self._ranks, name, self._rank)
        if expected is not None and expected != rank:
            raise BadCheckpoint(
                f"The LoRA update of '{name}' has rank {rank}, but {self._file} says {expected}; the two files do not "
                "belong together."
            )
        alpha = _first_match(self._alphas, name, self._alpha)
        return alpha / math.sqrt(rank) if self._config.get("use_rslora") else alpha / rank


def _patterns(given: dict[str, float] | None) -> list[tuple[re.Pattern[str], float]]:
    # As peft reads them (utils.other.get_pattern_key): the end of a name after a dot, or a whole name; `^` anchors.
    return [(re.compile(rf"(.*\.)?({key})$"), float(value)) for key, value in (given or {}).items()]


def _first_match(patterns: Sequence[tuple[re.Pattern[str], float]], name: str, default: Any) -> Any:
    return next((value for pattern, value in patterns if pattern.match(name)), default)


def _check_understood(config: dict[str, Any], folder: Path) -> None:
    """Raise BadCheckpoint naming the first field that makes merging more than adding scale × B A."""
    kind = config.get("peft_type") or "LORA"
    if kind != "LORA":
        raise BadCheckpoint(f"The adapter {folder} is of type {kind}, not LoRA, and {_MERGE_FIRST}.")
    for name, value in config.items():
        if name in _MERGED | _SEEN_IN_FILES | _WITHOUT_EFFECT or value in (None, False, "", [], {}):
            continue
        if name in _NEVER_MERGED:
            raise BadCheckpoint(
                f"The adapter {folder} is made with {name}: {_NEVER_MERGED[name]}, so it cannot be merged; train a "
                "plain LoRA instead."
            )
        raise BadCheckpoint(f"The adapter {folder} is made with {name}={_short(value)} and {_MERGE_FIRST}.")
    start = config.get("init_lora_weights", True)
    if str(start).lower() not in _INITIALISATIONS:
        raise BadCheckpoint(
            f"The adapter {folder} is made with init_lora_weights={_short(start)}, which may change the base's "
            f"weights, and {_MERGE_FIRST}."
        )


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:39]}…"


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
