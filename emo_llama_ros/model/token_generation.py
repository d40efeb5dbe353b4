"""LLaMA-VID's token generation: one context token and few content tokens per frame (paper, section 3.2)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emo_llama_ros.model.configuration import EmoLlamaConfig, grid_size, projector_depth
from emo_llama_ros.model.qformer import QFormer


class FrameTokens(NamedTuple):
    """The tokens of N (prompt, frame) pairs and the steps on the way to them."""

    text_query: Tensor
    """(N, Q, V) queries of the context attention."""
    context: Tensor
    """(N, 1, D)"""
    content: Tensor
    """(N, n, D)"""

    @property
    def tokens(self) -> Tensor:
        """(N, 1 + n, D): context first."""
        return torch.cat((self.context, self.content), dim=1)


class TokenGeneration(nn.Module):
    """Turns a frame's features into tokens of the language model, guided by the prompt."""

    def __init__(self, config: EmoLlamaConfig, attn_implementation: str | None = None) -> None:
        super().__init__()
        if config.vision is None or config.qformer is None:
            raise ValueError("Token generation needs a vision tower and a Q-Former.")
        visual, text, llm = config.vision.hidden_size, config.qformer.hidden_size, config.llm.hidden_size
        self.compress_type = config.compress_type
        self.select_feature = config.mm_vision_select_feature
        self.visual_norm = nn.LayerNorm(visual, eps=config.visual_norm_eps)
        self.qformer = QFormer(config.qformer, visual, attn_implementation)
        self.query_projector = nn.Linear(text, visual)
        self.key_projector = nn.Linear(visual, visual)
        self.context_projector = nn.Linear(visual, llm)
        self.content_projector = _projector(config.mm_projector_type, visual, llm)

    def forward(self, features: Tensor, prompt_ids: Tensor, prompt_mask: Tensor) -> FrameTokens:
        """Make the tokens of N (prompt, frame) pairs.

        features (N, 1 + patches, V) are the vision tower's; prompt_ids and prompt_mask (N, L) the Q-Former's.
        """
        # The Q-Former reads every row, class token included; the context attention reads patches only.
        queries = self.qformer(self.visual_norm(features), prompt_ids, prompt_mask)  # (N, Q, H)
        text_query = self.query_projector(queries)  # (N, Q, V)
        patches = self._select(features)  # (N, K, V)
        scores = text_query @ self.key_projector(patches).transpose(1, 2) / patches.shape[-1] ** 0.5  # (N, Q, K)
        # The values are the raw patches: only the mean over the queries is projected.
        context = (scores.softmax(dim=-1) @ patches).mean(dim=1, keepdim=True)  # (N, 1, V)
        content = self.content_projector(self._pool(patches))  # (N, n, D)
        return FrameTokens(text_query, self.context_projector(context), content)

    def _select(self, features: Tensor) -> Tensor:
        if self.select_feature == "patch" and features.shape[1] % 2 == 1:
            return features[:, 1:]
        return features

    def _pool(self, patches: Tensor) -> Tensor:
        grid = grid_size(self.compress_type)
        if grid is not None:
            side = int(patches.shape[1] ** 0.5)
            square = patches.unflatten(1, (side, side)).permute(0, 3, 1, 2)  # (N, V, side, side)
            # Stride = kernel: where g does not divide the side, more or fewer than g cells come out, as published.
            return F.avg_pool2d(square, kernel_size=side // grid).flatten(2).transpose(1, 2)  # (N, n, V)
        if self.compress_type == "mean":
            return patches.mean(dim=1, keepdim=True)  # (N, 1, V)
        return patches


def _projector(mm_projector_type: str, visual: int, llm: int) -> nn.Module:
    depth = projector_depth(mm_projector_type)
    if mm_projector_type == "linear":
        return nn.Linear(visual, llm)
    layers: list[nn.Module] = [nn.Linear(visual, llm)]
    for _ in range(depth - 1):
        layers += [nn.GELU(), nn.Linear(llm, llm)]
    return nn.Sequential(*layers)
