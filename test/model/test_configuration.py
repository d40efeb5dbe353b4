import dataclasses
import json

import pytest
import torch

from emo_llama_ros.errors import BadCheckpoint
from emo_llama_ros.model.configuration import (
    EmoLlamaConfig,
    FaceConfig,
    LlmConfig,
    emo_llama_7b,
    emo_llama_tiny,
    normalized_compress_type,
)
from emo_llama_ros.model.modeling import EmoLlama

# The fields of a published LLaMA-VID config, with its oddities: a freezing bert_type, "mean_concat", num_qformer
# instead of num_query, fields that today's code does not read, no rope_theta, no num_key_value_heads.
PUBLISHED = {
    "architectures": ["LlavaLlamaAttForCausalLM"],
    "model_type": "llava",
    "bert_type": "qformer_pretrain_freeze",
    "compress_type": "mean_concat",
    "cross_att_freq": 1,
    "fusion_type": "concat",
    "position_type": None,
    "num_qformer": 32,
    "hidden_act": "silu",
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "vocab_size": 32000,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": -1,
    "mm_hidden_size": 1408,
    "mm_projector_type": "mlp2x_gelu",
    "mm_vision_select_feature": "patch",
    "mm_vision_select_layer": -2,
    "mm_vision_tower": "./model_zoo/LAVIS/eva_vit_g.pth",
    "image_processor": "./llamavid/processor/clip-patch14-224",
    "image_aspect_ratio": "pad",
    "mm_use_im_start_end": False,
    "mm_use_im_patch_token": False,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}


def test_a_published_config_with_its_odd_fields_is_the_7b_core():
    assert EmoLlamaConfig.from_llava_dict(PUBLISHED) == emo_llama_7b(face=False)


@pytest.mark.parametrize(
    ("field", "value", "read"),
    [
        ("compress_type", None, lambda c: c.compress_type is None),
        ("compress_type", "grid:2", lambda c: c.compress_type == "grid:2"),
        ("num_query", 64, lambda c: c.qformer.num_query == 64),
        ("bert_type", "qformer_pretrain_layer:6", lambda c: c.qformer.num_hidden_layers == 6),
        ("image_processor", "./processor/clip-patch14-336", lambda c: c.vision.image_size == 336),
        ("rope_scaling", {"type": "linear", "factor": 16.0}, lambda c: c.llm.rope_linear_factor == 16),
        ("rope_parameters", {"rope_type": "default", "rope_theta": 5e5}, lambda c: c.llm.rope_theta == 5e5),
        ("image_aspect_ratio", None, lambda c: c.image_aspect_ratio != "pad"),
        ("mm_projector_type", None, lambda c: c.mm_projector_type == "linear"),
    ],
)
def test_a_published_field_is_read(field, value, read):
    assert read(EmoLlamaConfig.from_llava_dict({**PUBLISHED, field: value}))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("model_type", "llama", "'llama'"),
        ("bert_type", "raw_bert", "raw_bert"),
        ("mm_hidden_size", 1024, "1024"),
        ("mm_use_im_start_end", True, "mm_use_im_start_end"),
        ("rope_scaling", {"type": "dynamic", "factor": 2.0}, "dynamic"),
        ("compress_type", "grid:1", "grid:1"),
        ("compress_type", "grid:x", "grid:x"),
        ("compress_type", "grid:17", "16 x 16"),
        ("mm_projector_type", "resampler", "resampler"),
    ],
)
def test_what_the_model_does_not_have_is_refused_by_name(field, value, message):
    with pytest.raises(BadCheckpoint, match=message):
        EmoLlamaConfig.from_llava_dict({**PUBLISHED, field: value})


@pytest.mark.parametrize(
    ("published", "ours"),
    [("mean", "mean"), ("mean_concat", "mean"), ("grid:4", "grid:4"), (None, None), ("", None), ("none", None)],
)
def test_spellings_of_the_compress_type(published, ours):
    assert normalized_compress_type(published) == ours


@pytest.mark.parametrize(
    "config", [emo_llama_7b(), emo_llama_7b(face=False), emo_llama_tiny(), emo_llama_tiny(vision=False)]
)
def test_a_config_survives_json(config):
    assert EmoLlamaConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_a_config_of_another_format_or_with_unknown_fields_is_refused():
    with pytest.raises(BadCheckpoint, match="emo_llama convert"):
        EmoLlamaConfig.from_dict(PUBLISHED)
    with pytest.raises(BadCheckpoint, match="wings"):
        EmoLlamaConfig.from_dict({**emo_llama_tiny().to_dict(), "wings": 2})


def test_a_model_must_see_something():
    with pytest.raises(BadCheckpoint, match="see nothing"):
        EmoLlamaConfig(LlmConfig(), vision=None, qformer=None, face=None)
    with pytest.raises(BadCheckpoint, match="both or neither"):
        EmoLlamaConfig(vision=None)
    with pytest.raises(BadCheckpoint, match="needs an embedding, landmarks or evidence"):
        FaceConfig(embedding_dim=0, landmark_regions=())
    with pytest.raises(BadCheckpoint, match="video"):
        FaceConfig(scope="video")


def test_grid_pooling_needs_the_patches_alone():
    tiny = emo_llama_tiny(face=False)
    with pytest.raises(BadCheckpoint, match="patches alone"):
        dataclasses.replace(tiny, compress_type="grid:2", mm_vision_select_feature="cls_patch")


def test_the_7b_has_the_parameters_of_the_published_checkpoint():
    with torch.device("meta"):
        model = EmoLlama(emo_llama_7b(face=False))
    zero_key_biases = 39 * 1408
    assert sum(p.numel() for p in model.parameters()) - zero_key_biases == 7_941_388_160
