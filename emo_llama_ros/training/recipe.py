"""A training recipe: one YAML file with every hyper-parameter of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from emo_llama_ros.errors import BadParameter

LORA_GROUP = "lora"
LANGUAGE_MODEL_LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, slots=True)
class Lora:
    """Low-rank adapters on the language model's linears; names as in `peft.LoraConfig`."""

    r: int = 64
    alpha: int = 128
    dropout: float = 0.05
    target_modules: tuple[str, ...] = LANGUAGE_MODEL_LINEARS
    learning_rate: float = 1e-4


@dataclass(frozen=True, slots=True)
class ParameterGroup:
    """Parameters that train with one learning rate: those whose name contains one of `modules` as a dotted part."""

    name: str
    modules: tuple[str, ...]
    learning_rate: float
    weight_decay: float = 0.0
    matrix_learning_rate: float = 0.0
    """Rate of the matrices of hidden layers under Muon, torch's; 0 leaves them to AdamW like everything else."""


@dataclass(frozen=True, slots=True)
class Model:
    """What is trained: a checkpoint folder, or random weights of a configuration."""

    checkpoint: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `EmoLlamaConfig` for a model that starts from random weights; used when there is no checkpoint."""
    face: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `FaceConfig`: the face branch that a checkpoint without one gets."""
    quantization: str = "none"
    dtype: str = "float32"


@dataclass(frozen=True, slots=True)
class Stage:
    """One run of the trainer. `training` holds fields of `transformers.TrainingArguments`, under their own names."""

    name: str
    training: Mapping[str, Any]
    data: Mapping[str, Any] = field(default_factory=dict)
    """What this stage takes of the data; see the data source."""
    learning_rate_factor: float = 1.0
    """Times the learning rate of each group."""
    smoke: Mapping[str, Any] = field(default_factory=dict)
    """What `--smoke` changes in `training`."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """A whole run: stages train the same model one after the other."""

    name: str
    output: str
    """Folder for checkpoints, log, plot and result, unless the command names another."""
    seed: int
    model: Model
    data: Mapping[str, Any]
    """`source` and its options."""
    groups: tuple[ParameterGroup, ...]
    stages: tuple[Stage, ...]
    lora: Lora | None = None
    path: Path = Path()
    """The file that this recipe was read from."""


def load_recipe(path: str | Path) -> Recipe:
    """Read a recipe; raise BadParameter naming the first key that is missing, unknown or of the wrong kind."""
    path = Path(path)
    top = section(Recipe, read_yaml(path), str(path))
    top["model"] = Model(**section(Model, top["model"], f"{path}: model"))
    top["lora"] = Lora(**section(Lora, top["lora"], f"{path}: lora")) if top.get("lora") else None
    top["groups"] = tuple(
        ParameterGroup(**section(ParameterGroup, entry, f"{path}: groups[{i}]"))
        for i, entry in enumerate(top["groups"])
    )
    top["stages"] = tuple(
        Stage(**section(Stage, entry, f"{path}: stages[{i}]")) for i, entry in enumerate(top["stages"])
    )
    if not top["stages"]:
        raise BadParameter(f"{path} has no stages, so there is nothing to train.")
    return Recipe(**top | {"path": path})


def read_yaml(path: str | Path) -> Any:
    """Return what a recipe file holds; raise BadParameter when there is none, or when it is no YAML."""
    path = Path(path)
    if not path.is_file():
        raise BadParameter(f"There is no recipe {path}; the shipped ones lie in config/train.")
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadParameter(f"{path} is not valid YAML: {error}") from error


def section(kind: type, raw: Any, where: str) -> dict[str, Any]:
    """Return the values of a table for the dataclass `kind`; keys with a default may be absent.

    Raise BadParameter naming the key that is missing, unknown or of the wrong type, and `where` it stands.
    """
    if not isinstance(raw, Mapping):
        raise BadParameter(f"{where} must be a table of keys and values.")
    known = {f.name: f for f in fields(kind)}
    for key in raw:
        if key not in known:
            raise BadParameter(f"{where} has an unknown key '{key}'; known are {', '.join(known)}.")
    values: dict[str, Any] = {}
    for name, spec in known.items():
        if name in raw:
            values[name] = _typed(str(spec.type), raw[name], f"{where}.{name}")
        elif spec.default is spec.default_factory:  # both MISSING: no default
            raise BadParameter(f"{where} lacks the key '{name}'.")
    return values


def _typed(kind: str, value: Any, where: str) -> Any:
    if kind == "float":
        try:
            return float(value)  # YAML reads 1e-4 as a string
        except (TypeError, ValueError):
            raise BadParameter(f"{where} must be a number, not {value!r}.") from None
    if kind in ("int", "str") and type(value).__name__ != kind:
        raise BadParameter(f"{where} must be of type {kind}, not {value!r}.")
    if kind.startswith("tuple["):
        if not isinstance(value, list):
            raise BadParameter(f"{where} must be a list.")
        return tuple(value)
    return value
