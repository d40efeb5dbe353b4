"""Which device and number format a model runs in, and why."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from emo_llama_ros.errors import BadParameter

SMALL_MODEL_PARAMETERS = 300_000_000
"""Below this, float32 on a CPU costs little memory and is as fast as bfloat16."""

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a model runs, in which number format its unquantized weights are, and one sentence why."""

    device: torch.device
    dtype: torch.dtype
    reason: str

    @property
    def dtype_name(self) -> str:
        """The dtype without its `torch.` prefix."""
        return str(self.dtype).removeprefix("torch.")


def choose_placement(device: str = "auto", dtype: str = "auto", parameters: int = 0) -> Placement:
    """Choose device and dtype for a model of `parameters` weights; "auto" leaves the choice to the machine.

    A GPU is taken when there is one; bfloat16 on GPUs that compute in it (Ampere and newer, Orin), float16 on older
    ones. A CPU takes bfloat16, or float32 for a small model. Raises BadParameter when the request cannot be met.
    """
    chosen_device, device_reason = _choose_device(device)
    if dtype != "auto":
        if dtype not in DTYPES:
            raise BadParameter(f"dtype must be auto, {', '.join(DTYPES)}, not '{dtype}'.")
        return Placement(chosen_device, DTYPES[dtype], f"{device_reason}; {dtype} because it was asked for.")
    chosen_dtype, dtype_reason = _choose_dtype(chosen_device, parameters)
    return Placement(chosen_device, chosen_dtype, f"{device_reason}; {dtype_reason}.")


def _choose_device(device: str) -> tuple[torch.device, str]:
    if device == "auto":
        if torch.cuda.is_available():
            chosen = torch.device("cuda", torch.cuda.current_device())
            return chosen, f"Runs on {chosen} ({torch.cuda.get_device_name(chosen)})"
        return torch.device("cpu"), "Runs on the CPU because PyTorch finds no CUDA GPU"
    if device == "cpu":
        return torch.device("cpu"), "Runs on the CPU because it was asked for"
    kind, _, number = device.partition(":")
    if kind != "cuda" or (number and not number.isdecimal()):
        raise BadParameter(f"device must be auto, cpu, cuda or cuda:N, not '{device}'.")
    if not torch.cuda.is_available():
        why = "this PyTorch was built without CUDA" if torch.version.cuda is None else "the driver shows no GPU"
        raise BadParameter(f"device '{device}' is not available: {why}; use device:=cpu or install PyTorch for CUDA.")
    chosen = torch.device("cuda", int(number) if number else torch.cuda.current_device())
    if chosen.index >= torch.cuda.device_count():
        raise BadParameter(f"There is no {chosen}: this machine has {torch.cuda.device_count()} CUDA GPU(s).")
    return chosen, f"Runs on {chosen} ({torch.cuda.get_device_name(chosen)}) because it was asked for"


def _choose_dtype(device: torch.device, parameters: int) -> tuple[torch.dtype, str]:
    if device.type == "cuda":
        with torch.cuda.device(device):
            if torch.cuda.is_bf16_supported(including_emulation=False):
                return torch.bfloat16, "bfloat16 because this GPU computes in it"
        return torch.float16, "float16 because this GPU does not compute in bfloat16"
    if parameters < SMALL_MODEL_PARAMETERS:
        return torch.float32, "float32 because the model is small"
    return torch.bfloat16, "bfloat16 because it halves the memory of a large model"
