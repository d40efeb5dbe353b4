"""The two quantized linear layers: bitsandbytes' own, with their state kept exact and their shapes checked.

Importing this module imports bitsandbytes (seconds); `quantization` does it only when a model is quantized.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from emo_llama_ros.errors import MissingDependency

# With the package `kernels` installed, importing bitsandbytes on a CPU with AVX512-BF16 downloads code from the hub
# and runs it. A robot runs what was installed: the package is out of sight while bitsandbytes is imported.
_kernels = sys.modules.get("kernels")
sys.modules["kernels"] = None  # type: ignore[assignment]
try:
    import bitsandbytes as bnb
    from bitsandbytes import functional as bnb_functional
except ImportError as error:
    raise MissingDependency(
        "Quantized models need bitsandbytes: pip install 'emo_llama_ros[model]', or use quantization:=none."
    ) from error
finally:
    if _kernels is None:
        del sys.modules["kernels"]
    else:
        sys.modules["kernels"] = _kernels

NF4_BLOCK, NESTED_BLOCK = 64, 256
_SLICE_WEIGHTS = 1 << 20
INT8_OUTLIER_THRESHOLD = 6.0


class _NoCastNotice(logging.Filter):
    """Drops the notice that LLM.int8() casts its input to float16, which would come with every call."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "inputs will be cast" not in record.getMessage()


logging.getLogger("bitsandbytes.autograd._functions").addFilter(_NoCastNotice())


class Nf4Linear(bnb.nn.Linear4bit):
    """NF4 weights with double quantization (QLoRA, arXiv 2305.14314), safe to save, move and train after running.

    On a CPU with AVX512-BF16 the first forward in eval mode repacks the weight in place and rounds its statistics, and
    bitsandbytes cannot undo that exactly. This layer keeps the exact statistics (1.6 % of the weight) and puts them
    back before the weight is saved, moved or trained.
    """

    weight: Any  # a Params4bit with its quant_state

    def __init__(self, in_features: int, out_features: int, bias: bool, compute_dtype: torch.dtype) -> None:
        super().__init__(
            in_features,
            out_features,
            bias,
            compute_dtype=compute_dtype,
            compress_statistics=True,
            quant_type="nf4",
            device="meta",
        )
        self._exact: dict[str, Any] = {}

    def install(self, entries: Mapping[str, Tensor], device: torch.device) -> None:
        """Take over the state-dict `entries` of a quantized weight ("weight", "weight.absmax", …)."""
        statistics = {name.removeprefix("weight."): t for name, t in entries.items() if name.startswith("weight.")}
        self.weight = bnb.nn.Params4bit.from_prequantized(entries["weight"], statistics, device=device, module=self)
        self._exact = {}

    def forward(self, x: Tensor) -> Tensor:
        """Map x (…, in_features) to (…, out_features), computing in `compute_dtype`."""
        if self.support_avx512bf16_for_cpu and x.device.type == "cpu" and not self._packed:
            state = self.weight.quant_state
            self._exact = {name: getattr(state, name) for name in ("absmax", "offset", "state2", "dtype", "nested")}
        return super().forward(x)

    def unpack(self) -> None:
        """Return the weight to its exact form as quantized; the next forward on a CPU packs it again."""
        if not self._packed:
            return
        data, state = bnb_functional._convert_weight_packed_for_cpu_inverse(self.weight.data, self.weight.quant_state)
        for name, value in self._exact.items():
            setattr(state, name, value)
        self.weight.data, self.weight.quant_state = data, state

    def train(self, mode: bool = True) -> Nf4Linear:
        """Switch to training, for which the weight must not be packed."""
        if mode:
            self.unpack()
        return super().train(mode)

    @property
    def _packed(self) -> bool:
        return bool(getattr(self.weight.quant_state, "packing_format_for_cpu", False))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        self.unpack()
        return super()._apply(fn, recurse)

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        self.unpack()
        super()._save_to_state_dict(destination, prefix, keep_vars)


