"""Report how far NF4 and int8 move the answers of a model: `python benchmarks/quantization_agreement.py [FOLDER]`.

Runs the language model of an unquantized checkpoint (default: a random one) in float32 and quantized, on the same
embeddings, and compares the next-token distributions: relative error of the logits, total variation, how often the
best token and the best of the label set's first tokens stay the same. On random weights the figures say what the
formats do to noise; they promise nothing about a trained model, whose labels are what `emo_llama evaluate` measures.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from emo_llama_ros.model.configuration import EmoLlamaConfig, LlmConfig, emo_llama_tiny
from emo_llama_ros.model.loading import load_model, save_model
from emo_llama_ros.model.modeling import EmoLlama

LABELS = 7


def random_checkpoint(folder: Path) -> None:
    """Write a random model with a language model of 8 layers, 512 wide."""
    torch.manual_seed(0)
    llm = LlmConfig(
        vocab_size=4000, hidden_size=512, intermediate_size=1408, num_hidden_layers=8, num_attention_heads=8,
        num_key_value_heads=8,
    )  # fmt: skip
    save_model(EmoLlama(EmoLlamaConfig(llm=llm, vision=None, qformer=None, face=emo_llama_tiny().face)), folder)


@torch.inference_mode()
def next_token_logits(folder: Path, quantization: str, prompts: int, tokens: int, device: str) -> torch.Tensor:
    """Return the logits (prompts, vocabulary) after `prompts` random sequences of embeddings."""
    dtype = "float32" if quantization == "none" else "auto"
    model, _ = load_model(folder, quantization=quantization, device=device, dtype=dtype, verify=False)
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(3, model.config.llm.vocab_size, (prompts, tokens), generator=generator)
    llm = model.language_model
    rows = [llm(row[None].to(model.device), logits_to_keep=1).logits[0, -1].float().cpu() for row in ids]
    return torch.stack(rows)


def compare(logits: torch.Tensor, reference: torch.Tensor) -> dict[str, Any]:
    """Compare logits (N, V) with the reference's."""
    labels = torch.randperm(reference.shape[1], generator=torch.Generator().manual_seed(2))[:LABELS]
    return {
        "logits_relative_error": round(float((logits - reference).norm() / reference.norm()), 4),
        "total_variation": round(float((logits.softmax(-1) - reference.softmax(-1)).abs().sum(-1).mean() / 2), 4),
        "same_best_token": round(float((logits.argmax(-1) == reference.argmax(-1)).float().mean()), 3),
        f"same_best_of_{LABELS}": round(
            float((logits[:, labels].argmax(-1) == reference[:, labels].argmax(-1)).float().mean()), 3
        ),
    }


def main() -> None:
    """Compare both methods with float32 and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", help="unquantized checkpoint; default: random weights")
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=64, help="length of each prompt")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary, "random")
        if arguments.folder is None:
            random_checkpoint(folder)
        sizes = (arguments.prompts, arguments.tokens, arguments.device)
        reference = next_token_logits(folder, "none", *sizes)
        report = {method: compare(next_token_logits(folder, method, *sizes), reference) for method in ("nf4", "int8")}
    print(json.dumps({"weights": str(arguments.folder or "random"), "prompts": arguments.prompts, **report}))


if __name__ == "__main__":
    main()
