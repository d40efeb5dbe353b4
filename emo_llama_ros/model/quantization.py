"""Quantize the seven linears of each language-model layer, and nothing else.

Embeddings, head, norms, vision tower, Q-Formers and projectors stay as they are. A weight is quantized tensor by
tensor while a checkpoint streams by, before the first forward, after adapters were merged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from emo_llama_ros.errors import BadCheckpoint, BadParameter, EmoError

if TYPE_CHECKING:
    from emo_llama_ros.model.bnb_linear import Int8Linear, Nf4Linear

Method = Literal["none", "nf4", "int8"]
METHODS: tuple[Method, ...] = ("none", "nf4", "int8")

LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

NF4_IN_MULTIPLE, NF4_OUT_MULTIPLE = 64, 32

NF4_BYTES_PER_WEIGHT = 0.5 + 1 / 64 + 4 / (64 * 256)
"""4 bits, an 8-bit scale for each block of 64 weights, a float32 scale for each 256 of those."""


def as_method(name: str) -> Method:
    """Return `name` as a Method; raise BadParameter when there is none of that name."""
    for method in METHODS:
        if method == name:
            return method
    raise BadParameter(f"quantization must be one of {', '.join(METHODS)}, not '{name}'.")


def quantizable_linears(llm: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    """Yield name and module of the language model's q, k, v, o, gate, up and down projections."""
    for name, module in llm.named_modules():
        if isinstance(module, nn.Linear) and ".layers." in f".{name}" and name.rpartition(".")[2] in LINEARS:
            yield name, module


def check_shapes(llm: nn.Module, method: Method) -> None:
    """Raise BadCheckpoint naming the first layer whose shape the NF4 kernels cannot take."""
    if method != "nf4":
        return
    for name, linear in quantizable_linears(llm):
        if linear.in_features % NF4_IN_MULTIPLE or linear.out_features % NF4_OUT_MULTIPLE:
            raise BadCheckpoint(
                f"NF4 needs input sizes that are multiples of {NF4_IN_MULTIPLE} and output sizes that are multiples "
                f"of {NF4_OUT_MULTIPLE}, but {name} is {linear.in_features} to {linear.out_features}; use "
                "quantization:=int8 or none."
            )


def replace_linears(llm: nn.Module, method: Method, compute_dtype: torch.dtype) -> list[str]:
    """Put empty quantized layers in place of the quantizable linears of `llm`; return their names.

    The layers hold no weight (meta device) until `install` is called on each. `llm` is marked the way peft looks for,
    so that LoRA training on top of it works.
    """
    if method == "none":
        return []
    check_shapes(llm, method)
    from emo_llama_ros.model.bnb_linear import Int8Linear, Nf4Linear

    names = []
    for name, linear in list(quantizable_linears(llm)):
        sizes = linear.in_features, linear.out_features, linear.bias is not None
        layer: Nf4Linear | Int8Linear
        layer = Nf4Linear(*sizes, compute_dtype=compute_dtype) if method == "nf4" else Int8Linear(*sizes)
        layer.requires_grad_(False)
        llm.set_submodule(name, layer)
        names.append(name)
    mark_quantized(llm, method)
    return names


def mark_quantized(module: nn.Module, method: Method) -> None:
    """Set the flag by which peft knows that LoRA goes on top of quantized linears."""
    if method != "none":
        setattr(module, "is_loaded_in_4bit" if method == "nf4" else "is_loaded_in_8bit", True)


def quantize_weight(weight: Tensor, method: Method, dtype: torch.dtype) -> dict[str, Tensor]:
    """Quantize a weight (out, in) where it lies; return state-dict entries relative to its module."""
    from emo_llama_ros.model import bnb_linear

    if method == "nf4":
        return bnb_linear.quantize_nf4(weight, dtype)
    if method == "int8":
        return bnb_linear.quantize_int8(weight)
    return {"weight": weight.to(dtype)}


