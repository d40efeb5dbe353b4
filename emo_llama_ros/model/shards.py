"""Read and write the tensors of a checkpoint folder one at a time.

Reads `model.safetensors` and `pytorch_model.bin`, single or sharded, with or without an index. Files are memory mapped
and one shard is open at a time, so a checkpoint larger than the memory can be streamed.
"""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from emo_llama_ros.errors import BadCheckpoint, MissingModel

MAX_SHARD_BYTES = 2_000_000_000

_STEMS = (
    ("model", "safetensors"),
    ("adapter_model", "safetensors"),
    ("pytorch_model", "bin"),
    ("adapter_model", "bin"),
)


@dataclass(frozen=True, slots=True)
class Shards:
    """The weight files of one checkpoint, in order; `index` maps tensor name to file name where the folder says so."""

    folder: Path
    files: tuple[Path, ...]
    index: dict[str, str] | None = None

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(file.stat().st_size for file in self.files)

    @property
    def largest(self) -> int:
        """Bytes of the largest file."""
        return max(file.stat().st_size for file in self.files)

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Yield every (name, tensor) on the CPU; a tensor is a view of the mapped file while anyone holds it.

        Raises BadCheckpoint when a file is damaged, holds a name twice, or contradicts the index.
        """
        seen: dict[str, str] = {}
        for file in self.files:
            for name, tensor in read_tensors(file):
                if name in seen:
                    raise BadCheckpoint(f"Tensor '{name}' is both in {seen[name]} and in {file.name} of {self.folder}.")
                seen[name] = file.name
                yield name, tensor
        for name, file_name in (self.index or {}).items():
            if seen.get(name) != file_name:
                raise BadCheckpoint(
                    f"The index of {self.folder} says that tensor '{name}' is in {file_name}, but it is not; "
                    "download the checkpoint again."
                )


def find_shards(folder: Path) -> Shards:
    """Find the weight files of a checkpoint folder; raise MissingModel when there are none or one is missing."""
    if not folder.is_dir():
        raise MissingModel(f"There is no checkpoint folder {folder}.")
    for stem, suffix in _STEMS:
        index_file = folder / f"{stem}.{suffix}.index.json"
        single = folder / f"{stem}.{suffix}"
        if index_file.is_file():
            return _indexed(folder, index_file)
        if single.is_file():
            return Shards(folder, (single,))
        pattern = re.compile(rf"{stem}-(\d+)-of-(\d+)\.{suffix}")
        numbered = sorted(file for file in folder.iterdir() if pattern.fullmatch(file.name))
        if numbered:
            total = int(pattern.fullmatch(numbered[0].name)[2])  # type: ignore[index]
            if len(numbered) != total:
                raise MissingModel(f"{folder} holds {len(numbered)} of the {total} files {stem}-*.{suffix}.")
            return Shards(folder, tuple(numbered))
    raise MissingModel(
        f"{folder} holds no weights: no model.safetensors, no pytorch_model.bin, and no shards of either."
    )


def _indexed(folder: Path, index_file: Path) -> Shards:
    index = read_json(index_file).get("weight_map")
    if not isinstance(index, dict) or not index:
        raise BadCheckpoint(f"{index_file} has no weight_map; download the checkpoint again.")
    files = []
    for name in sorted(set(index.values())):
        file = folder / str(name)
        if Path(str(name)).name != name or not file.is_file():
            raise MissingModel(f"{folder} lacks the file {name} that {index_file.name} lists.")
        files.append(file)
    return Shards(folder, tuple(files), index)


def read_tensors(file: Path) -> Iterator[tuple[str, Tensor]]:
    """Yield every (name, tensor) of one .safetensors or .bin file; nothing but tensors is ever unpickled."""
    if file.suffix == ".safetensors":
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(file, framework="pt") as opened:
                for name in opened.keys():  # noqa: SIM118 - the handle is no mapping
                    yield name, opened.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise BadCheckpoint(f"{file} is damaged ({error}); copy or download it again.") from error
        return
    state = _load_pickle(file)
    for name in list(state):
        yield name, state.pop(name)


def _load_pickle(file: Path) -> dict[str, Tensor]:
    try:
        try:
            state = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError as error:
            if "mmap" not in str(error):
                raise
            state = torch.load(file, map_location="cpu", weights_only=True)  # written before PyTorch 1.6
    except pickle.UnpicklingError as error:
        raise BadCheckpoint(f"{file} holds more than tensors and is refused: it could run code.") from error
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        raise BadCheckpoint(f"{file} is damaged ({str(error).splitlines()[0]}); copy or download it again.") from error
    if not isinstance(state, dict) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise BadCheckpoint(f"{file} is not a state dict: it must map names to tensors.")
    return state


class ShardWriter:
    """Writes tensors as they come into `model-0000i-of-0000n.safetensors` files and an index.

    At most one shard (`max_shard_bytes`, or one larger tensor) is held in memory. Nothing has its final name before
    `close`, so an interrupted run leaves no folder that looks complete.
    """

    def __init__(self, folder: Path, max_shard_bytes: int = MAX_SHARD_BYTES, stem: str = "model") -> None:
        self._folder, self._stem, self._max = folder, stem, max_shard_bytes
        self._pending: dict[str, Tensor] = {}
        self._pending_bytes = 0
        self._written: list[tuple[Path, list[str]]] = []
        self.total_bytes = 0
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, name: str, tensor: Tensor) -> None:
        """Take a copy of one tensor, writing a shard when it is full.

        A copy, because a view of a mapped file would hold that whole file in memory.
        """
        size = tensor.numel() * tensor.element_size()
        if self._pending and self._pending_bytes + size > self._max:
            self._flush()
        self._pending[name] = tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        self._pending_bytes += size
        self.total_bytes += size

    def close(self) -> list[Path]:
        """Write what is left and the index; return the final files."""
        self._flush()
        total = len(self._written)
        weight_map: dict[str, str] = {}
        files = []
        for number, (temporary, names) in enumerate(self._written, 1):
            suffix = "" if total == 1 else f"-{number:05}-of-{total:05}"
            final = self._folder / f"{self._stem}{suffix}.safetensors"
            temporary.replace(final)
            files.append(final)
            weight_map |= dict.fromkeys(names, final.name)
        if total > 1:
            index_file = self._folder / f"{self._stem}.safetensors.index.json"
            write_json(index_file, {"metadata": {"total_size": self.total_bytes}, "weight_map": weight_map})
            files.append(index_file)
        return files

    def _flush(self) -> None:
        if not self._pending:
            return
        from safetensors.torch import save_file

        temporary = self._folder / f".{self._stem}-{len(self._written):05}.partial"
        save_file(self._pending, temporary, metadata={"format": "pt"})
        self._written.append((temporary, list(self._pending)))
        self._pending, self._pending_bytes = {}, 0


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON object; raise MissingModel or BadCheckpoint naming the file."""
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MissingModel(f"There is no file {file}.") from error
    except (OSError, ValueError) as error:
        raise BadCheckpoint(f"{file} is not readable JSON ({error}).") from error
    if not isinstance(value, dict):
        raise BadCheckpoint(f"{file} must hold a JSON object.")
    return value


def write_json(file: Path, value: dict[str, Any]) -> None:
    """Write a JSON object with sorted keys left as given, two spaces of indent and a final newline."""
    file.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
