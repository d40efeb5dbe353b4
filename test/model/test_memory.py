"""What is free, what fits, and how running out of memory is recognised."""

import errno

import pytest
import torch

from emo_llama_ros.errors import OutOfMemory
from emo_llama_ros.model import memory
from emo_llama_ros.model.memory import MemoryNeed, check_fits, free_memory, is_out_of_memory

CPU = torch.device("cpu")


def write_group(folder, limit, usage, inactive=0, names=("memory.max", "memory.current")):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{usage}\n")
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {inactive}\n")


@pytest.fixture
def no_container(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_CGROUP", tmp_path / "cgroup")
    return tmp_path / "cgroup"


def test_free_memory_of_the_cpu_is_what_the_system_can_give(no_container):
    available = free_memory(CPU)
    assert 0 < available.free < available.total


def test_a_container_limit_counts_when_it_is_tighter_than_the_machine(no_container):
    write_group(no_container, limit=300_000_000, usage=120_000_000, inactive=20_000_000)
    available = free_memory(CPU)
    assert available.free == 200_000_000
    assert "container" in available.where


def test_a_container_limit_of_old_kernels_counts_too(no_container):
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
    write_group(no_container / "memory", limit=300_000_000, usage=100_000_000, names=names)
    assert free_memory(CPU).free == 200_000_000


def test_a_container_without_a_limit_changes_nothing(no_container):
    write_group(no_container, limit="max", usage=100)
    assert "container" not in free_memory(CPU).where


def test_a_model_that_does_not_fit_is_refused_with_need_free_and_advice(no_container):
    write_group(no_container, limit=2_000_000_000, usage=500_000_000)
    need = MemoryNeed({"language model": 3_000_000_000, "KV cache": 100_000_000}, kv_per_token=1000)
    with pytest.raises(OutOfMemory, match=r"needs 3\.1 GB but only 1\.5 GB of memory .*use quantization:=nf4"):
        check_fits(need, CPU, "use quantization:=nf4")
    assert check_fits(MemoryNeed({"all": 1_400_000_000}, 0), CPU).free == 1_500_000_000


def test_a_gpu_that_shares_the_cpus_memory_counts_droppable_page_cache(no_container, monkeypatch):
    fake_gpu(monkeypatch, free=1_000_000_000, total=8_000_000_000, integrated=True)
    host = free_memory(CPU)
    available = free_memory(torch.device("cuda", 0))
    assert available.unified
    assert available.free >= max(1_000_000_000, int(host.free * 0.9))


def test_a_gpu_with_memory_of_its_own_counts_what_the_driver_and_our_own_cache_have_free(monkeypatch):
    fake_gpu(monkeypatch, free=1_000_000_000, total=8_000_000_000, integrated=False)
    available = free_memory(torch.device("cuda", 0))
    assert (available.free, available.unified) == (1_300_000_000, False)


def fake_gpu(monkeypatch, free, total, integrated):
    properties = type("Properties", (), {"is_integrated": integrated})()
    monkeypatch.setattr(torch.cuda, "device", lambda device: torch.inference_mode())
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (free, total))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 500_000_000)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: 200_000_000)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: "Orin")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)


def test_a_real_failed_allocation_is_recognised():
    with pytest.raises(RuntimeError) as failed:
        torch.empty(10**15)
    assert is_out_of_memory(failed.value)


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        MemoryError(),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("std::bad_alloc"),
        OutOfMemory("The model needs more."),
    ],
)
def test_every_librarys_way_to_say_it_is_recognised(error):
    assert is_out_of_memory(error)


def test_the_cause_of_an_error_counts():
    error = ValueError("loading failed")
    error.__cause__ = MemoryError()
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: device-side assert triggered"),
        ValueError("shape"),
        OSError(errno.ENOENT, "No such file"),
    ],
)
def test_other_errors_are_not_mistaken_for_it(error):
    assert not is_out_of_memory(error)
