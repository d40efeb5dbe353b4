"""Measure how far bfloat16 takes decoding from float32, for our runner and for plain transformers: no GPU needed.

    python benchmarks/rounding.py

A random LLaMA with the depth of a 7B, and weights that carry signals as a 7B-wide one with deviation 0.02 does, reads
the same tokens three times: our runner and transformers in bfloat16, and transformers in float32 with the same weights.
If both bfloat16 runs are equally far from float32, what separates them is rounding. The last line is one JSON object.
"""

from __future__ import annotations

import copy
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from hardware import describe
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from emo_llama_ros.inference.decoding import read_token
from emo_llama_ros.inference.runner import LlamaRunner

PROMPT, STEPS, WIDTH = 120, 24, 1024
DEVIATION = 0.02 * (4096 / WIDTH) ** 0.5  # so that sums over WIDTH inputs are as large as those over 4096


def build(dtype: torch.dtype, source: LlamaForCausalLM | None = None) -> LlamaForCausalLM:
    """Return a random model, or a copy of `source`, in `dtype`; rotary frequencies stay float32."""
    config = LlamaConfig(
        hidden_size=WIDTH,
        intermediate_size=2752,
        num_hidden_layers=32,
        num_attention_heads=8,
        vocab_size=4000,
        max_position_embeddings=512,
        initializer_range=DEVIATION,
    )
    model = copy.deepcopy(source) if source is not None else LlamaForCausalLM(config)
    model = model.eval().to(dtype)
    model.model.rotary_emb = LlamaRotaryEmbedding(config=config)
    return model


@torch.inference_mode()
def main() -> None:
    """Decode with all three and compare the logits of each step."""
    torch.manual_seed(0)
    theirs = build(torch.bfloat16)
    exact, ours = build(torch.float32, theirs), LlamaRunner(build(torch.bfloat16, theirs))
    embeds = (torch.randn(1, PROMPT, WIDTH) * DEVIATION).to(torch.bfloat16)
    cache = ours.new_cache(1, PROMPT + STEPS)
    known = {m: m(inputs_embeds=embeds.to(m.dtype), use_cache=True).past_key_values for m in (theirs, exact)}
    token = ours.extend(embeds, cache, 0).argmax()
    steps = []
    for position in range(PROMPT, PROMPT + STEPS):
        rows = [read_token(ours, cache, token, position).float()]
        for model, past in known.items():
            out = model(input_ids=token.view(1, 1), past_key_values=past, use_cache=True)
            rows.append(out.logits[0, -1].float())
        steps.append(torch.stack(rows))
        token = rows[0].argmax()
    logits = dict(zip(("ours", "transformers", "float32"), torch.stack(steps, 1), strict=True))  # each (steps, vocab)
    report: dict[str, object] = {"hardware": describe(torch.device("cpu")), "std": float(logits["float32"].std())}
    for one, other in (("ours", "float32"), ("transformers", "float32"), ("ours", "transformers")):
        a, b = logits[one], logits[other]
        report[f"{one}_vs_{other}"] = {
            "rms": float((a - b).square().mean().sqrt()),
            "max": float((a - b).abs().max()),
            "same_choice": int((a.argmax(-1) == b.argmax(-1)).sum()),
            "steps": STEPS,
        }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
