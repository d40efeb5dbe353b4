"""Measure the memory peak of loading and converting: `python benchmarks/load_memory.py --parameters 1.6`.

Writes a synthetic sharded checkpoint of the published layout (bfloat16, random) into a temporary folder, then loads it
in child processes of their own: quantized on the fly, converted to a quantized folder, and from that folder. Each child
reports its own peak of resident memory (VmHWM), split at the peak into memory of its own and mapped file pages, which
the kernel can drop. Prints one JSON object.
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


def model_config(billions: float) -> Any:
    """Return LLaMA-VID's 7B config with fewer, equally wide layers: at least `billions` parameters, no vision tower.

    The face branch stays, as the part that is never quantized.
    """
    from emo_llama_ros.model.configuration import EmoLlamaConfig, FaceConfig, LlmConfig

    llm = LlmConfig()
    per_layer = 4 * llm.hidden_size**2 + 3 * llm.hidden_size * llm.intermediate_size
    fixed = 2 * llm.vocab_size * llm.hidden_size
    layers = max(1, -(-int(billions * 1e9 - fixed) // per_layer))
    return EmoLlamaConfig(llm=replace(llm, num_hidden_layers=layers), vision=None, qformer=None, face=FaceConfig())


def write_synthetic(folder: Path, billions: float, shard_bytes: int) -> dict[str, Any]:
    """Write a checkpoint with random weights, one tensor at a time."""
    import torch

    from emo_llama_ros.model.checkpoint import Manifest, write_description
    from emo_llama_ros.model.footprint import build_template, parameter_count
    from emo_llama_ros.model.shards import ShardWriter, find_shards

    config = model_config(billions)
    template = build_template(config)
    writer = ShardWriter(folder, shard_bytes)
    generator = torch.Generator().manual_seed(0)
    for name, tensor in template.state_dict().items():
        writer.add(name, torch.empty(tensor.shape, dtype=torch.bfloat16).normal_(0, 0.02, generator=generator))
    writer.close()
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


def child(task: str, source: str, target: str, quantization: str) -> None:
    """Run one measured task in this process and print its figures as JSON."""
    import torch
    import transformers  # noqa: F401 - its import is no part of the load

    from emo_llama_ros.model import bnb_linear  # noqa: F401 - neither is this
    from emo_llama_ros.model.convert import convert
    from emo_llama_ros.model.loading import load_model

    before = _status()
    peak = _Peak()
    start = time.perf_counter()
    with peak:
        if task == "convert":
            result = convert(source, target, quantization=quantization, device="cpu")
            size = result.written_bytes
        else:
            model, _ = load_model(source, quantization=quantization, device="cpu", dtype="bfloat16", verify=False)
            size = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    seconds = time.perf_counter() - start
    figures = {
        "seconds": round(seconds, 2),
        "model_bytes": size,
        "rss_before": before["VmRSS"],
        "peak_rss": _status()["VmHWM"],
        "rss_after": _status()["VmRSS"],
        "at_peak": peak.split,
    }
    if task == "load":
        start = time.perf_counter()
        with torch.inference_mode():
            model.language_model(torch.arange(4)[None], logits_to_keep=1)
        figures["first_forward_seconds"] = round(time.perf_counter() - start, 2)
    print(json.dumps(figures))


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


def measure(task: str, source: Path, target: Path, quantization: str, largest_shard: int) -> dict[str, Any]:
    """Run one task in a child process and put its peak beside what it may hold."""
    from emo_llama_ros.model.shards import MAX_SHARD_BYTES

    command = [sys.executable, __file__, "--child", task, str(source), str(target), quantization]
    output = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ).stdout
    figures = json.loads(output.splitlines()[-1])
    # A load may hold the model and the shard being read; a conversion the shard being written and the one being read.
    held = figures["model_bytes"] if task == "load" else min(figures["model_bytes"], MAX_SHARD_BYTES)
    figures["peak_above_start"] = figures["peak_rss"] - figures["rss_before"]
    figures["bound"] = held + largest_shard
    figures["ratio"] = round(figures["peak_above_start"] / figures["bound"], 3)
    return figures


def main() -> None:
    """Write the checkpoint, run the children, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parameters", type=float, default=1.6, help="size of the checkpoint in billions")
    parser.add_argument("--shard-mb", type=int, default=800, help="largest shard to write")
    parser.add_argument("--quantization", choices=("nf4", "int8", "none"), default="nf4")
    parser.add_argument("--folder", type=Path, help="where to put the temporary files (default: the system's)")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(*arguments.child)
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as temporary:
        source, converted = Path(temporary, "source"), Path(temporary, "converted")
        figures = write_synthetic(source, arguments.parameters, arguments.shard_mb * 1_000_000)
        largest, method = figures["largest_shard_bytes"], arguments.quantization
        figures["load_quantizing"] = measure("load", source, converted, method, largest)
        figures["convert"] = measure("convert", source, converted, method, largest)
        figures["load_converted"] = measure("load", converted, converted, method, 0)
    print(json.dumps({"quantization": method, "cpu_threads": os.cpu_count(), **figures}, indent=2))


if __name__ == "__main__":
    main()
