"""The frozen EVA-CLIP vision tower."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import InstructBlipVisionConfig, InstructBlipVisionModel

from emo_llama_ros.model.configuration import VisionConfig


class VisionTower(InstructBlipVisionModel):
    """EVA ViT-g as LAVIS and LLaMA-VID use it: the raw output of the last block, all patches and the class token.

    InstructBLIP's tower is the same network, but for a final norm, which LLaMA-VID does not have.
    """

    def __init__(self, config: VisionConfig, attn_implementation: str | None = None) -> None:
        attention: dict[str, Any] = {"attn_implementation": attn_implementation}
        super().__init__(
            InstructBlipVisionConfig(
                hidden_size=config.hidden_size,
                intermediate_size=config.intermediate_size,
                num_hidden_layers=config.num_hidden_layers,
                num_attention_heads=config.num_attention_heads,
                image_size=config.image_size,
                patch_size=config.patch_size,
                layer_norm_eps=config.layer_norm_eps,
                initializer_range=0.02,
                **attention,
            )
        )
        self.post_layernorm: nn.Module = nn.Identity()  # type: ignore[assignment]
        self.requires_grad_(False)

    @torch.no_grad()
    def encode(self, pixel_values: Tensor) -> Tensor:
        """Encode preprocessed frames (N, 3, S, S) to features (N, 1 + patches, V), class token first.

        Frames must have the dtype of the weights and the image size of the config; raise ValueError otherwise.
        """
        size, dtype = self.config.image_size, self.embeddings.patch_embedding.weight.dtype
        if pixel_values.ndim != 4 or tuple(pixel_values.shape[1:]) != (3, size, size):
            raise ValueError(f"Frames must have the shape (N, 3, {size}, {size}), not {tuple(pixel_values.shape)}.")
        if pixel_values.dtype != dtype:
            raise ValueError(f"Frames must be {dtype} like the vision tower, not {pixel_values.dtype}.")
        return self(pixel_values).last_hidden_state


def resize_position_embedding(table: Tensor, num_patches: int) -> Tensor:
    """Resize a position table (1, 1 + n, V) to (1, 1 + num_patches, V) for another image size.

    Bicubic over the square patch map, in float32; the class token's row is kept (LAVIS, `interpolate_pos_embed`).
    A table that already fits is returned as it is.
    """
    if table.shape[1] == 1 + num_patches:
        return table
    class_row, patches = table[:, :1], table[:, 1:]
    old, new = int(patches.shape[1] ** 0.5), int(num_patches**0.5)
    if old**2 != patches.shape[1] or new**2 != num_patches:
        raise ValueError(
            f"Cannot resize a position table from {patches.shape[1]} to {num_patches} patches: no squares."
        )
    square = patches.float().reshape(1, old, old, -1).permute(0, 3, 1, 2)  # (1, V, old, old)
    resized = F.interpolate(square, size=(new, new), mode="bicubic", align_corners=False)
    return torch.cat((class_row, resized.permute(0, 2, 3, 1).flatten(1, 2).to(table.dtype)), dim=1)
