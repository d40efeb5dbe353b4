"""Which number format a large language model runs fastest in on this CPU: measured, since CPUs differ a hundredfold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from emo_llama_ros.inference.performance import milliseconds
from emo_llama_ros.model.configuration import LlmConfig
from emo_llama_ros.model.quantization import Method, quantize_weight

LABEL_TOKENS = 110  # one label pass: visual tokens, question, label tree
WORDS = 32  # a short reasoning
SLACK = 1.25
"""A more exact format may be this much slower than the fastest and is still taken."""
MAX_WEIGHTS = 50_000_000
"""Of the matrix that is timed; quantizing a larger one takes seconds."""


@dataclass(frozen=True, slots=True)
class Format:
    """How the weights of the language model are held."""

    quantization: Method
    dtype: str

    def __str__(self) -> str:
        return self.quantization if self.quantization != "none" else self.dtype


FORMATS = (Format("none", "float32"), Format("none", "bfloat16"), Format("int8", "bfloat16"), Format("nf4", "bfloat16"))
"""The most exact first."""


def choose_format(
    config: LlmConfig, fits: Callable[[Format], bool], measure: Callable[[Format, LlmConfig], float] | None = None
) -> tuple[Format, str]:
    """Return the format to load a model in, and a sentence with the measured times.

    Each format that `fits` into memory runs one matrix of the model as a label and a short reasoning would; the most
    exact one within 1.25 times the fastest wins. Formats whose kernels are missing are left out.
    """
    times: dict[Format, float] = {}
    missing: list[str] = []
    for candidate in FORMATS:
        if not fits(candidate):
            missing.append(f"{candidate} does not fit")
            continue
        try:
            times[candidate] = (measure or time_format)(candidate, config)
        except Exception as reason:  # kernels that are missing raise whatever they like
            missing.append(f"{candidate} does not run ({type(reason).__name__})")
    if not times:
        # Nothing fits: the smallest, and loading will say what is missing.
        return FORMATS[-1], f"{FORMATS[-1]} because nothing larger fits."
    chosen = _choose(times)
    figures = ", ".join(f"{format_} {ms:.1f} ms" for format_, ms in sorted(times.items(), key=lambda t: t[1]))
    notes = f"; {', '.join(missing)}" if missing else ""
    return chosen, f"{chosen}, measured per matrix for a label and {WORDS} words: {figures}{notes}."


def _choose(times: Mapping[Format, float]) -> Format:
    fastest = min(times.values())
    return next(candidate for candidate in FORMATS if times.get(candidate, float("inf")) <= SLACK * fastest)


@torch.inference_mode()
def time_format(candidate: Format, config: LlmConfig) -> float:
    """Return the milliseconds that one matrix of the model takes for a label pass and WORDS decoding steps."""
    inputs = config.hidden_size
    outputs = min(config.intermediate_size, MAX_WEIGHTS // inputs) // 32 * 32
    dtype = getattr(torch, candidate.dtype)
    # The values do not matter to the time, but denormals and zeros would.
    weight = torch.full((outputs, inputs), 0.01, dtype=dtype)
    weight[::2] = -0.02
    layer = _layer(candidate, weight, dtype)
    label, word = torch.ones(1, LABEL_TOKENS, inputs, dtype=dtype), torch.ones(1, 1, inputs, dtype=dtype)
    return milliseconds(lambda: layer(label), 3) + WORDS * milliseconds(lambda: layer(word), 5)


def _layer(candidate: Format, weight: torch.Tensor, dtype: torch.dtype) -> nn.Module:
    outputs, inputs = weight.shape
    if candidate.quantization == "none":
        plain = nn.Linear(inputs, outputs, bias=False, device="meta")
        plain.weight = nn.Parameter(weight, requires_grad=False)
        return plain
    from emo_llama_ros.model.bnb_linear import Int8Linear, Nf4Linear

    layer: Nf4Linear | Int8Linear
    if candidate.quantization == "nf4":
        layer = Nf4Linear(inputs, outputs, bias=False, compute_dtype=dtype)
    else:
        layer = Int8Linear(inputs, outputs, bias=False)
    layer.install(quantize_weight(weight, candidate.quantization, dtype), torch.device("cpu"))
    return layer.eval()
