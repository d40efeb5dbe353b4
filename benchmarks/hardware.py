"""What the machine can do, measured, so that a result can stand beside its limit."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import transformers


def synchronize(device: torch.device) -> None:
    """Wait until the device has done everything it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(run: Callable[[], object], device: torch.device, passes: int = 5, warm_up: int = 1) -> list[float]:
    """Return the sorted wall times of `passes` runs after `warm_up` untimed ones, the device drained around each."""
    for _ in range(warm_up):
        run()
    times = []
    for _ in range(passes):
        synchronize(device)
        begin = time.perf_counter()
        run()
        synchronize(device)
        times.append(time.perf_counter() - begin)
    return sorted(times)


def median(run: Callable[[], object], device: torch.device, passes: int = 5, warm_up: int = 1) -> float:
    """Return the median wall time of `run` in seconds."""
    return statistics.median(seconds(run, device, passes, warm_up))


def read_bandwidth(device: torch.device) -> float:
    """Return bytes per second of the best of a large sum and a large copy (a copy reads and writes)."""
    count = (1 << 30) if device.type == "cuda" else (1 << 26)
    source = torch.ones(count, dtype=torch.bfloat16 if device.type == "cuda" else torch.float32, device=device)
    target = torch.empty_like(source)
    copied = 2 * source.nbytes / min(seconds(lambda: target.copy_(source), device))
    summed = source.nbytes / min(seconds(lambda: source.sum(), device))
    return max(copied, summed)


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Return floating-point operations per second of a large square matrix product."""
    size = 8192 if device.type == "cuda" else 512  # large enough for float32; bfloat16 takes some CPUs seconds
    a = torch.ones(size, size, dtype=dtype, device=device)
    return 2 * size**3 / min(seconds(lambda: a @ a, device))


def describe(device: torch.device) -> dict[str, Any]:
    """Return device, core count and library versions."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name()
    return {
        "device": name,
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
