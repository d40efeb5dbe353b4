"""Measure a 7B-shaped EMO-LLaMA in NF4 on a CUDA GPU: memory, label latency, decoding speed, beside their limits.

    python benchmarks/gpu_7b.py                # random weights of the 7B preset, built on the card; needs about 8 GB
    python benchmarks/gpu_7b.py --tiny         # the same code on the CPU with a tiny model, in seconds

The baseline is plain transformers `generate()` on the same weights, taken before anything is fused or captured. Each
figure is written to $OUT/gpu_7b.json (if OUT is set) as soon as it is known; the last line printed is all of them.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import time
import traceback
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from hardware import describe, matmul_rate, median, read_bandwidth, synchronize
from random_models import random_model, weight_bytes
from synthetic_clips import EOS, FRAMES, Film, make_prompt, plain_inputs

from emo_llama_ros.inference.clip_reader import ClipReader, Prompt
from emo_llama_ros.inference.performance import tune
from emo_llama_ros.model.configuration import emo_llama_7b, emo_llama_tiny
from emo_llama_ros.model.modeling import EmoLlama


class Report:
    """Figures that are printed and written as they come."""

    def __init__(self) -> None:
        self.figures: dict[str, Any] = {}
        self._begin = time.perf_counter()
        self._file = Path(os.environ["OUT"]) / "gpu_7b.json" if os.environ.get("OUT") else None

    def add(self, name: str, value: Any) -> None:
        """Record one figure; floats are cut to four digits."""
        self.figures[name] = _short(value)
        print(f"[{time.perf_counter() - self._begin:6.1f} s] {name}: {self.figures[name]}", flush=True)
        if self._file:
            self._file.write_text(json.dumps(self.figures, indent=1))

    def attempt(self, name: str, measure: Callable[[], None]) -> None:
        """Run one part; its failure is a figure too and does not end the rest."""
        try:
            measure()
        except Exception as error:
            traceback.print_exc()
            self.add(f"{name}_failed", f"{type(error).__name__}: {str(error)[:300]}")


def _short(value: Any) -> Any:
    if isinstance(value, float):
        return value if value == 0 or not math.isfinite(value) else round(value, 3 - math.floor(math.log10(abs(value))))
    if isinstance(value, dict):
        return {name: _short(part) for name, part in value.items()}
    return [_short(part) for part in value] if isinstance(value, (list, tuple)) else value


@torch.inference_mode()
def measure_plain(report: Report, model: EmoLlama, film: Film, prompt: Prompt, new_tokens: int) -> None:
    """The baseline: a whole clip through plain transformers, and its decoding speed."""
    device = model.device

    def answer(count: int) -> None:
        embeds = plain_inputs(model, film, prompt)
        model.language_model.generate(
            inputs_embeds=embeds,
            attention_mask=torch.ones(embeds.shape[:2], dtype=torch.long, device=device),
            max_new_tokens=count,
            min_new_tokens=count,
            do_sample=False,
            pad_token_id=0,
        )

    label = median(lambda: answer(4), device, 5)
    whole = median(lambda: answer(new_tokens), device, 3, 0)
    step = (whole - label) / (new_tokens - 4)
    report.add("plain_label_ms", 1e3 * label)
    report.add(f"plain_label_and_{new_tokens}_tokens_ms", 1e3 * whole)
    report.add("plain_tokens_per_s", 1 / step)


def measure_labels(report: Report, reader: ClipReader, film: Film, prompt: Prompt, labels: int, rate_hz: float) -> None:
    """Label latency of sliding clips: from frames on the host to log-likelihoods on the host."""
    device = reader.runner.device

    def run(stride: int, period_s: float, person: str) -> list[float]:
        times = []
        due = time.perf_counter()
        for k in range(labels + 3):
            synchronize(device)
            begin = time.perf_counter()
            reader.score([film.clip(stride * k, person)], [prompt])
            times.append(1e3 * (time.perf_counter() - begin))
            due += period_s
            time.sleep(max(0.0, due - time.perf_counter()))
        return sorted(times[3:])

    for stride in (1, 2):
        for pace, period_s in (("paced", 1 / rate_hz), ("back_to_back", 0.0)):
            times = run(stride, period_s, f"{pace}{stride}")
            p95 = times[min(len(times) - 1, math.ceil(0.95 * len(times)) - 1)]
            report.add(
                f"label_ms_{stride}_new_frames_{pace}",
                {"p50": statistics.median(times), "p95": p95, "max": times[-1], "labels": len(times)},
            )

    def afresh() -> None:
        reader.frames.clear()
        reader.score([film.clip(0)], [prompt])

    report.add("label_ms_all_frames_new", 1e3 * median(afresh, device))
    people = [film.clip(0, f"p{i}") for i in range(4)]
    for known in (True, False):
        reader.score(people, [prompt] * 4)

        def batch(known: bool = known) -> None:
            if not known:
                reader.frames.clear()
            reader.score(people, [prompt] * 4)

        name = "known" if known else "new"
        report.add(f"label_ms_4_people_all_frames_{name}", 1e3 * median(batch, device))


def check_captured(report: Report, reader: ClipReader, film: Film, prompt: Prompt, tokens: int) -> None:
    """Compare what the captured passes give with what the plain ones give."""
    clip, more = film.clip(0, "check"), (5, 6, EOS, 7, 8, 9)
    captured = reader.score([clip], [prompt])[0]
    words = list(reader.generate(captured, more, frozenset(), tokens))
    for part in ("label", "decode"):
        reader.uncapture(part)
    encode, reader.frames.encode = reader.frames.encode, reader.model.encode_frames
    generate, reader.frames.generate = reader.frames.generate, reader.frames.generate_plainly
    reader.frames.clear()
    plain = reader.score([clip], [prompt])[0]
    same = list(reader.generate(plain, more, frozenset(), tokens))
    reader.frames.encode, reader.frames.generate = encode, generate
    report.add("captured_vs_plain_scores", float((captured.log_likelihoods - plain.log_likelihoods).abs().max()))
    equal = next((i for i, (a, b) in enumerate(zip(words, same, strict=True)) if a != b), tokens)
    report.add("captured_vs_plain_tokens", f"first {equal} of {tokens} equal")


@torch.inference_mode()
def measure_stages(report: Report, reader: ClipReader, film: Film, prompt: Prompt, flops: float) -> None:
    """Where a label's time goes, and how near the language model comes to the matrix rate of the machine."""
    model, device, visual = reader.model, reader.runner.device, prompt.visual
    pixels = film.pixels([0])
    features = model.encode_frames(pixels)
    report.add("stage_upload_ms", 1e3 * median(lambda: film.pixels([0]), device))
    report.add("stage_vision_1_frame_ms", 1e3 * median(lambda: reader.frames.encode(pixels), device))
    report.add("stage_vision_8_frames_ms", 1e3 * median(lambda: model.encode_frames(film.pixels(range(8))), device))
    priors = film.priors([0])
    args = visual.prompt_ids, visual.prompt_mask
    report.add("stage_tokens_1_frame_ms", 1e3 * median(lambda: reader.frames.generate(features, *args), device))
    faces = model.face_branch
    if faces is not None:
        report.add("stage_face_tokens_1_frame_ms", 1e3 * median(lambda: faces.frame_tokens(priors, *args), device))
    block = reader.frames.blocks([film.clip(0)], visual)[0]
    tail = reader.runner.embed(torch.tensor(prompt.tail_ids, device=device))
    embeds = torch.cat([block, tail])[None]
    own = reader.score_embeds(embeds, prompt.head_ids)
    scoring = median(lambda: reader.score_embeds(embeds, prompt.head_ids), device)
    report.add("stage_prefill_and_scoring_ms", 1e3 * scoring)
    tokens = embeds.shape[1] + len(reader._trie)
    linears = sum(_numel(m) for n, m in model.language_model.named_modules() if n.endswith("_proj"))
    report.add("prefill_tokens", tokens)
    report.add("prefill_mfu", 2 * linears * tokens / scoring / flops)
    assert own.isfinite().all()


