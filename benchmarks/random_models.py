"""Models with random weights, built where they run: nothing is downloaded, nothing exists twice."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from emo_llama_ros.model.configuration import EmoLlamaConfig, LlmConfig, QFormerConfig, VisionConfig, emo_llama_tiny
from emo_llama_ros.model.modeling import EmoLlama
from emo_llama_ros.model.quantization import Method, quantize_weight, replace_linears


def random_model(config: EmoLlamaConfig, quantization: Method, device: torch.device, dtype: torch.dtype) -> EmoLlama:
    """Build a model with random weights tensor by tensor on `device`; linears are quantized as they are made.

    Peak memory is the finished model plus one weight.
    """
    generator = torch.Generator(device).manual_seed(0)
    with torch.device("meta"):
        model = EmoLlama(config)
    quantized = set(replace_linears(model.language_model, quantization, dtype))
    for name, module in model.named_modules():
        llm_name = name.removeprefix("language_model.")
        if name != llm_name and llm_name in quantized:
            shape = (module.out_features, module.in_features)
            weight = torch.empty(shape, device=device, dtype=dtype).normal_(0, 0.02, generator=generator)
            module.install(quantize_weight(weight, quantization, dtype), device)
            continue
        is_norm = "norm" in type(module).__name__.lower()
        for part, parameter in list(module.named_parameters(recurse=False)):
            filled = torch.empty(parameter.shape, device=device, dtype=dtype)
            if is_norm and part == "weight":
                filled.fill_(1)
            elif part == "bias":
                filled.zero_()
            else:
                filled.normal_(0, 0.02, generator=generator)
            setattr(module, part, nn.Parameter(filled, requires_grad=False))
        for part, buffer in list(module.named_buffers(recurse=False)):
            if buffer.is_meta:
                kind = dtype if buffer.is_floating_point() else buffer.dtype
                setattr(module, part, torch.ones(buffer.shape, device=device, dtype=kind))
    model.restore_buffers()
    return model.eval()


def vision_heavy(scale: int = 1) -> EmoLlamaConfig:
    """Return a small model in which, as in the 7B, the vision tower costs most of a clip."""
    tiny = emo_llama_tiny()
    width = 256 * scale
    return replace(
        tiny,
        vision=VisionConfig(width, 4 * width, 12, 8, image_size=224),
        qformer=QFormerConfig(64, 128, 2, 4, vocab_size=1000, num_query=8, dropout=0.0),
        llm=LlmConfig(
            vocab_size=4000, hidden_size=256, intermediate_size=640, num_hidden_layers=6, num_attention_heads=8,
            num_key_value_heads=8, max_position_embeddings=2048,
        ),
    )  # fmt: skip


def weight_bytes(module: nn.Module) -> int:
    """Return the bytes of all weights that one decoded token reads: everything but the embedding table."""
    total = 0
    for name, parameter in module.named_parameters():
        if name.endswith("embed_tokens.weight"):
            continue
        total += parameter.numel() * parameter.element_size()
        state = getattr(parameter, "quant_state", None)
        if state is not None:
            total += state.absmax.numel() * state.absmax.element_size()
            if state.nested:
                total += state.state2.absmax.numel() * state.state2.absmax.element_size()
    return total
