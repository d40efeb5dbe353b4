"""Measure emo-llama-nano on two CPU cores: the whole node in real time, and the model beside plain transformers.

    python benchmarks/nano.py --quick                # under a minute
    python benchmarks/nano.py --seconds 300
    python benchmarks/nano.py --model FOLDER         # another small EMO-LLaMA

First the real node with its default options watches one person at 640 x 480 and 30 Hz; camera, node and worker share
two cores. Then the same checkpoint answers the same clips of that person twice, in turns: as the backend does, and by
plain transformers `generate()` (greedy, with its KV cache, nothing shared between two calls), with as many threads.
The last line printed is one JSON object:

| key | meaning | target |
|---|---|---|
| `labels_per_s` | labels published per second of camera time | ≥ 2 |
| `reasonings_per_s` | reasonings published per second; `reasoning_rate_hz` starts at most 0.5 per person | > 0 |
| `label_age_ms_p95` | age of a label when published: publication minus capture of the newest frame | < 300 |
| `memory_mb` | peak resident memory of node and worker, added | < 1200 |
| `unexplained` | frames and clips without a known fate | 0 |
| `label_speedup` | label by `generate()` ÷ label by scoring | |
| `label_and_reasoning_speedup` | label and reasoning by `generate()` ÷ both by the backend | |
| `label_vs_generate` | label and reasoning by `generate()` ÷ label by scoring, as in inference.py | |
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from camera_stream import film, machine
from hardware import describe
from inference import Times, measure_language
from one_person import SIZE, VIDEO, watch_engine, watch_node
from synthetic_clips import Film, make_prompt, plain_embeds

import emo_llama_ros
from emo_llama_ros.backends.language_model import EmoLlamaBackend
from emo_llama_ros.errors import EmoError
from emo_llama_ros.faces.make import make_analyzer
from emo_llama_ros.frames import SECOND_NS, Frame
from emo_llama_ros.inference.clip_reader import Prompt
from emo_llama_ros.install.fetch import media_file
from emo_llama_ros.model.checkpoint import NANO, open_checkpoint
from emo_llama_ros.model.loading import load_model
from emo_llama_ros.options import Options
from emo_llama_ros.perception.clips import Clip
from emo_llama_ros.perception.perception import Perception

TARGETS = {
    "labels_per_s": (">=", 2.0),
    "reasonings_per_s": (">", 0.0),
    "label_age_ms_p95": ("<", 300.0),
    "memory_mb": ("<", 1200.0),
    "unexplained": ("<=", 0.0),
}
CORES = 2
FILM_HZ = 10
FILM_S = 8
CPU = torch.device("cpu")


class Plain:
    """The same weights in plain transformers: every answer begins with nothing but the clip."""

    def __init__(self, folder: Path, backend: EmoLlamaBackend) -> None:
        self.model, _ = load_model(folder, device="cpu")
        self._inputs, self._tokenizer = backend._inputs, backend._dialogue.tokenizer

    @torch.inference_mode()
    def answer(self, clip: Clip, prompt: Prompt, tokens: int) -> str:
        """Return the greedy answer to a prompt."""
        embeds = plain_embeds(self.model, self._inputs.of(clip), prompt)
        llm: Any = self.model.language_model
        ids = llm.generate(
            inputs_embeds=embeds,
            attention_mask=torch.ones(embeds.shape[:2], dtype=torch.long),
            max_new_tokens=tokens,
            do_sample=False,
            eos_token_id=self._tokenizer.eos_id,
            pad_token_id=0,
        )
        return self._tokenizer.decode(ids[0].tolist()).strip()


def clips_of_the_person(options: Options) -> list[Clip]:
    """Return the clips that come due in a film of the person, without those whose window is not full yet."""
    perception = Perception(options, make_analyzer(options))
    found: list[Clip] = []
    pictures = film(media_file(VIDEO), *SIZE)
    for number in range(FILM_HZ * FILM_S):
        picture = pictures[3 * number % len(pictures)]  # the film has 30 Hz
        rgb = np.frombuffer(picture, np.uint8).reshape(SIZE[1], SIZE[0], 3)
        found += perception.observe(Frame(SECOND_NS + number * SECOND_NS // FILM_HZ, "camera", rgb)).due
    return [clip for clip in found if len(clip.faces) == options.clip_frames]


def compare(backend: EmoLlamaBackend, plain: Plain, clips: list[Clip], options: Options, passes: int) -> dict[str, Any]:
    """Compare the backend with plain transformers on label, and on label and reasoning."""
    dialogue, limit = backend._dialogue, options.max_reasoning_tokens
    label_tokens = 1 + max(dialogue.trie.lengths)
    same_label, same_words, prompts, follow_ups = [], [], {}, {}
    for clip in clips:
        answer = backend.label([clip])[0]
        talk: Any = answer.state
        follow_ups[clip.stamp_ns] = dialogue.prompt(talk.asked(""))
        label = talk.turns[0]
        prompts[clip.stamp_ns] = dialogue.label_prompt(talk.frames, label.context)
        words = "".join(backend.explain(clip, answer)).strip()
        same_label.append(plain.answer(clip, prompts[clip.stamp_ns], label_tokens) == label.answer)
        same_words.append(plain.answer(clip, follow_ups[clip.stamp_ns], limit) == words)
    turns = {name: cycle(clips) for name in ("label", "both", "plain_label", "plain_both")}

    def ours() -> None:
        clip = next(turns["both"])
        "".join(backend.explain(clip, backend.label([clip])[0]))

    def their_label() -> None:
        clip = next(turns["plain_label"])
        plain.answer(clip, prompts[clip.stamp_ns], label_tokens)

    def theirs() -> None:
        clip = next(turns["plain_both"])
        plain.answer(clip, prompts[clip.stamp_ns], label_tokens)
        plain.answer(clip, follow_ups[clip.stamp_ns], limit)

    times = Times(
        CPU,
        passes,
        {
            "label": lambda: backend.label([next(turns["label"])]),
            "both": ours,
            "plain_label": their_label,
            "plain_both": theirs,
        },
    )
    return {
        "label_speedup": times.ratio("plain_label", "label"),
        "label_and_reasoning_speedup": times.ratio("plain_both", "both"),
        "label_vs_generate": times.ratio("plain_both", "label"),
        "label_ms": times.ms("label"),
        "label_and_reasoning_ms": times.ms("both"),
        "generate_label_ms": times.ms("plain_label"),
        "generate_label_and_reasoning_ms": times.ms("plain_both"),
        "same_label_as_generate": statistics.mean(same_label),
        "same_reasoning_as_generate": statistics.mean(same_words),
        "compared_clips": len(clips),
    }


def reasoning_alone(backend: EmoLlamaBackend, clips: list[Clip], options: Options) -> dict[str, Any]:
    """Measure how the reasoning comes once the label is known, with nothing else at work."""
    dialogue, reader = backend._dialogue, backend._loaded_reader
    stop = frozenset({dialogue.tokenizer.eos_id})
    first, rates, counts = [], [], []
    for clip in clips:
        talk: Any = backend.label([clip])[0].state
        begin = time.perf_counter()
        more = dialogue.reasoning_ids(talk.frames, talk.turns[0], talk.note)
        ids: Iterator[int] = reader.generate(talk.reading, more, stop, options.max_reasoning_tokens)
        times = [time.perf_counter() for _ in ids]
        counts.append(len(times))
        if len(times) > 1:
            first.append(1e3 * (times[0] - begin))
            rates.append((len(times) - 1) / (times[-1] - times[0]))
    return {
        "first_token_ms": statistics.median(first) if first else None,  # None: the model has nothing to say
        "tokens_per_s": statistics.median(rates) if rates else None,
        "reasoning_tokens": {"median": statistics.median(counts), "max": max(counts)},
        "cut_at_max_reasoning_tokens": sum(count == options.max_reasoning_tokens for count in counts),
    }


def beside_the_machine(plain: Plain, tokens: int, passes: int) -> dict[str, Any]:
    """Return inference.py's figures of this language model that stand beside a limit of the machine."""
    model = plain.model
    prompt, trie, _ = make_prompt(model.config, CPU)
    found = measure_language(model, Film(model.config, 64, CPU, model.dtype), prompt, tokens, passes, "plain", trie)
    return {name: found[name] for name in ("label_vs_floor", "decode_vs_generate", "tokens_per_s_limit", "mbu")}


