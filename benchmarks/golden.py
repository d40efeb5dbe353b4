"""A golden folder: what the original LLaMA-VID computed at a tiny size.

It holds `config.json` (sizes, and per case prompts, compress type and images), `model.safetensors` (weights under the
published names), `io.safetensors` (inputs, steps and outputs, named `case.tensor`) and `bert_vocab.txt`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from emo_llama_ros.model import key_map
from emo_llama_ros.model.configuration import (
    EmoLlamaConfig,
    LlmConfig,
    QFormerConfig,
    VisionConfig,
    normalized_compress_type,
)
from emo_llama_ros.model.modeling import EmoLlama
from emo_llama_ros.model.processing import QFormerTokenizer


def model_config(golden: dict[str, Any], compress_type: str | None) -> EmoLlamaConfig:
    """Read the sizes of a golden `config.json`."""
    vision, qformer, vid = golden["vision"], golden["qformer"], golden["vid"]
    known = set(LlmConfig.__dataclass_fields__)
    return EmoLlamaConfig(
        llm=LlmConfig(**{name: value for name, value in golden["llm"].items() if name in known}),
        vision=VisionConfig(
            hidden_size=vision["embed_dim"],
            intermediate_size=vision.get("mlp_hidden", int(vision["embed_dim"] * vision["mlp_ratio"])),
            num_hidden_layers=vision["depth"],
            num_attention_heads=vision["num_heads"],
            image_size=vision["image_size"],
            patch_size=vision["patch_size"],
            layer_norm_eps=vision["layer_norm_eps"],
        ),
        qformer=QFormerConfig(
            cross_attention_frequency=qformer["cross_attention_freq"],
            **{name: qformer[name] for name in QFormerConfig.__dataclass_fields__ if name in qformer},
        ),
        compress_type=normalized_compress_type(compress_type),
        mm_projector_type=vid["mm_projector_type"],
        mm_vision_select_feature=vid["mm_vision_select_feature"],
        image_aspect_ratio=vid["image_aspect_ratio"],
        visual_norm_eps=vid.get("vlm_att_ln_eps", 1e-5),
    )


@dataclass
class Golden:
    """A golden folder in memory."""

    folder: Path
    config: dict[str, Any] = field(init=False)
    weights: dict[str, Tensor] = field(init=False)
    tensors: dict[str, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        self.config = json.loads((self.folder / "config.json").read_text())
        self.weights = load_file(self.folder / "model.safetensors")
        self.tensors = load_file(self.folder / "io.safetensors")

    @cached_property
    def tokenizer(self) -> QFormerTokenizer:
        """The Q-Former's."""
        return QFormerTokenizer(self.folder / "bert_vocab.txt")

    def cases(self) -> list[str]:
        """Names of all cases, those that only config or only tensors know included."""
        return list(dict.fromkeys([*self.config.get("cases", {}), *(name.split(".")[0] for name in self.tensors)]))

    def model(self, compress_type: str | None, attention: str) -> EmoLlama:
        """Build the model with the golden weights, in float32."""
        model = EmoLlama(model_config(self.config, compress_type), attn_implementation=attention)
        model.load_state_dict(key_map.to_ours(self.weights))
        return model.float()

    def pixels(self, name: str) -> list[Tensor]:
        """Return the pixel_values that `name` means: those of a tensor, those of a case, or none."""
        if name in self.tensors:
            return [self.tensors[name]]
        if f"{name}.pixel_values" in self.tensors:
            return [self.tensors[f"{name}.pixel_values"]]
        other = self.config.get("cases", {}).get(name, {}).get("pixel_values")
        return [tensor for text in flat(other) for tensor in self.pixels(text)]


def flat(value: Any) -> Iterator[str]:
    """Yield the strings of a string or of nested lists."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Iterable):
        for item in value:
            yield from flat(item)
