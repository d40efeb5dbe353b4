"""What the backend emo_llama says of itself; the backend, which needs torch, is in `language_model`."""

from __future__ import annotations

from emo_llama_ros.backends.backend import Backend, Declaration
from emo_llama_ros.labels import LABEL_SETS
from emo_llama_ros.options import Options


def _make(options: Options) -> Backend:
    from emo_llama_ros.backends.language_model import EmoLlamaBackend

    return EmoLlamaBackend(options)


DECLARATION = Declaration(
    name="emo_llama",
    make=_make,
    label_sets=tuple(LABEL_SETS),
    packages=("torch", "transformers", "peft", "safetensors"),
    extra="model",
    reads_mesh=True,
    options=frozenset(
        {"model_path", "quantization", "device", "dtype", "performance", "max_reasoning_tokens", "agr_prompt"}
    ),
)