def entry_names(method: Method) -> tuple[str, ...]:
    """Return the state-dict entries that stand for one quantized weight, relative to its module."""
    if method == "nf4":
        statistics = ("absmax", "quant_map", "nested_absmax", "nested_quant_map", "quant_state.bitsandbytes__nf4")
        return ("weight", *(f"weight.{name}" for name in statistics))
    return ("weight", "SCB", "weight_format") if method == "int8" else ("weight",)


def weight_bytes(out_features: int, in_features: int, method: Method, element_size: int) -> int:
    """Return the bytes one weight takes in memory; `element_size` is that of the unquantized dtype."""
    count = out_features * in_features
    if method == "nf4":
        return int(count * NF4_BYTES_PER_WEIGHT)
    return count + 4 * out_features if method == "int8" else count * element_size


def check_entries(name: str, entries: Mapping[str, Tensor], method: Method, out_in: tuple[int, int]) -> None:
    """Raise BadCheckpoint naming the tensor when saved entries do not describe a weight of shape `out_in`."""
    missing = [f"{name}.{e}" for e in entry_names(method) if e not in entries and e != "weight_format"]
    if missing:
        raise BadCheckpoint(f"The {method} checkpoint lacks {missing[0]}; convert it again.")
    out_features, in_features = out_in
    count = out_features * in_features
    expected: dict[str, tuple[int, ...]]
    if method == "nf4":
        expected = {"weight": (count // 2, 1), "weight.absmax": (count // 64,)}
    else:
        expected = {"weight": (out_features, in_features), "SCB": (out_features,)}
    for entry, shape in expected.items():
        if tuple(entries[entry].shape) != shape:
            raise BadCheckpoint(
                f"{name}.{entry} has shape {list(entries[entry].shape)}, but a {method} weight of "
                f"{out_features} × {in_features} needs {list(shape)}."
            )


def self_test(device: torch.device, method: Method, dtype: torch.dtype) -> None:
    """Run one real quantized matmul on `device` and compare it with the dequantized one.

    Importing bitsandbytes proves nothing: its wheels load on machines for which they carry no kernels. Raises EmoError
    with what to do when the kernel is missing or computes something else.
    """
    if method == "none":
        return
    from emo_llama_ros.model import bnb_linear

    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(128, 128, generator=generator).to(device, dtype)
    x = torch.randn(4, 128, generator=generator).to(device, dtype)
    layer: Nf4Linear | Int8Linear
    try:
        entries = quantize_weight(weight, method, dtype)
        if method == "nf4":
            layer = bnb_linear.Nf4Linear(128, 128, bias=False, compute_dtype=dtype)
        else:
            layer = bnb_linear.Int8Linear(128, 128, bias=False)
        layer.install(entries, device)
        with torch.inference_mode():
            expected = x.float() @ bnb_linear.dequantized(layer).T
            got = layer.eval()(x).float()
        error = float((got - expected).norm() / expected.norm())
    except Exception as reason:
        if isinstance(reason, torch.cuda.OutOfMemoryError):
            raise
        raise EmoError(_no_kernel(device, method, f"{type(reason).__name__}: {reason}")) from reason
    if not error < 0.05:  # int8 rounds the input too (1 %), the packed CPU path its scales; NaN is not below either
        raise EmoError(_no_kernel(device, method, f"its result is off by {error:.0%}"))


def _no_kernel(device: torch.device, method: Method, what: str) -> str:
    first_line = what.strip().splitlines()[0][:200]
    other = "int8 or none" if method == "nf4" else "nf4 or none"
    advice = f"use quantization:={other}, or device:=cpu"
    if device.type == "cuda":
        advice += (
            ". On a Jetson the PyPI wheel of bitsandbytes (made for server ARM) has no kernels: build it on the device "
            "with -DCOMPUTE_BACKEND=cuda -DCOMPUTE_CAPABILITY=87, or take Jetson AI Lab's wheel"
        )
    else:
        advice = f"use quantization:={other}"
    return f"The {method} kernel of bitsandbytes does not work on {device} ({first_line}); {advice}."
