"""A LlamaForCausalLM run for inference: fixed buffers, any attention mask, few kernels.

The arithmetic is that of transformers' `modeling_llama`; tests hold the two equal. What differs is what makes batch-1
inference fast: keys and values stay at fixed addresses (so a CUDA graph can replay the pass), the query, key and value
projections are one matrix, gate and up are one matrix, and rotary tables are computed once.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from emo_llama_ros.inference.fused_linear import Projection, fuse
from emo_llama_ros.inference.kv_cache import KVCache


class LlamaRunner:
    """Run `llm`, a transformers LlamaForCausalLM in eval mode, with its own weights (shared, not copied).

    Plain and NF4 projections are fused in place: the weights of `llm` become views into the fused matrices, so `llm`
    goes on giving the same results. Do not save `llm` afterwards.
    """

    def __init__(self, llm: Any, max_positions: int | None = None) -> None:
        config = llm.config
        self.llm = llm
        self.heads = config.num_attention_heads
        self.kv_heads = config.num_key_value_heads
        self.head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self.eps = config.rms_norm_eps
        self.embedding = llm.get_input_embeddings()
        self.device = self.embedding.weight.device
        self.dtype = self.embedding.weight.dtype
        self.max_positions = max_positions or config.max_position_embeddings
        self._layers = [_Layer(layer) for layer in llm.model.layers]
        self._cos, self._sin = self._rotary_tables()
        self._rotate, self._gate = rotate, gate

    def compile_pointwise(self) -> None:
        """Fuse the small operations between the matrix products with torch.compile; needs a C compiler and Triton."""
        rotated, gated = torch.compile(rotate, dynamic=True), torch.compile(gate, dynamic=True)
        x = torch.zeros(1, 2, self.heads, self.head_dim, device=self.device, dtype=self.dtype)
        with torch.inference_mode():
            rotated(x, self._cos[None, :2, None], self._sin[None, :2, None])
            gated(x)
        self._rotate, self._gate = rotated, gated

    def new_cache(self, rows: int, slots: int) -> KVCache:
        """Allocate an empty cache for `rows` sequences of up to `slots` tokens."""
        return KVCache(len(self._layers), rows, self.kv_heads, slots, self.head_dim, self.device, self.dtype)

    def embed(self, token_ids: Tensor) -> Tensor:
        """Return the input embeddings of token ids, (..., hidden)."""
        return self.embedding(token_ids)

    def hidden_states(
        self, embeds: Tensor, positions: Tensor, cache: KVCache, slots: Tensor, extent: int, mask: Tensor | None
    ) -> Tensor:
        """Run N new tokens of B rows and return their last hidden states, before the final norm.

        Args:
            embeds: (B, N, hidden), the runner's dtype.
            positions: (B, N) int64, rotary positions.
            cache: at least B rows; keys and values of the new tokens are written to it.
            slots: (N,) int64, where in the cache they are written, the same for every row.
            extent: attention looks at the first `extent` slots.
            mask: (B or 1, 1, N, extent), added to the attention scores: 0 to see, -inf not to; None to see all.

        Returns:
            (B, N, hidden).
        """
        rows, tokens, _ = embeds.shape
        cos, sin = self._cos[positions].unsqueeze(2), self._sin[positions].unsqueeze(2)  # (B, N, 1, D)
        x = embeds
        for i, layer in enumerate(self._layers):
            h = F.rms_norm(x, (x.shape[-1],), layer.input_norm, self.eps)
            qkv = layer.qkv(h).view(rows, tokens, -1, self.head_dim)  # (B, N, Hq + 2 Hkv, D)
            rotated = self._rotate(qkv[:, :, : self.heads + self.kv_heads], cos, sin)
            q = rotated[:, :, : self.heads].transpose(1, 2)  # (B, Hq, N, D)
            keys, values = cache.keys[i, :rows], cache.values[i, :rows]  # (B, Hkv, S, D)
            keys.index_copy_(2, slots, rotated[:, :, self.heads :].transpose(1, 2))
            values.index_copy_(2, slots, qkv[:, :, self.heads + self.kv_heads :].transpose(1, 2))
            a = F.scaled_dot_product_attention(
                q,
                keys[:, :, :extent],
                values[:, :, :extent],
                attn_mask=mask,
                enable_gqa=self.heads != self.kv_heads,
            )  # (B, Hq, N, D)
            x = x + layer.o(a.transpose(1, 2).reshape(rows, tokens, -1))
            h = F.rms_norm(x, (x.shape[-1],), layer.post_norm, self.eps)
            x = x + layer.down(self._gate(layer.gate_up(h)))
        return x

    def logits(self, hidden: Tensor) -> Tensor:
        """Return next-token logits (..., vocab) of last hidden states (..., hidden)."""
        norm = self.llm.model.norm
        return self.llm.lm_head(F.rms_norm(hidden, (hidden.shape[-1],), norm.weight, self.eps))

    def extend(self, embeds: Tensor, cache: KVCache, start: int) -> Tensor:
        """Append tokens that see everything before them to row 0 from slot `start` on; return the last logits (vocab,).

        Args:
            embeds: (1, N, hidden).
        """
        tokens = embeds.shape[1]
        slots = torch.arange(start, start + tokens, device=self.device)
        mask = causal_mask(tokens, start, self.dtype, self.device)
        hidden = self.hidden_states(embeds, slots[None], cache, slots, start + tokens, mask)
        return self.logits(hidden[0, -1])

    def _rotary_tables(self) -> tuple[Tensor, Tensor]:
        # The model's own rotary module knows linear, llama3 and other scalings. The sign of rotate_half goes into the
        # sine table, which leaves a roll and two multiplications for the pass itself.
        positions = torch.arange(self.max_positions, device=self.device)[None]
        probe = torch.zeros(1, dtype=self.dtype, device=self.device)
        with torch.no_grad():
            cos, sin = self.llm.model.rotary_emb(probe, positions)
        sign = torch.ones(self.head_dim, dtype=sin.dtype, device=self.device)
        sign[: self.head_dim // 2] = -1
        return cos[0].contiguous(), (sin[0] * sign).contiguous()


class _Layer:
    """The parts of one decoder layer, projections fused where that is exact."""

    def __init__(self, layer: Any) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self.qkv: Projection = fuse([attention.q_proj, attention.k_proj, attention.v_proj])
        self.o: Projection = attention.o_proj
        self.gate_up: Projection = fuse([mlp.gate_proj, mlp.up_proj])
        self.down: Projection = mlp.down_proj
        self.input_norm: Tensor = layer.input_layernorm.weight
        self.post_norm: Tensor = layer.post_attention_layernorm.weight


def rotate(x: Tensor, cos: Tensor, signed_sin: Tensor) -> Tensor:
    """Apply rotary position embedding to (B, N, H, D); the sine carries the sign of rotate_half."""
    return torch.addcmul(x * cos, torch.roll(x, x.shape[-1] // 2, -1), signed_sin)


def gate(gate_up: Tensor) -> Tensor:
    """Return SiLU(gate) × up of a fused (..., 2 F) projection."""
    g, u = gate_up.chunk(2, -1)
    return F.silu(g) * u


def causal_mask(tokens: int, start: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the (1, 1, N, start + N) additive mask of N tokens that follow `start` cached ones."""
    mask = torch.full((tokens, tokens), float("-inf"), dtype=dtype, device=device).triu(1)
    return F.pad(mask, (start, 0))[None, None]
