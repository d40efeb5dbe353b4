"""AdamW, with Muon for the matrices of hidden layers where a recipe asks for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW, Muon, Optimizer
from transformers import PreTrainedModel

from emo_llama_ros.errors import BadParameter
from emo_llama_ros.training.recipe import ParameterGroup


def trainable_groups(
    model: nn.Module, groups: Sequence[ParameterGroup], *, masters: bool = False
) -> list[dict[str, Any]]:
    """Let the groups train and freeze everything else; return the optimizer's parameter groups.

    A parameter belongs to the first group with a module that is a dotted part of its name. Biases and norms are never
    decayed. `muon` marks the matrices that Muon moves. `masters` holds what trains in float32. Raise BadParameter for
    a group that matches nothing.
    """
    hidden = hidden_matrices(model)
    members: dict[str, dict[tuple[bool, bool], list[nn.Parameter]]] = {g.name: {} for g in groups}
    for name, parameter in model.named_parameters():
        group = next((g for g in groups if any(f".{m}." in f".{name}." for m in g.modules)), None)
        # Quantized weights are integers: they cannot train, whatever group names them.
        parameter.requires_grad_(group is not None and parameter.is_floating_point())
        if group is not None and parameter.requires_grad:
            # Steps are smaller than the gaps between 16-bit numbers; autocast computes in them nevertheless.
            if masters:
                parameter.data = parameter.data.float()
            muon = bool(group.matrix_learning_rate) and id(parameter) in hidden
            members[group.name].setdefault((muon, parameter.ndim > 1), []).append(parameter)
    found: list[dict[str, Any]] = []
    for group in groups:
        if not members[group.name]:
            raise BadParameter(f"No parameter of the model belongs to the group '{group.name}' ({group.modules}).")
        found += [
            {
                "params": parameters,
                "lr": group.matrix_learning_rate if muon else group.learning_rate,
                "weight_decay": group.weight_decay if decays else 0.0,
                "muon": muon,
            }
            for (muon, decays), parameters in sorted(members[group.name].items(), reverse=True)
        ]
    return found


def hidden_matrices(model: nn.Module) -> set[int]:
    """Return the ids of the weights that map a hidden state to a hidden state: neither embeddings nor output heads."""
    heads = {id(m.get_output_embeddings()) for m in model.modules() if isinstance(m, PreTrainedModel)}
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    linears = [m for m in model.modules() if isinstance(m, nn.Linear) and id(m) not in heads]
    return {id(m.weight) for m in linears} - tables


def make_optimizer(groups: Sequence[dict[str, Any]], betas: tuple[float, float]) -> Optimizer:
    """Return the optimizer of `trainable_groups`."""
    matrices, others = ([g for g in groups if g["muon"] is muon] for muon in (True, False))
    parts: list[Optimizer] = []
    if matrices:
        # Its steps get AdamW's usual size, so that one scale of learning rates and weight decays serves both.
        parts.append(Muon(matrices, adjust_lr_fn="match_rms_adamw"))
    if others:
        parts.append(AdamW(others, betas=betas))
    return parts[0] if len(parts) == 1 else Joined(parts)


class Joined(Optimizer):
    """Optimizers of different parameters that step, save and resume as one."""

    def __init__(self, parts: Sequence[Optimizer]) -> None:
        self.parts = tuple(parts)
        super().__init__([group for part in self.parts for group in part.param_groups], {})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Step each part; a closure, which would have to run once for all of them, is not supported."""
        if closure is not None:
            raise NotImplementedError("Joined optimizers take no closure.")
        for part in self.parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """Return the states of the parts."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take up what `state_dict` returned."""
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(dict(state))
        # Loading replaces the parts' groups; a schedule must go on to reach them through ours.
        self.param_groups = [group for part in self.parts for group in part.param_groups]
