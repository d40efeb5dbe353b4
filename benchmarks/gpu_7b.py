"""Measure a 7B-shaped EMO-LLaMA in NF4 on a CUDA GPU: memory, label latency, decoding speed, beside their limits.

    python benchmarks/gpu_7b.py                # random weights of the 7B preset, built on the card; needs about 8 GB
    python benchmarks/gpu_7b.py --tiny         # the same code on the CPU with a tiny model, in seconds

The baseline is plain transformers `generate()` on the same weights, taken before anything is fused or captured. Each
figure is written to $OUT/gpu_7b.json (if OUT is set) as soon as it is known; the last line printed is all of them.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import sys
import time
import timeit
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
from emo_llama_ros.inference.decoding import EXTENT, CapturedDecoder, read_token
from emo_llama_ros.inference.performance import tune
from emo_llama_ros.model.configuration import emo_llama_7b, emo_llama_tiny
from emo_llama_ros.model.modeling import EmoLlama

WARM_UP_LABELS = 5


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
    """Label latency of sliding clips: from face crops on the host to log-likelihoods on the host.

    At 2 Hz a clip of 8 frames over 2 s brings 2 new ones. Back to back says what a busy GPU needs.
    """
    device = reader.runner.device

    def run(stride: int, period_s: float, count: int, person: str) -> dict[str, Any]:
        times = []
        due = time.perf_counter()
        for k in range(WARM_UP_LABELS + count):
            synchronize(device)
            begin = time.perf_counter()
            reader.score([film.clip(stride * k, person)], [prompt])
            times.append(1e3 * (time.perf_counter() - begin))
            due += period_s
            time.sleep(max(0.0, due - time.perf_counter()))
        return _percentiles(times[WARM_UP_LABELS:])

    report.add("label_ms_2_new_frames_paced", run(2, 1 / rate_hz, labels, "paced"))
    for stride in (1, 2):
        figures = run(stride, 0.0, 4 * labels, f"back to back {stride}")
        report.add(f"label_ms_{stride}_new_frames_back_to_back", figures)

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


def set_aside() -> dict[str, float]:
    """Keep garbage collection off the model, as the worker does; return a full one's milliseconds before and after."""
    gc.collect()
    walked = 1e3 * timeit.timeit(gc.collect, number=1)
    gc.freeze()
    return {"before": walked, "after": 1e3 * timeit.timeit(gc.collect, number=1)}


def _percentiles(times: list[float]) -> dict[str, Any]:
    times = sorted(times)

    def rank(share: float) -> float:
        return times[math.ceil(share * len(times)) - 1]

    return {"p50": rank(0.5), "p95": rank(0.95), "p99": rank(0.99), "max": times[-1], "labels": len(times)}


@torch.inference_mode()
def check_labels(report: Report, reader: ClipReader, film: Film, prompt: Prompt) -> None:
    """Compare the label scores of the recorded passes with those of the plain ones."""
    plain = ClipReader(reader.model, reader._trie)
    worst = 0.0
    for first in (0, 2, 4):  # the first clip is all new, the others bring two frames: the recorded case
        clip = film.clip(first, "check")
        got, want = (one.score([clip], [prompt])[0].log_likelihoods for one in (reader, plain))
        worst = max(worst, float((got - want).abs().max()))
    report.add("recorded_vs_plain_scores_max_difference", worst)


@torch.inference_mode()
def check_decode(report: Report, reader: ClipReader, film: Film, prompt: Prompt, tokens: int) -> None:
    """Compare the logits of each decoding step: recorded, plain, and plain transformers, all fed the same tokens."""
    model, runner = reader.model, reader.runner
    cache = runner.new_cache(1, 2 * EXTENT)
    decoder = CapturedDecoder(runner, cache, reader.graph_pool) if runner.device.type == "cuda" else None
    whole = plain_inputs(model, film, prompt)
    position = whole.shape[1]
    logits = runner.extend(whole, cache, 0)
    fed, plain = [], []
    for step in range(tokens):
        fed.append(logits.argmax())
        logits = read_token(runner, cache, fed[-1], position + step)
        plain.append(logits.clone())
    if decoder is not None:
        recorded = [decoder.read(int(token), position + step)[0].clone() for step, token in enumerate(fed)]
        report.add("decode_recorded_vs_plain", _compare(recorded, plain))
    known = model.language_model(inputs_embeds=whole, use_cache=True).past_key_values
    theirs = []
    for token in fed:
        out = model.language_model(input_ids=token.view(1, 1), past_key_values=known, use_cache=True)
        known = out.past_key_values
        theirs.append(out.logits[0, -1])
    report.add("decode_plain_vs_transformers", _compare(plain, theirs))


