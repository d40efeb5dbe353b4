"""Every published tensor is consumed exactly once; whatever is missing, unexpected or misshapen is named."""

import hashlib
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from emo_llama_ros.errors import BadCheckpoint
from emo_llama_ros.model import key_map
from emo_llama_ros.model.checkpoint import Checkpoint
from emo_llama_ros.model.configuration import emo_llama_7b, emo_llama_tiny
from emo_llama_ros.model.footprint import build_template
from emo_llama_ros.model.loading import stored_shapes
from emo_llama_ros.model.weights import HEAD, stream_weights

# SHA-256 over the sorted lines "name [shape]\n" of the published 7B state dict, buffers included, as the original
# classes (dvlab-research/LLaMA-VID at b3d3ae2b) have it when built at that size.
PUBLISHED_7B = "8f297f04700031eb92785ecd9528aba717d2bd1e8e760a5fb71bc6caf1f5fa79"

BUFFERS = {"model.vlm_att_encoder.bert.embeddings.position_ids": (1, 512)} | {
    f"model.layers.{layer}.self_attn.rotary_emb.inv_freq": (64,) for layer in range(32)
}


class MemoryShards:
    """Stands for weight files: tensors that are there already."""

    def __init__(self, tensors):
        self._tensors = tensors

    def tensors(self):
        yield from self._tensors.items() if isinstance(self._tensors, dict) else self._tensors


def published(config, tensors):
    return Checkpoint(Path("published"), config, MemoryShards(tensors), None)


def stream(checkpoint, template):
    return dict(stream_weights(checkpoint, stored_shapes(template, "none")))


@pytest.fixture(scope="module")
def template_7b():
    return build_template(emo_llama_7b(face=False))


@pytest.fixture(scope="module")
def state_7b(template_7b):
    state = key_map.to_published(template_7b.state_dict())
    return state | {name: torch.empty(shape, device="meta") for name, shape in BUFFERS.items()}


def test_our_key_map_generates_the_published_7b_exactly(state_7b):
    lines = "".join(f"{name} {list(state_7b[name].shape)}\n" for name in sorted(state_7b))
    assert hashlib.sha256(lines.encode()).hexdigest() == PUBLISHED_7B
    assert len(state_7b) == 1176
    parameters = sum(math.prod(t.shape) for name, t in state_7b.items() if name not in BUFFERS)
    assert parameters == 7_941_388_160


def test_every_published_7b_tensor_is_consumed_once_in_its_shape(template_7b, state_7b):
    got = stream(published(template_7b.config, state_7b), template_7b)
    expected = template_7b.state_dict()
    assert got.keys() == expected.keys()
    assert all(got[name].shape == expected[name].shape for name in expected)


def test_buffers_may_be_absent(template_7b, state_7b):
    state = {name: tensor for name, tensor in state_7b.items() if name not in BUFFERS}
    assert len(stream(published(template_7b.config, state), template_7b)) == len(template_7b.state_dict())


@pytest.fixture(scope="module")
def tiny():
    return build_template(emo_llama_tiny(face=False))


@pytest.fixture
def state(tiny):
    real = {name: torch.randn(tensor.shape) for name, tensor in tiny.state_dict().items()}
    for name, tensor in real.items():
        if name.endswith("qkv.bias"):
            tensor.chunk(3)[1].zero_()
    return key_map.to_published(real)


QKV_PARTS = (
    "model.vision_tower.vision_tower.blocks.0.attn.q_bias",
    "model.vision_tower.vision_tower.blocks.0.attn.v_bias",
)


@pytest.mark.parametrize("name", ["lm_head.weight", "model.vlm_att_query", *QKV_PARTS])
def test_a_missing_tensor_is_named(tiny, state, name):
    del state[name]
    with pytest.raises(BadCheckpoint, match="lacks the tensor") as error:
        stream(published(tiny.config, state), tiny)
    ours = [name] if name in QKV_PARTS else [key_map.destination(name).name]
    assert ours[0] in str(error.value)


def test_an_unexpected_tensor_is_named(tiny, state):
    with pytest.raises(BadCheckpoint, match=r"layers\.0\.mlp\.extra\.weight"):
        stream(published(tiny.config, {**state, "model.layers.0.mlp.extra.weight": torch.ones(1)}), tiny)
    with pytest.raises(BadCheckpoint, match=r"'something\.else'"):
        stream(published(tiny.config, {**state, "something.else": torch.ones(1)}), tiny)


def test_a_misshapen_tensor_is_named_with_both_shapes(tiny, state):
    state["model.norm.weight"] = torch.ones(65)
    with pytest.raises(BadCheckpoint, match=r"model\.norm\.weight.*\[65\].*needs \[64\]"):
        stream(published(tiny.config, state), tiny)


def test_a_repeated_tensor_is_named(tiny, state):
    items = [*state.items(), ("model.norm.weight", torch.ones(64))]
    with pytest.raises(BadCheckpoint, match="twice"):
        stream(published(tiny.config, items), tiny)


def test_query_and_value_bias_may_come_in_any_order_with_the_key_part_zero(tiny, state):
    expected = torch.cat((state[QKV_PARTS[0]], torch.zeros(72), state[QKV_PARTS[1]]))
    for items in (list(state.items()), list(state.items())[::-1]):
        got = stream(published(tiny.config, items), tiny)
        assert torch.equal(got["vision_tower.encoder.layers.0.self_attn.qkv.bias"], expected)


def test_positions_of_another_image_size_are_resized(state):
    config = emo_llama_tiny(face=False)
    larger = replace(config, vision=replace(config.vision, image_size=84))
    template = build_template(larger)
    table = stream(published(larger, state), template)["vision_tower.embeddings.position_embedding"]
    assert table.shape == (1, 37, 72)


def test_a_tied_head_may_be_absent_or_repeated(state):
    config = emo_llama_tiny(face=False)
    tied = replace(config, llm=replace(config.llm, tie_word_embeddings=True))
    template = build_template(tied)
    without = {name: tensor for name, tensor in state.items() if name != "lm_head.weight"}
    for tensors in (state, without):
        assert HEAD not in stream(published(tied, tensors), template)
