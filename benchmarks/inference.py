"""Measure label latency and decoding speed beside plain transformers `generate()` and beside the machine's limits.

    python benchmarks/inference.py --quick              # a random model, under a minute on two cores
    python benchmarks/inference.py --model FOLDER       # a checkpoint

Baseline and product use the same weights, dtype, threads and inputs, in turns within one run; figures are medians.
`generate()` is greedy, with its KV cache, and makes the label and a reasoning of --words tokens for every clip, which
is how a vision-language model is commonly asked. Nothing of it is shared between clips. The last line printed is one
JSON object:

| key | meaning | target |
|---|---|---|
| `label_vs_generate` | generate() of label and reasoning ÷ scores of all labels, both from ready embeddings | ≥ 5 |
| `label_vs_floor` | label latency ÷ (one prefill + one scoring pass, each measured alone) | ≤ 1.15 |
| `frame_cache_speedup` | clip of 8 frames computed afresh ÷ the same clip when only its newest frame is new | ≥ 4 |
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from hardware import describe, matmul_rate, median, read_bandwidth, synchronize
from random_models import random_model, vision_heavy, weight_bytes
from synthetic_clips import EOS, Film, make_prompt, plain_inputs

from emo_llama_ros.inference.clip_reader import ClipReader, Prompt
from emo_llama_ros.inference.performance import tune
from emo_llama_ros.inference.scoring import TreePass
from emo_llama_ros.model.modeling import EmoLlama

ANSWER = (5, 6, EOS, 7, 8, 9)  # the label and the question for the reasons


def idle_cores() -> int:
    """Return how many cores nobody else uses: a thread without a core of its own makes all others wait for it."""
    return max(1, len(os.sched_getaffinity(0)) - round(os.getloadavg()[0]))


class Times:
    """Wall times of several runs that are taken in turns, so that a busy spell of the machine hits all of them."""

    def __init__(self, device: torch.device, passes: int, runs: dict[str, Callable[[], object]]) -> None:
        self._seconds: dict[str, list[float]] = {name: [] for name in runs}
        for turn in range(passes + 1):
            for name, run in runs.items():
                synchronize(device)
                begin = time.perf_counter()
                run()
                synchronize(device)
                if turn:  # the first is a warm-up
                    self._seconds[name].append(time.perf_counter() - begin)

    def ms(self, name: str) -> float:
        """Return the median in milliseconds."""
        return 1e3 * statistics.median(self._seconds[name])

    def ratio(self, above: str, *below: str) -> float:
        """Return the median over the turns of one run's time by the sum of others' in the same turn."""
        sums = map(sum, zip(*(self._seconds[name] for name in below), strict=True))
        return statistics.median(a / b for a, b in zip(self._seconds[above], sums, strict=True))


@torch.inference_mode()
def measure_language(
    model: EmoLlama, film: Film, prompt: Prompt, words: int, passes: int, performance: Any, trie: Any
) -> dict[str, Any]:
    """Compare what the language model does for a label, and for words."""
    device, llm = model.device, model.language_model
    whole = plain_inputs(model, film, prompt)
    seen = torch.ones(whole.shape[:2], dtype=torch.long, device=device)
    read = weight_bytes(llm)
    # Before the reader fuses projections, so that the baseline is what transformers loads.
    plain_label_words = words + len(ANSWER)

    def generate(count: int) -> None:
        llm.generate(
            inputs_embeds=whole,
            attention_mask=seen,
            max_new_tokens=count,
            min_new_tokens=count,
            do_sample=False,
            pad_token_id=0,
        )

    reader = ClipReader(model, trie)
    choice = tune(reader, performance, prompt, 8, words)
    runner, prefix = reader.runner, len(prompt.head_ids)
    embeds = whole[:, prefix:].contiguous()
    count = embeds.shape[1]
    cache = runner.new_cache(1, -(-(prefix + count + len(trie)) // 64) * 64)
    reader.prefixes.place(prompt.head_ids, cache)
    alone = TreePass(trie, prefix + count - 1, 1, (1,), runner.dtype, device)
    runner.extend(embeds, cache, prefix)
    reading = reader.score([film.clip(0)], [prompt])[0]
    compared = alone.run(runner, cache, embeds[:, -1:])[0].cpu()
    assert torch.allclose(compared, reading.log_likelihoods, atol=0.2, rtol=1e-2), "the two ways to score disagree"

    def answer(tokens: int) -> None:
        for _ in islice(reader.generate(reading, ANSWER, frozenset(), tokens), tokens):
            pass

    half = max(2, words // 4)
    short = Times(
        device,
        4 * passes,
        {
            "label": lambda: reader.score_embeds(embeds, prompt.head_ids),
            "prefill": lambda: runner.extend(embeds, cache, prefix),
            "scoring": lambda: alone.run(runner, cache, embeds[:, -1:]),
        },
    )
    long = Times(
        device,
        passes,
        {
            "label": lambda: reader.score_embeds(embeds, prompt.head_ids),
            "answer_short": lambda: answer(half),
            "answer": lambda: answer(words),
            "generate_short": lambda: generate(half),
            "generate": lambda: generate(plain_label_words),
        },
    )
    step = (long.ms("answer") - long.ms("answer_short")) / (words - half) / 1e3
    plain_step = (long.ms("generate") - long.ms("generate_short")) / (plain_label_words - half) / 1e3
    bandwidth, flops = read_bandwidth(device), matmul_rate(device, model.dtype)
    linears = sum(m.in_features * m.out_features for n, m in llm.named_modules() if n.endswith("_proj"))
    tokens = count + len(trie)
    return {
        "label_vs_generate": long.ratio("generate", "label"),
        "label_vs_floor": short.ratio("label", "prefill", "scoring"),
        "decode_vs_generate": plain_step / step,
        "label_ms": short.ms("label"),
        "floor_ms": {"prefill": short.ms("prefill"), "scoring": short.ms("scoring")},
        "generate_ms": long.ms("generate"),
        "generate_tokens": plain_label_words,
        "tokens_per_s": 1 / step,
        "tokens_per_s_generate": 1 / plain_step,
        "tokens_per_s_limit": bandwidth / read,
        "mbu": read / step / bandwidth,
        "prefill_mfu": 2 * linears * tokens / (short.ms("label") / 1e3) / flops,
        "prefill_tokens": tokens,
        "weights_read_per_token_mb": read / 1e6,
        "bandwidth_gb_per_s": bandwidth / 1e9,
        "matmul_gflops": flops / 1e9,
        "performance": choice.reason,
    }


def measure_frames(model: EmoLlama, film: Film, prompt: Prompt, passes: int, trie: Any) -> dict[str, Any]:
    """Compare a sliding clip whose frames but one are known with the same clip computed afresh."""
    sliding, fresh = ClipReader(model, trie), ClipReader(model, trie)
    sliding.score([film.clip(0)], [prompt])
    first = iter(range(1, 10_000))
    positions = []

    def slide() -> None:
        positions.append(next(first))
        sliding.score([film.clip(positions[-1])], [prompt])

    def afresh() -> None:
        fresh.frames.clear()
        fresh.score([film.clip(positions[-1])], [prompt])

    times = Times(model.device, passes, {"cached": slide, "recomputed": afresh})
    last = film.clip(positions[-1])
    difference = sliding.score([last], [prompt])[0].log_likelihoods - fresh.score([last], [prompt])[0].log_likelihoods
    vision = median(lambda: model.encode_frames(film.pixels(range(8))), model.device, passes)
    return {
        "frame_cache_speedup": times.ratio("recomputed", "cached"),
        "sliding_label_ms": times.ms("cached"),
        "recomputed_label_ms": times.ms("recomputed"),
        "vision_share_of_recomputed": 1e3 * vision / times.ms("recomputed"),
        "cached_vs_recomputed_max_difference": float(difference.abs().max()),
    }


def main() -> None:
    """Run both parts and print the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer passes; ends within 50 s on two cores")
    parser.add_argument("--model", default="", help="checkpoint folder; without one, a random model is built")
    parser.add_argument("--quantization", default="", choices=("", "auto", "none", "nf4", "int8"))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--performance", default="auto", choices=("auto", "plain", "compile"))
    parser.add_argument("--words", type=int, default=64, help="tokens of the reasoning")
    parser.add_argument("--scale", type=int, default=1, help="width of the random model's vision tower, in 256")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 takes the cores that are idle now")
    parser.add_argument("--passes", type=int, default=0, help="timed runs of each; 0 takes 9, or 5 with --quick")
    args = parser.parse_args()
    torch.set_num_threads(args.threads or idle_cores())
    passes = args.passes or (5 if args.quick else 9)

    heavy_config = vision_heavy(args.scale)
    automatic = "cuda:0" if torch.cuda.is_available() else "cpu"
    device = torch.device(automatic if args.device == "auto" else args.device)
    report: dict[str, Any] = {}
    if args.model:
        from emo_llama_ros.model.loading import load_model

        model, loaded = load_model(
            args.model, quantization=args.quantization or "auto", device=args.device, dtype=args.dtype
        )
        device = model.device
        report["model"] = {"path": Path(args.model).name, "quantization": loaded.quantization}
    else:
        dtype = torch.float32 if args.dtype == "auto" else getattr(torch, args.dtype)
        model = random_model(heavy_config, args.quantization or "none", device, dtype)
        report["model"] = {"random": True, "quantization": args.quantization or "none"}
    report["model"] |= {
        "dtype": str(model.dtype).removeprefix("torch."),
        "llm_parameters": sum(p.numel() for p in model.language_model.parameters()),
        "all_parameters": sum(p.numel() for p in model.parameters()),
    }
    heavy = model if not args.model else random_model(heavy_config, "none", device, torch.float32)
    report["hardware"] = describe(device)
    for target, measure in ((model, "language"), (heavy, "frames")):
        prompt, trie, _ = make_prompt(target.config, device)
        film = Film(target.config, 64, device, target.dtype)
        if measure == "language":
            report |= measure_language(target, film, prompt, args.words, passes, args.performance, trie)
        else:
            report |= measure_frames(target, film, prompt, passes, trie)
    report["targets"] = {"label_vs_generate": ">= 5", "label_vs_floor": "<= 1.15", "frame_cache_speedup": ">= 4"}
    for name, value in report.items():
        print(f"{name:38} {value if not isinstance(value, float) else f'{value:.4g}'}")
    print(json.dumps(report))


if __name__ == "__main__":
    main()
