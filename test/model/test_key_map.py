import pytest
import torch

from emo_llama_ros.errors import BadCheckpoint
from emo_llama_ros.model import key_map


def test_translating_there_and_back_changes_nothing(build_model):
    model = build_model(face=False)
    for block in model.vision_tower.encoder.layers:
        block.self_attn.qkv.bias.data.chunk(3)[1].zero_()
    ours = model.state_dict()
    published = key_map.to_published(ours)
    back = key_map.to_ours(published)
    assert back.keys() == ours.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in ours.items())
    assert len(published) == len(ours) + len(model.vision_tower.encoder.layers)


def test_query_and_value_bias_fill_the_outer_thirds():
    prefix = "model.vision_tower.vision_tower.blocks.7.attn."
    fused = torch.zeros(9)
    for part, value in (("q_bias", 1.0), ("v_bias", 2.0)):
        target = key_map.destination(prefix + part)
        assert target.name == "vision_tower.encoder.layers.7.self_attn.qkv.bias"
        target.view(fused).fill_(value)
    assert fused.tolist() == [1, 1, 1, 0, 0, 0, 2, 2, 2]


def test_half_a_bias_does_not_pass_for_a_whole_one():
    prefix = "model.vision_tower.vision_tower.blocks.0.attn."
    assert key_map.to_ours({prefix + "q_bias": torch.ones(3)}) == {}


def test_a_key_bias_cannot_be_published():
    with pytest.raises(BadCheckpoint, match="key bias"):
        key_map.to_published({"vision_tower.encoder.layers.0.self_attn.qkv.bias": torch.ones(9)})


@pytest.mark.parametrize(
    "name", ["model.layers.3.self_attn.rotary_emb.inv_freq", "model.vlm_att_encoder.bert.embeddings.position_ids"]
)
def test_computed_buffers_are_known(name):
    assert key_map.is_computed(name)


@pytest.mark.parametrize("name", ["model.vision_tower.vision_tower.norm.weight", "face_branch.norm.weight", "x"])
def test_an_unknown_name_is_refused(name):
    with pytest.raises(BadCheckpoint, match="not a tensor of LLaMA-VID"):
        key_map.destination(name)


@pytest.mark.parametrize(
    "prefix", ["", "model.", "model.model.", "module.model.", "base_model.model.model.", "module."]
)
@pytest.mark.parametrize("name", ["layers.0.mlp.up_proj.weight", "vision_tower.vision_tower.blocks.1.norm1.bias"])
def test_a_missing_or_doubled_prefix_of_the_whole_model_does_not_matter(prefix, name):
    assert key_map.destination(prefix + name) == key_map.destination(f"model.{name}")
    assert key_map.destination(prefix.removesuffix("model.") + "lm_head.weight").name == "language_model.lm_head.weight"
