"""Measure the memory peak of loading and converting a checkpoint with random weights.

    python benchmarks/load_memory.py                                   # 1.6 billion parameters, NF4, on the CPU
    python benchmarks/load_memory.py --size 7b --layout published --device cuda
    python benchmarks/load_memory.py --size tiny                       # the same code in seconds

Writes a sharded bfloat16 checkpoint into a temporary folder, then works on it in child processes, each for itself:
load it quantizing on the fly, convert it to a quantized folder, load that folder. A child reports its own peak of
resident memory (VmHWM) and what it was made of: memory of its own, and mapped file pages, which the kernel can drop.
After loading it runs one clip, so that the predicted need can be compared with the real one. Prints progress on stderr
and one JSON object as the last line.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def model_config(size: str) -> Any:
    """Return the config of `size`: "7b" (without face branch), "tiny", or a number of billions of parameters.

    A number gives LLaMA-VID's language model with fewer, equally wide layers, and a face branch in the place of the
    vision tower.
    """
    from emo_llama_ros.model.configuration import EmoLlamaConfig, FaceConfig, LlmConfig, emo_llama_7b, emo_llama_tiny

    if size == "7b":
        return emo_llama_7b(face=False)
    if size == "tiny":
        return emo_llama_tiny(face=False)
    llm = LlmConfig()
    per_layer = 4 * llm.hidden_size**2 + 3 * llm.hidden_size * llm.intermediate_size
    fixed = 2 * llm.vocab_size * llm.hidden_size
    layers = max(1, -(-int(float(size) * 1e9 - fixed) // per_layer))
    return EmoLlamaConfig(llm=replace(llm, num_hidden_layers=layers), vision=None, qformer=None, face=FaceConfig())


def write_synthetic(folder: Path, size: str, layout: str, shard_bytes: int, device: str) -> dict[str, Any]:
    """Write a checkpoint with random weights, one tensor at a time."""
    import torch

    from emo_llama_ros.model.checkpoint import Manifest, write_description
    from emo_llama_ros.model.footprint import build_template, parameter_count
    from emo_llama_ros.model.key_map import to_published
    from emo_llama_ros.model.shards import ShardWriter, find_shards, write_json

    config = model_config(size)
    template = build_template(config)
    shapes = {name: tensor.shape for name, tensor in template.state_dict().items()}
    if layout == "published":
        shapes = {name: tensor.shape for name, tensor in to_published(template.state_dict()).items()}
    generator = torch.Generator(device).manual_seed(0)
    folder.mkdir()
    writer = _BinWriter(folder, shard_bytes) if layout == "published" else ShardWriter(folder, shard_bytes)
    for name, shape in shapes.items():
        tensor = torch.empty(shape, dtype=torch.bfloat16, device=device).normal_(0, 0.02, generator=generator)
        writer.add(name, tensor.cpu())
    writer.close()
    if layout == "published":
        write_json(folder / "config.json", {"model_type": "llava", "compress_type": "mean", **_PUBLISHED})
    else:
        write_description(folder, config, Manifest(base="random"))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "bert_vocab.txt").write_text("[PAD]\n")
    shards = find_shards(folder)
    return {
        "parameters": parameter_count(template),
        "checkpoint_bytes": shards.size,
        "shards": len(shards.files),
        "largest_shard_bytes": shards.largest,
    }


_PUBLISHED = {"bert_type": "qformer_pretrain", "mm_projector_type": "mlp2x_gelu", "image_aspect_ratio": "pad"}


class _BinWriter:
    """Writes pytorch_model-0000i-of-0000n.bin files, as LLaMA-VID was published."""

    def __init__(self, folder: Path, shard_bytes: int) -> None:
        self._folder, self._max = folder, shard_bytes
        self._shards: list[dict[str, Any]] = [{}]
        self._files: list[Path] = []
        self._bytes = 0

    def add(self, name: str, tensor: Any) -> None:
        """Take one tensor."""
        if self._bytes + tensor.nbytes > self._max:
            self._flush()
        self._shards[-1][name] = tensor
        self._bytes += tensor.nbytes

    def close(self) -> None:
        """Write the rest and give the files their final names."""
        self._flush()
        for number, file in enumerate(self._files, 1):
            file.rename(self._folder / f"pytorch_model-{number:05}-of-{len(self._files):05}.bin")

    def _flush(self) -> None:
        import torch

        self._files.append(self._folder / f"{len(self._files)}.partial")
        torch.save(self._shards.pop(), self._files[-1])
        self._shards.append({})
        self._bytes = 0


def child(task: str, source: str, target: str, quantization: str, device: str) -> None:
    """Run one measured task in this process and print its figures as JSON."""
    import torch
    import transformers  # noqa: F401 - imports are no part of the load

    from emo_llama_ros.model import bnb_linear  # noqa: F401
    from emo_llama_ros.model.convert import convert
    from emo_llama_ros.model.loading import load_model

    if device.startswith("cuda"):
        torch.zeros(1, device=device)  # the CUDA context takes host memory too
    before = _status()
    peak = _Peak()
    start = time.perf_counter()
    with peak:
        if task == "convert":
            result = convert(source, target, quantization=quantization, device=device)
        else:
            model, report = load_model(source, quantization=quantization, device=device, dtype="bfloat16", verify=False)
    figures = {
        "seconds": round(time.perf_counter() - start, 2),
        "rss_before": before["VmRSS"],
        "peak_rss": _status()["VmHWM"],
        "rss_after": _status()["VmRSS"],
        "at_peak": peak.split,
    }
    if task == "convert":
        figures["model_bytes"] = result.written_bytes
    else:
        figures["model_bytes"] = sum(t.numel() * t.element_size() for t in model.state_dict().values())
        figures["predicted_need"] = report.need.total
        figures |= _run_once(model, report.placement.device)
    print(json.dumps(figures))


def _run_once(model: Any, device: Any) -> dict[str, Any]:
    """Run a clip of 16 frames and a prompt of 512 tokens, as far as the model has the parts; report time and VRAM."""
    import torch

    figures: dict[str, Any] = {}
    if device.type == "cuda":
        figures["vram_after_loading"] = torch.cuda.memory_allocated()
        figures["vram_peak_loading"] = torch.cuda.max_memory_allocated()
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    with torch.inference_mode():
        if model.vision_tower is not None:
            side = model.config.vision.image_size
            frames = torch.zeros(16, 3, side, side, device=device, dtype=model.dtype)
            ids = torch.ones(1, 32, dtype=torch.long, device=device)
            model.frame_tokens(model.encode_frames(frames), ids, ids)
        tokens = min(512, model.config.llm.max_position_embeddings)
        model.language_model(torch.ones(1, tokens, dtype=torch.long, device=device), logits_to_keep=1, use_cache=True)
    if device.type == "cuda":
        torch.cuda.synchronize()
        free, total = torch.cuda.mem_get_info()
        figures["vram_peak_running"] = torch.cuda.max_memory_allocated()
        figures["vram_used_on_card"] = total - free
        figures["device"] = torch.cuda.get_device_name()
    else:
        figures["peak_rss_running"] = _status()["VmHWM"]
    figures["first_clip_seconds"] = round(time.perf_counter() - start, 2)
    return figures


class _Peak:
    """Samples what the resident memory is made of while a task runs."""

    def __init__(self) -> None:
        self.split: dict[str, int] = {"own": 0, "file_pages": 0}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.02):
            now = _status()
            if now["RssAnon"] + now["RssFile"] > sum(self.split.values()):
                self.split = {"own": now["RssAnon"], "file_pages": now["RssFile"]}


def _status() -> dict[str, int]:
    lines = Path("/proc/self/status").read_text().splitlines()
    return {
        line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.startswith(("VmHWM", "VmRSS", "Rss"))
    }


def measure(task: str, source: Path, target: Path, quantization: str, device: str, largest_shard: int) -> Any:
    """Run one task in a child process and put its peak beside what it may hold."""
    from emo_llama_ros.model.shards import MAX_SHARD_BYTES

    command = [sys.executable, __file__, "--child", task, str(source), str(target), quantization, device]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    figures = json.loads(output.splitlines()[-1])
    # A load may hold the model (unless it went to a GPU) and the shard being read; a conversion the shard being
    # written and the one being read.
    held = figures["model_bytes"] if task == "load" else min(figures["model_bytes"], MAX_SHARD_BYTES)
    if task == "load" and device.startswith("cuda"):
        held = 0
    figures["peak_above_start"] = figures["peak_rss"] - figures["rss_before"]
    figures["bound"] = held + largest_shard
    figures["ratio"] = round(figures["peak_above_start"] / figures["bound"], 3)
    print(f"{task} {source.name}: {json.dumps(figures)}", file=sys.stderr, flush=True)
    return figures


def main() -> None:
    """Write the checkpoint, run the children, print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--size", default="1.6", help="7b, tiny, or billions of parameters")
    parser.add_argument("--layout", choices=("ours", "published"), default="ours", help="safetensors, or .bin shards")
    parser.add_argument("--shard-mb", type=int, default=800, help="largest shard to write")
    parser.add_argument("--quantization", choices=("nf4", "int8"), default="nf4")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--folder", type=Path, help="where to put the temporary files; default: the system's place")
    parser.add_argument("--child", nargs=5, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(*arguments.child)
        return
    if arguments.layout == "published" and arguments.size != "7b":
        parser.error("a published folder is always read as a 7b")
    method, device = arguments.quantization, arguments.device
    with tempfile.TemporaryDirectory(dir=arguments.folder) as temporary:
        source, converted = Path(temporary, "source"), Path(temporary, "converted")
        start = time.perf_counter()
        shard_bytes = arguments.shard_mb * 1_000_000
        figures = write_synthetic(source, arguments.size, arguments.layout, shard_bytes, device)
        print(f"written in {time.perf_counter() - start:.0f} s: {figures}", file=sys.stderr, flush=True)
        largest = figures["largest_shard_bytes"]
        figures["load_quantizing"] = measure("load", source, converted, method, device, largest)
        figures["convert"] = measure("convert", source, converted, method, device, largest)
        figures["load_converted"] = measure("load", converted, converted, method, device, largest)
    print(json.dumps({"quantization": method, "device": device, "cpu_threads": os.cpu_count(), **figures}))


if __name__ == "__main__":
    main()