def judge(report: dict[str, Any]) -> list[str]:
    """Print each target with what was measured; return the names of those that were not met."""
    missed = []
    for name, (sign, target) in TARGETS.items():
        value = report[name]
        holds = value is not None and {
            ">=": value >= target, ">": value > target, "<": value < target, "<=": value <= target,
        }[sign]  # fmt: skip
        print(f"{'met' if holds else 'NOT MET':8}{name} {_shown(value)} (target {sign} {target:g})")
        if not holds:
            missed.append(name)
    return missed


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(part)}" for name, part in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def measure(folder: Path, seconds: int, passes: int) -> dict[str, Any]:
    """Run all parts; raise EmoError where model, networks or media are missing."""
    open_checkpoint(folder)
    parameters = {"backend": "emo_llama", "device": "cpu", "model_path": "" if folder == NANO else str(folder)}
    options = Options().with_values(parameters)
    if importlib.util.find_spec("rclpy"):
        with tempfile.TemporaryDirectory(prefix="nano_") as scratch:
            report = watch_node(parameters, seconds, Path(scratch, "node.log"))
    else:
        report = watch_engine(options, seconds)
    report["label_age_ms_p95"] = (report["label_age_ms"] or {}).get("p95")
    backend = EmoLlamaBackend(options)
    backend.load()
    plain = Plain(folder, backend)
    clips = clips_of_the_person(options)
    report["model"] = {
        "name": backend.info.model,
        "checksum": backend.info.checksum,
        "parameters": sum(p.numel() for p in plain.model.parameters()),
        "llm_parameters": sum(p.numel() for p in plain.model.language_model.parameters()),
    }
    report["hardware"] = machine() | describe(CPU) | {"emo_llama_ros": emo_llama_ros.__version__}
    report |= compare(backend, plain, clips, options, passes)
    report |= reasoning_alone(backend, clips, options)
    report |= beside_the_machine(plain, max(8, int(report["reasoning_tokens"]["median"])), passes)
    backend.close()
    return report


def main() -> None:
    """Measure, print the figures and the targets, then JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=NANO, help="checkpoint folder; without one, the shipped nano")
    parser.add_argument("--seconds", type=int, default=0, help="how long to watch the node: 60, or 20 with --quick")
    parser.add_argument("--quick", action="store_true", help="fewer passes too; under a minute on two cores")
    parser.add_argument("--passes", type=int, default=0, help="timed runs of each: 15, or 5 with --quick")
    args = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    try:
        seconds, passes = (20, 5) if args.quick else (60, 15)
        report = measure(args.model, args.seconds or seconds, args.passes or passes)
    except EmoError as error:
        raise SystemExit(str(error)) from None
    for name, value in report.items():
        print(f"{name:32} {_shown(value)}")
    report["missed"] = judge(report)
    report["targets"] = {name: f"{sign} {target:g}" for name, (sign, target) in TARGETS.items()}
    print(json.dumps({"benchmark": "nano"} | report))


if __name__ == "__main__":
    main()