def _compare(ours: list[torch.Tensor], others: list[torch.Tensor]) -> dict[str, Any]:
    """Return how far the logits of each step differ, and by how much the first choice led wherever it changed."""
    a, b = torch.stack(ours).float(), torch.stack(others).float()  # (steps, vocab)
    changed = a.argmax(-1) != b.argmax(-1)
    best = b.topk(2, -1).values
    lead = best[:, 0] - best[:, 1]
    return {
        "steps": len(a),
        "max_difference": float((a - b).abs().max()),
        "std_of_logits": float(b.std()),
        "same_choice": int((~changed).sum()),
        "median_lead": float(lead.median()),
        "largest_lead_lost": float(lead[changed].max()) if changed.any() else 0.0,
    }


@torch.inference_mode()
def measure_stages(report: Report, reader: ClipReader, film: Film, prompt: Prompt, flops: float) -> None:
    """Where a label's time goes, and how near the language model comes to the matrix rate of the machine."""
    model, device, visual, frames = reader.model, reader.runner.device, prompt.visual, reader.frames
    for count in (1, 2):
        numbers = range(count)
        pixels, priors = film.pixels(numbers), film.priors(numbers).to(device)
        features = model.encode_frames(pixels)
        words = visual.prompt_ids.expand(count, -1), visual.prompt_mask.expand(count, -1)
        stages: dict[str, Callable[[], object]] = {
            "preprocess_and_upload": lambda numbers=numbers: film.pixels(numbers),
            "vision": lambda pixels=pixels: frames.encode(pixels),
            "tokens": lambda features=features, words=words: frames.generate(features, *words),
        }
        if model.face_branch is not None:
            stages["face_tokens"] = lambda priors=priors, words=words: frames.mine(priors, *words)
        report.add(f"stages_{count}_frame_ms", {n: 1e3 * median(run, device, 9) for n, run in stages.items()})
    report.add("stage_vision_8_frames_ms", 1e3 * median(lambda: model.encode_frames(film.pixels(range(8))), device))
    embeds = reader.read(film.clip(0), prompt).embeds[None]
    scoring = median(lambda: reader.score_embeds(embeds, prompt.head_ids), device, 9)
    report.add("stage_prefill_and_scoring_ms", 1e3 * scoring)
    tokens = embeds.shape[1] + len(reader._trie)
    weights = sum(_numel(m) for n, m in model.language_model.named_modules() if n.endswith("_proj"))
    report.add("prefill_tokens", tokens)
    report.add("prefill_mfu", 2 * weights * tokens / scoring / flops)


def prefill_limit_s(model: EmoLlama, read: int, bandwidth: float) -> float:
    """Return how long a prefill must take: NF4 weights are read, written out as bfloat16, and read again by matmul."""
    weights = sum(_numel(m) for n, m in model.language_model.named_modules() if n.endswith("_proj"))
    unpacked = 2 * 2 * weights if type(model.language_model.model.layers[0].mlp.up_proj).__name__ != "Linear" else 0
    return (read + unpacked) / bandwidth


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
    parser.add_argument("--labels", type=int, default=64, help="labels of the paced run")
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
    report.add("full_collection_ms", set_aside())
    report.attempt("labels", lambda: measure_labels(report, reader, film, prompt, args.labels, rate_hz))
    report.add("prefill_limit_ms", 1e3 * prefill_limit_s(model, weight_bytes(model.language_model), bandwidth))
    report.attempt("stages", lambda: measure_stages(report, reader, film, prompt, flops))
    report.attempt("decode", lambda: measure_decode(report, reader, film, prompt, args.tokens, bandwidth, read))
    report.add("peak_gb", _peak_gb(device))
    report.attempt("check_labels", lambda: check_labels(report, reader, film, prompt))
    report.attempt("check_decode", lambda: check_decode(report, reader, film, prompt, min(args.tokens, 64)))
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
