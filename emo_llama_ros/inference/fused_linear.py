"""Several projections of the same input as one matrix product."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Projection = Callable[[Tensor], Tensor]
Linears = Sequence[Any]  # nn.Linear, bitsandbytes or peft layers


def fuse(linears: Linears) -> Projection:
    """Return one callable that concatenates the outputs of `linears`, (..., K) → (..., sum of N).

    Plain layers, and NF4 layers on a GPU, become one matrix whose parts the given modules keep using as views. All
    others (int8, LoRA, NF4 packed for the CPU) are called one by one. The result is the same either way.
    """
    if all(type(linear) is nn.Linear and linear.bias is None for linear in linears):
        return _fuse_plain(linears)
    if all(_is_fusable_nf4(linear) for linear in linears):
        return _fuse_nf4(linears)
    return lambda x: torch.cat([linear(x) for linear in linears], -1)


def _fuse_plain(linears: Linears) -> Projection:
    weight = torch.cat([linear.weight.data for linear in linears])
    row = 0
    for linear in linears:
        rows = linear.weight.shape[0]
        linear.weight.data = weight[row : row + rows]
        row += rows
    return lambda x: F.linear(x, weight)


def _is_fusable_nf4(linear: Any) -> bool:
    # Without importing bitsandbytes for a model that does not use it.
    state = getattr(linear.weight, "quant_state", None) if hasattr(linear, "weight") else None
    if state is None or linear.bias is not None or linear.weight.device.type != "cuda":
        return False
    # Blocks run along the flattened rows: only whole blocks per row can be stacked.
    return bool(state.quant_type == "nf4" and state.shape[1] % state.blocksize == 0)


def unnest(state: Any) -> Tensor:
    """Return the float32 scale of each block of a bitsandbytes QuantState, undoing double quantization."""
    from bitsandbytes.functional import dequantize_blockwise

    if not state.nested:
        return state.absmax
    return (dequantize_blockwise(state.absmax, state.state2) + state.offset).float()


def _fuse_nf4(linears: Linears) -> Projection:
    # Each nested state has its own offset, so the scales are kept as float32: 0.3 GB more for a 7B, and a third fewer
    # memory reads per block in the kernel.
    import bitsandbytes as bnb

    first = linears[0].weight.quant_state
    packed = torch.cat([linear.weight.data.reshape(-1, 1) for linear in linears])
    scales = torch.cat([unnest(linear.weight.quant_state).reshape(-1) for linear in linears])
    rows = sum(linear.weight.quant_state.shape[0] for linear in linears)
    fused = _state(bnb, scales, torch.Size((rows, first.shape[1])), first)
    byte = block = 0
    for linear in linears:
        state = linear.weight.quant_state
        n_bytes, n_blocks = linear.weight.numel(), scales.numel() * state.shape[0] // rows
        flat = _state(bnb, scales[block : block + n_blocks], state.shape, state)
        linear.weight.data = packed[byte : byte + n_bytes]
        linear.weight.quant_state = flat
        linear.quant_state = flat
        byte, block = byte + n_bytes, block + n_blocks
    compute_dtype = linears[0].compute_dtype

    def project(x: Tensor) -> Tensor:
        y = bnb.matmul_4bit(x.to(compute_dtype or x.dtype), packed, quant_state=fused)
        return y.to(x.dtype)

    return project


def _state(bnb: Any, scales: Tensor, shape: torch.Size, like: Any) -> Any:
    return bnb.functional.QuantState(
        absmax=scales,
        shape=shape,
        code=like.code,
        blocksize=like.blocksize,
        quant_type=like.quant_type,
        dtype=like.dtype,
    )
