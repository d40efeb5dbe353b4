"""A querying transformer: learned queries read an image, or the priors of a face, under the words of the prompt."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import InstructBlipQFormerConfig, InstructBlipQFormerModel

from emo_llama_ros.model.configuration import QFormerConfig


class QFormer(nn.Module):
    """LLaMA-VID's text-guided Q-Former (BERT with cross-attention in every other layer, as in InstructBLIP)."""

    def __init__(self, config: QFormerConfig, encoder_width: int, attn_implementation: str | None = None) -> None:
        super().__init__()
        attention: dict[str, Any] = {"attn_implementation": attn_implementation}
        self.query = nn.Parameter(torch.empty(1, config.num_query, config.hidden_size).normal_(std=0.02))
        self.bert = InstructBlipQFormerModel(
            InstructBlipQFormerConfig(
                hidden_size=config.hidden_size,
                intermediate_size=config.intermediate_size,
                num_hidden_layers=config.num_hidden_layers,
                num_attention_heads=config.num_attention_heads,
                vocab_size=config.vocab_size,
                max_position_embeddings=config.max_position_embeddings,
                cross_attention_frequency=config.cross_attention_frequency,
                encoder_hidden_size=encoder_width,
                layer_norm_eps=config.layer_norm_eps,
                hidden_dropout_prob=config.dropout,
                attention_probs_dropout_prob=config.dropout,
                **attention,
            )
        )

    def hidden_states(
        self, encoder_states: Tensor, prompt_ids: Tensor, prompt_mask: Tensor, encoder_mask: Tensor | None = None
    ) -> Tensor:
        """Return the last layer (N, Q + L, H), queries first, then text.

        encoder_states (N, K, W) are what the queries read, encoder_mask (N, K) which of them exist (default: all).
        prompt_ids and prompt_mask (N, L) come from the BERT tokenizer, with [CLS] and [SEP].
        """
        queries = self.query.expand(len(encoder_states), -1, -1)  # (N, Q, H)
        query_mask = prompt_mask.new_ones(queries.shape[:2])
        return self.bert(
            input_ids=prompt_ids,
            attention_mask=torch.cat((query_mask, prompt_mask), dim=1),
            query_embeds=queries,
            encoder_hidden_states=encoder_states,
            encoder_attention_mask=encoder_mask,
        ).last_hidden_state

    def forward(
        self, encoder_states: Tensor, prompt_ids: Tensor, prompt_mask: Tensor, encoder_mask: Tensor | None = None
    ) -> Tensor:
        """Return the queries (N, Q, H) after the last layer; arguments as in `hidden_states`."""
        return self.hidden_states(encoder_states, prompt_ids, prompt_mask, encoder_mask)[:, : self.query.shape[1]]