def _numel(linear: Any) -> int:
    return int(linear.in_features * linear.out_features)


@torch.inference_mode()
def measure_decode(
    report: Report, reader: ClipReader, film: Film, prompt: Prompt, tokens: int, bandwidth: float, read: int
) -> None:
    """Decoding speed of the answer that follows a label, beside the limit set by reading the weights."""
    device = reader.runner.device
    reading = reader.score([film.clip(0)], [prompt])[0]

    def answer(count: int) -> None:
        for _ in islice(reader.generate(reading, (5, 6, EOS, 7, 8, 9), frozenset(), count), count):
            pass

    first = median(lambda: answer(1), device)
    whole = median(lambda: answer(tokens), device)
    step = (whole - first) / (tokens - 1)
    report.add("first_word_after_label_ms", 1e3 * first)
    report.add("tokens_per_s", 1 / step)
    report.add("tokens_per_s_limit", bandwidth / read)
    report.add("mbu", read / step / bandwidth)
    if "plain_tokens_per_s" in report.figures:
        report.add("decode_vs_plain", 1 / step / report.figures["plain_tokens_per_s"])


def main() -> None:
    """Measure everything that this machine can measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="a tiny model on the CPU, to try the script")
    parser.add_argument("--quantization", default="nf4", choices=("nf4", "int8", "none"))
    parser.add_argument("--performance", default="auto", choices=("auto", "plain", "compile"))
    parser.add_argument("--labels", type=int, default=40, help="labels per latency figure")
    parser.add_argument("--tokens", type=int, default=96, help="tokens of one answer")
    parser.add_argument("--no-baseline", action="store_true", help="leave plain transformers out")
    args = parser.parse_args()
    if not args.tiny and not torch.cuda.is_available():
        sys.exit("No CUDA GPU is visible to PyTorch; run with --tiny to try the script on the CPU.")
    device = torch.device("cpu" if args.tiny else "cuda:0")
    dtype = torch.bfloat16
    config = emo_llama_tiny() if args.tiny else emo_llama_7b()
    if args.tiny:
        args.labels, args.tokens = 6, 24
    rate_hz = 50.0 if args.tiny else 2.0

    report = Report()
    report.add("hardware", describe(device))
    bandwidth, flops = read_bandwidth(device), matmul_rate(device, dtype)
    report.add("bandwidth_gb_per_s", bandwidth / 1e9)
    report.add("matmul_tflops", flops / 1e12)
    film = Film(config, 32, device, dtype)
    prompt, trie, _ = make_prompt(config, device)

    if not args.tiny:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    begin = time.perf_counter()
    model = random_model(config, args.quantization, device, dtype)
    synchronize(device)
    report.add("build_s", time.perf_counter() - begin)
    report.add("build_peak_gb", _peak_gb(device))
    read = weight_bytes(model.language_model)
    report.add("weights_read_per_token_gb", read / 1e9)
    if not args.no_baseline:
        report.attempt("plain", lambda: measure_plain(report, model, film, prompt, args.tokens))
        report.add("plain_peak_gb", _peak_gb(device))

    begin = time.perf_counter()
    reader = ClipReader(model, trie)
    choice = tune(reader, args.performance, prompt, FRAMES, args.tokens)
    synchronize(device)
    report.add("fuse_and_tune_s", time.perf_counter() - begin)
    report.add("performance", choice.reason)
    # Fusing keeps the scales as float32, so that a token reads a little more than the checkpoint's bytes.
    report.add("weights_read_per_token_fused_gb", weight_bytes(model.language_model) / 1e9)
    report.attempt("labels", lambda: measure_labels(report, reader, film, prompt, args.labels, rate_hz))
    report.attempt("stages", lambda: measure_stages(report, reader, film, prompt, flops))
    report.attempt("decode", lambda: measure_decode(report, reader, film, prompt, args.tokens, bandwidth, read))
    report.add("peak_gb", _peak_gb(device))
    report.attempt("check", lambda: check_captured(report, reader, film, prompt, args.tokens))
    report.add("targets", {"label_p95_ms": 60, "decode_vs_plain": 2})
    print(json.dumps(report.figures))


def _peak_gb(device: torch.device) -> dict[str, float] | None:
    if device.type != "cuda":
        return None
    return {
        "allocated": torch.cuda.max_memory_allocated() / 1e9,
        "reserved": torch.cuda.max_memory_reserved() / 1e9,
    }


if __name__ == "__main__":
    main()
