"""How many bytes a model takes in memory, part by part, before it is loaded."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from emo_llama_ros.model.configuration import EmoLlamaConfig
from emo_llama_ros.model.memory import MemoryNeed
from emo_llama_ros.model.modeling import EmoLlama
from emo_llama_ros.model.quantization import Method, quantizable_linears, weight_bytes

CONTEXT_TOKENS = 1024
"""Prompt and answer that room is kept for: 16 frames with four tokens each, question, labels, reasoning."""
CLIP_FRAMES = 16

LINEARS, REST, VISION, TOKENS, FACE = (
    "language model",
    "embeddings and head",
    "vision tower",
    "Q-Former and projectors",
    "face branch",
)
KV_CACHE, WORKSPACE = "KV cache", "workspace"

_PARTS = {"vision_tower": VISION, "token_generation": TOKENS, "face_branch": FACE}

_CUDA_CONTEXT_BYTES = 500_000_000
_PACKED_CPU_BYTES_PER_WEIGHT = 2 / 64
"""bfloat16 scales that the packed NF4 path of a CPU keeps beside the exact ones."""


def build_template(config: EmoLlamaConfig, attn_implementation: str | None = None) -> EmoLlama:
    """Build the model without memory (meta device), for its names and shapes and to be filled."""
    with torch.device("meta"):
        return EmoLlama(config, attn_implementation)


def parameter_count(template: nn.Module) -> int:
    """Count the parameters of an unquantized model, tied ones once."""
    return sum(parameter.numel() for parameter in template.parameters())


def memory_need(template: EmoLlama, method: Method, dtype: torch.dtype, device: torch.device) -> MemoryNeed:
    """Add up what a model takes once loaded and running; `template` is unquantized, on any device.

    Weights are exact. The KV cache is counted for CONTEXT_TOKENS, the workspace is an estimate: activations of one
    prefill and one clip, a dequantized weight, and on a GPU the CUDA context.
    """
    size = dtype.itemsize
    parts: dict[str, int] = dict.fromkeys((LINEARS, REST), 0)
    quantized = {id(linear.weight): linear for _, linear in quantizable_linears(template.language_model)}
    for name, parameter in template.named_parameters():
        linear = quantized.get(id(parameter))
        if linear is not None:
            count = weight_bytes(linear.out_features, linear.in_features, method, size)
            if method == "nf4" and device.type == "cpu":
                count += int(parameter.numel() * _PACKED_CPU_BYTES_PER_WEIGHT)
            parts[LINEARS] += count
        else:
            part = _PARTS.get(name.partition(".")[0], REST)
            parts[part] = parts.get(part, 0) + parameter.numel() * size
    kv_per_token = _kv_bytes_per_token(template.config, size)
    parts[KV_CACHE] = kv_per_token * CONTEXT_TOKENS
    parts[WORKSPACE] = _workspace(template.config, method, size)
    if device.type == "cuda":
        parts[WORKSPACE] += _CUDA_CONTEXT_BYTES
    return MemoryNeed(parts, kv_per_token)


def weight_need(parts: Mapping[str, int]) -> int:
    """Return the bytes of the weights alone."""
    return sum(count for part, count in parts.items() if part not in (KV_CACHE, WORKSPACE))


def _kv_bytes_per_token(config: EmoLlamaConfig, size: int) -> int:
    llm = config.llm
    head = llm.hidden_size // llm.num_attention_heads
    return 2 * llm.num_hidden_layers * llm.num_key_value_heads * head * size


def _workspace(config: EmoLlamaConfig, method: Method, size: int) -> int:
    llm = config.llm
    prefill = CONTEXT_TOKENS * (3 * llm.intermediate_size + 6 * llm.hidden_size) * size
    logits = 64 * llm.vocab_size * 4  # only label tokens and the last position are turned into logits
    dequantized = 2 * llm.intermediate_size * llm.hidden_size * size if method != "none" else 0
    vision = 0
    if config.vision is not None:
        rows = CLIP_FRAMES * (1 + config.vision.num_patches)
        vision = rows * (2 * config.vision.intermediate_size + 6 * config.vision.hidden_size) * size
    return max(prefill + logits, vision) + dequantized
