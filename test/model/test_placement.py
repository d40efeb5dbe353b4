"""Which device and number format a model gets, and what the operator is told."""

import pytest
import torch

from emo_llama_ros.errors import BadParameter
from emo_llama_ros.model.placement import choose_placement


@pytest.fixture
def gpu(monkeypatch):
    """A machine with two GPUs that compute in bfloat16, as far as PyTorch says."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: "Orin")
    monkeypatch.setattr(torch.cuda, "device", lambda device: torch.inference_mode())
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    return monkeypatch


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    return monkeypatch


def test_a_gpu_is_taken_when_there_is_one(gpu):
    placement = choose_placement("auto", "auto", 7_000_000_000)
    assert placement.device == torch.device("cuda", 0)
    assert placement.dtype == torch.bfloat16
    assert "Orin" in placement.reason
    assert "bfloat16" in placement.reason


def test_a_gpu_that_only_emulates_bfloat16_gets_float16(gpu):
    gpu.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert choose_placement("cuda:1").dtype == torch.float16


def test_without_a_gpu_a_large_model_runs_in_bfloat16_and_a_small_one_in_float32(no_gpu):
    assert choose_placement("auto", "auto", 7_000_000_000).dtype == torch.bfloat16
    assert choose_placement("auto", "auto", 20_000_000).dtype == torch.float32
    assert "finds no CUDA GPU" in choose_placement().reason


def test_what_was_asked_for_is_done_and_said(no_gpu):
    placement = choose_placement("cpu", "float16", 7_000_000_000)
    assert (placement.device.type, placement.dtype_name) == ("cpu", "float16")
    assert placement.reason.count("asked for") == 2


def test_a_gpu_that_is_not_there_is_refused_with_what_to_do(no_gpu):
    with pytest.raises(BadParameter, match="device:=cpu"):
        choose_placement("cuda")


def test_a_gpu_number_beyond_the_last_is_refused(gpu):
    with pytest.raises(BadParameter, match=r"no cuda:2.*2 CUDA GPU"):
        choose_placement("cuda:2")


@pytest.mark.parametrize("device", ["tpu", "cuda:x", "cuda:-1", ""])
def test_an_unknown_device_is_refused(gpu, device):
    with pytest.raises(BadParameter, match="device must be"):
        choose_placement(device)


def test_an_unknown_dtype_is_refused(no_gpu):
    with pytest.raises(BadParameter, match="float32, bfloat16, float16"):
        choose_placement("cpu", "int4")
