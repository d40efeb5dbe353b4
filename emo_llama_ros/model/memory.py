"""How much memory a model needs, how much is free, and what running out of it looks like."""

from __future__ import annotations

import ctypes
import errno
import gc
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from emo_llama_ros.errors import OutOfMemory

_CGROUP = Path("/sys/fs/cgroup")

_OUT_OF_MEMORY_PHRASES = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
    "bad_alloc",
)


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    """Bytes that a loaded model takes, by part; the sum is what must be free before it is loaded."""

    parts: Mapping[str, int]
    kv_per_token: int
    """Bytes of KV cache per token of context; `parts` holds it for the longest usual prompt and answer."""

    @property
    def total(self) -> int:
        """Bytes in all."""
        return sum(self.parts.values())


@dataclass(frozen=True, slots=True)
class FreeMemory:
    """Bytes free for a model on one device; `unified` when a GPU shares the memory of the CPU (Jetson)."""

    free: int
    total: int
    where: str
    unified: bool = False


def free_memory(device: torch.device) -> FreeMemory:
    """Measure what is free on `device` now.

    On a CPU: what the system can give without swapping, and no more than the container's limit leaves. On a GPU with
    memory of its own: what the driver reports. On a GPU that shares the CPU's memory the driver does not count page
    cache that can be dropped, so the system's figure is taken.
    """
    if device.type != "cuda":
        return _free_host_memory("memory")
    with torch.cuda.device(device):
        free, total = torch.cuda.mem_get_info()
        reserved_unused = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    name = torch.cuda.get_device_name(device)
    if getattr(torch.cuda.get_device_properties(device), "is_integrated", False):
        host = _free_host_memory(f"memory shared by CPU and {name}")
        return FreeMemory(max(free, host.free), host.total, host.where, unified=True)
    return FreeMemory(free + reserved_unused, total, f"memory of {name}")


def check_fits(need: MemoryNeed, device: torch.device, advice: str = "") -> FreeMemory:
    """Return what is free on `device`; raise OutOfMemory with need, free and `advice` when the model cannot fit."""
    available = free_memory(device)
    if need.total > available.free:
        raise OutOfMemory(
            f"The model needs {gigabytes(need.total)} but only {gigabytes(available.free)} of {available.where} are "
            f"free; {advice or 'close other programs'}."
        )
    return available


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether `error`, or what caused it, is some library's way to say that memory ran out."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, (MemoryError, OutOfMemory, torch.cuda.OutOfMemoryError)):
            return True
        if isinstance(seen, OSError) and seen.errno == errno.ENOMEM:
            return True
        if isinstance(seen, (RuntimeError, OSError)):
            text = str(seen).lower()
            if any(phrase in text for phrase in _OUT_OF_MEMORY_PHRASES):
                return True
        seen = seen.__cause__
    return False


def release_memory() -> None:
    """Give memory of deleted tensors back to the system: Python's, the GPU cache, the C heap."""
    gc.collect()
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    if sys.platform == "linux":
        try:
            ctypes.CDLL("libc.so.6").malloc_trim(0)
        except (OSError, AttributeError):
            return  # another C library (musl) has no such call, and keeps less


def gigabytes(count: int) -> str:
    """Format bytes for people: '3.9 GB', '12 MB'."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def _free_host_memory(where: str) -> FreeMemory:
    system = psutil.virtual_memory()
    limit = _container_limit()
    if limit is None or limit[1] >= system.total:
        return FreeMemory(system.available, system.total, where)
    return FreeMemory(min(system.available, limit[0]), limit[1], f"{where} (container limit)")


def _container_limit() -> tuple[int, int] | None:
    """Return (headroom, limit) in bytes of the control group that binds first, None without a limit."""
    found = []
    for folder in _cgroups():
        for limit_file, usage_file in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            limit, usage = _number(folder / limit_file), _number(folder / usage_file)
            if limit is not None and usage is not None:
                found.append((max(0, limit - usage + _droppable(folder)), limit))
    return min(found, default=None)


def _cgroups() -> list[Path]:
    folders = [_CGROUP, _CGROUP / "memory"]
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return folders
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):
            folder = (_CGROUP / controllers / path.lstrip("/")) if controllers else _CGROUP / path.lstrip("/")
            while folder != _CGROUP and _CGROUP in folder.parents:
                folders.append(folder)
                folder = folder.parent
    return folders


def _droppable(folder: Path) -> int:
    """Return the page cache that the kernel drops before it refuses memory to the group."""
    try:
        lines = (folder / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    values = dict(line.split(maxsplit=1) for line in lines if " " in line)
    return int(values.get("inactive_file", 0))


def _number(file: Path) -> int | None:
    try:
        text = file.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None