class Int8Linear(bnb.nn.Linear8bitLt):
    """LLM.int8() weights (arXiv 2208.07339): int8 rows with one scale each, outlier inputs in 16 bits."""

    weight: Any  # an Int8Params; its scales SCB move to `state` at the first forward

    def __init__(self, in_features: int, out_features: int, bias: bool) -> None:
        super().__init__(
            in_features,
            out_features,
            bias,
            has_fp16_weights=False,
            threshold=INT8_OUTLIER_THRESHOLD,
            device="meta",
        )

    def install(self, entries: Mapping[str, Tensor], device: torch.device) -> None:
        """Take over the state-dict `entries` of a quantized weight ("weight" int8, "SCB" float32 per row)."""
        weight, scale = entries["weight"].to(device), entries["SCB"].to(device)
        self.weight = bnb.nn.Int8Params(weight, requires_grad=False, has_fp16_weights=False, CB=weight, SCB=scale)
        self.state.CB = self.state.SCB = None


def quantize_nf4(weight: Tensor, dtype: torch.dtype) -> dict[str, Tensor]:
    """Quantize a weight (out, in) to the state-dict entries of an Nf4Linear that dequantizes to `dtype`.

    The result is that of `bitsandbytes.functional.quantize_4bit` with double quantization, bit by bit. On a CPU it is
    made in slices, because bitsandbytes holds six times the weight on the way.
    """
    rows = max(1, _SLICE_WEIGHTS // weight.shape[1]) if weight.device.type == "cpu" else weight.shape[0]
    data = torch.empty(weight.numel() // 2, 1, dtype=torch.uint8, device=weight.device)
    scales = torch.empty(weight.numel() // NF4_BLOCK, device=weight.device)
    at = 0
    for part in weight.split(rows):
        quantized, state = bnb_functional.quantize_4bit(part.contiguous(), blocksize=NF4_BLOCK, quant_type="nf4")
        end = at + part.numel()
        data[at // 2 : end // 2] = quantized
        scales[at // NF4_BLOCK : end // NF4_BLOCK] = state.absmax
        at = end
    offset = scales.mean()
    small_scales, nested = bnb_functional.quantize_blockwise(scales - offset, blocksize=NESTED_BLOCK)
    whole = bnb_functional.QuantState(
        absmax=small_scales,
        shape=weight.shape,
        code=state.code,
        blocksize=NF4_BLOCK,
        quant_type="nf4",
        dtype=dtype,
        offset=offset,
        state2=nested,
    )
    return {"weight": data, **{f"weight.{name}": t for name, t in whole.as_dict(packed=True).items()}}


def quantize_int8(weight: Tensor) -> dict[str, Tensor]:
    """Quantize a weight (out, in) to the state-dict entries of an Int8Linear."""
    data, scale, _ = bnb_functional.int8_vectorwise_quant(weight.to(torch.float16).contiguous())
    # `weight_format` 0 (row-major) is what bitsandbytes itself writes, so that other readers accept the file.
    return {"weight": data, "SCB": scale, "weight_format": torch.tensor(0, dtype=torch.uint8)}


def dequantized(layer: nn.Module) -> Tensor:
    """Return the weight (out, in) in float32 that a quantized layer stands for."""
    if isinstance(layer, Nf4Linear):
        layer.unpack()
        return bnb_functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state).float()
    if isinstance(layer, Int8Linear):
        scale: Any = layer.weight.SCB if layer.weight.SCB is not None else layer.state.SCB
        return bnb_functional.int8_vectorwise_dequant(layer.weight.data, scale).float()
    raise TypeError(f"{type(layer).__name__} is not a quantized layer")


def has_packed_cpu_path() -> bool:
    """Say whether this CPU has the instructions (AVX512-BF16) of the fast NF4 path."""
    return bool(bnb_functional.has_avx512bf16())
