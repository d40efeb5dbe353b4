from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="needs the 'model' extra")


@pytest.fixture(scope="session")
def tiny_llama():
    """A random LLaMA with grouped heads and weights wide enough that context, masks and positions matter."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=300,
        max_position_embeddings=512,
        initializer_range=0.12,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="session")
def runner(tiny_llama):
    from emo_llama_ros.inference.runner import LlamaRunner

    return LlamaRunner(tiny_llama)
