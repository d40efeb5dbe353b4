"""Names of the published LLaMA-VID checkpoints and ours, both ways.

Every published tensor is one tensor of ours, but for the vision tower's attention bias: the checkpoint stores the
query and the value part, and the key part is zero. Parts stand in the fused bias as thirds: query, key, value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from emo_llama_ros.errors import BadCheckpoint


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a published tensor goes: a tensor of ours, or (`third` 0, 1 or 2) a third of its first dimension."""

    name: str
    third: int | None = None

    def view(self, tensor: Tensor) -> Tensor:
        """Return the part of our `tensor` that the published tensor fills; a view, so it can be written to."""
        return tensor if self.third is None else tensor.chunk(3)[self.third]


# Buffers that some checkpoints carry and that every model computes by itself.
_COMPUTED = re.compile(r"(.*\.)?(rotary_emb\.inv_freq|embeddings\.position_ids)")

# (published, ours); `{i}` stands for a number, `{rest}` for what is left of the name. Each pair is read both ways.
_PAIRS = (
    ("lm_head.{rest}", "language_model.lm_head.{rest}"),
    ("model.embed_tokens.{rest}", "language_model.model.embed_tokens.{rest}"),
    ("model.layers.{rest}", "language_model.model.layers.{rest}"),
    ("model.norm.{rest}", "language_model.model.norm.{rest}"),
    ("model.mm_projector.{rest}", "token_generation.content_projector.{rest}"),
    ("model.vlm_att_query", "token_generation.qformer.query"),
    ("model.vlm_att_ln.{rest}", "token_generation.visual_norm.{rest}"),
    ("model.vlm_att_projector.{rest}", "token_generation.query_projector.{rest}"),
    ("model.vlm_att_key_projector.{rest}", "token_generation.key_projector.{rest}"),
    ("model.vlm_att_val_projector.{rest}", "token_generation.context_projector.{rest}"),
    *(
        (f"model.vlm_att_encoder.bert.{published}", f"token_generation.qformer.bert.{ours}")
        for published, ours in (
            ("embeddings.LayerNorm.{rest}", "embeddings.layernorm.{rest}"),
            ("embeddings.{rest}", "embeddings.{rest}"),
            ("encoder.layer.{i}.attention.self.{rest}", "encoder.layer.{i}.attention.attention.{rest}"),
            ("encoder.layer.{i}.crossattention.self.{rest}", "encoder.layer.{i}.crossattention.attention.{rest}"),
            ("encoder.layer.{rest}", "encoder.layer.{rest}"),
        )
    ),
    *(
        (f"model.vision_tower.vision_tower.{published}", f"vision_tower.{ours}")
        for published, ours in (
            ("cls_token", "embeddings.class_embedding"),
            ("pos_embed", "embeddings.position_embedding"),
            ("patch_embed.proj.{rest}", "embeddings.patch_embedding.{rest}"),
            ("blocks.{i}.norm1.{rest}", "encoder.layers.{i}.layer_norm1.{rest}"),
            ("blocks.{i}.norm2.{rest}", "encoder.layers.{i}.layer_norm2.{rest}"),
            ("blocks.{i}.attn.proj.{rest}", "encoder.layers.{i}.self_attn.projection.{rest}"),
            ("blocks.{i}.attn.qkv.weight", "encoder.layers.{i}.self_attn.qkv.weight"),
            ("blocks.{i}.mlp.{rest}", "encoder.layers.{i}.mlp.{rest}"),
        )
    ),
)
_Q_OR_V_BIAS = re.compile(r"model\.vision_tower\.vision_tower\.blocks\.(\d+)\.attn\.([qv])_bias")
_QKV_BIAS = re.compile(r"vision_tower\.encoder\.layers\.(\d+)\.self_attn\.qkv\.bias")


def _pattern(template: str) -> re.Pattern[str]:
    escaped = re.escape(template)
    return re.compile(escaped.replace(r"\{i\}", r"(?P<i>\d+)").replace(r"\{rest\}", r"(?P<rest>.+)"))


_TO_OURS = tuple((_pattern(published), ours) for published, ours in _PAIRS)
_TO_PUBLISHED = tuple((_pattern(ours), published) for published, ours in _PAIRS)


def is_computed(published: str) -> bool:
    """Tell whether a published tensor is a buffer that is computed, not loaded."""
    return _COMPUTED.fullmatch(published) is not None


def destination(published: str) -> Destination:
    """Return where a published tensor goes; raise BadCheckpoint for a name that LLaMA-VID does not have.

    Wrappers around the model leave prefixes on all names (`module.`, a second `model.`), and a model saved from inside
    lacks the first `model.`; both are understood.
    """
    bare = re.sub(r"^(module\.|base_model\.model\.|model\.(?=(model|lm_head)\.))+", "", published)
    for name in (bare, f"model.{bare}"):
        try:
            return _destination(name)
        except BadCheckpoint:
            continue
    raise BadCheckpoint(f"'{published}' is not a tensor of LLaMA-VID.")


def _destination(published: str) -> Destination:
    bias = _Q_OR_V_BIAS.fullmatch(published)
    if bias:
        name = f"vision_tower.encoder.layers.{bias[1]}.self_attn.qkv.bias"
        return Destination(name, third=0 if bias[2] == "q" else 2)
    return Destination(_rename(published, _TO_OURS))


def published_names(ours: str) -> tuple[str, ...]:
    """Return the published name(s) of a tensor of ours: two (query, value) for an attention bias, else one."""
    bias = _QKV_BIAS.fullmatch(ours)
    if bias:
        return tuple(f"model.vision_tower.vision_tower.blocks.{bias[1]}.attn.{part}_bias" for part in "qv")
    return (_rename(ours, _TO_PUBLISHED),)


def to_ours(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Translate a whole published state dict; a bias with a missing part is left out, so that loading reports it."""
    state: dict[str, Tensor] = {}
    for name, tensor in published.items():
        if not is_computed(name):
            target = destination(name)
            if target.third is None:
                state[target.name] = tensor
            elif target.third == 0 and (value := published.get(published_names(target.name)[1])) is not None:
                state[target.name] = torch.cat((tensor, torch.zeros_like(tensor), value))
    return state


def to_published(ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Translate a state dict of a model without a face branch back; raise BadCheckpoint if a key bias is not zero."""
    state: dict[str, Tensor] = {}
    for name, tensor in ours.items():
        names = published_names(name)
        if len(names) == 1:
            state[names[0]] = tensor
            continue
        query, key, value = tensor.chunk(3)
        if not tensor.is_meta and key.any():
            raise BadCheckpoint(f"'{name}' has a key bias, which the published format cannot hold.")
        state |= {names[0]: query, names[1]: value}
    return state


def _rename(name: str, table: tuple[tuple[re.Pattern[str], str], ...]) -> str:
    for pattern, target in table:
        match = pattern.fullmatch(name)
        if match:
            return target.format(**match.groupdict())
    raise BadCheckpoint(f"'{name}' is not a tensor of LLaMA-VID.")
