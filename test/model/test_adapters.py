"""LoRA and whole tensors are merged exactly as peft applies them, and nothing is merged silently in part."""

import copy
import dataclasses
import json

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

from emo_llama_ros.errors import BadCheckpoint, BadParameter, MissingModel
from emo_llama_ros.model.adapters import Adapter, LoraPair, Merger, read_adapter
from emo_llama_ros.model.loading import load_model, save_model
from emo_llama_ros.model.weights import resolver

LLM_LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
HEAD = "lm_head.weight"
TIED = {"tie_word_embeddings": True}


def random_lora(module, folder, **config):
    """Wrap `module` with a random (not zero) LoRA by peft, save it, and return the wrapped module."""
    settings = {"r": 4, "lora_alpha": 16, "target_modules": LLM_LINEARS, "init_lora_weights": False} | config
    torch.manual_seed(7)
    wrapped = peft.get_peft_model(module, peft.LoraConfig(**settings)).eval()
    wrapped.save_pretrained(str(folder))
    return wrapped


@torch.inference_mode()
def logits(llm):
    return llm(torch.arange(3, 20)[None]).logits.float()


def assert_same(got, expected):
    """Equal up to the rounding of float32: 1e-5 of the largest logit."""
    assert (got - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.fixture(scope="module")
def base(tiny_checkpoints):
    return tiny_checkpoints.ours()


@pytest.fixture
def model(base):
    return load_model(base, device="cpu")[0]


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"use_rslora": True},
        {"target_modules": ["q_proj", "v_proj"], "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"q_proj": 3}},
        {"target_modules": ["q_proj"], "layers_to_transform": [1]},
    ],
    ids=["plain", "rank-stabilised", "per-module rank and alpha", "one layer"],
)
def test_merged_equals_unmerged(base, model, tmp_path, config):
    plain = logits(model.language_model)
    wrapped = random_lora(model.language_model, tmp_path, **config)
    merged, _ = load_model(base, device="cpu", adapters=[tmp_path])
    assert (logits(wrapped) - plain).abs().max() > 1e-2
    assert_same(logits(merged.language_model), logits(wrapped))


@pytest.mark.parametrize("use_rslora", [False, True])
@pytest.mark.parametrize(
    "patterns",
    [
        {"alpha_pattern": {r"^model\.layers\.0\.self_attn\.q_proj": 64}},
        {"alpha_pattern": {r"model.layers.1.mlp.up_proj$": 64, "up_proj": 2}},
        {"alpha_pattern": {"up_proj": 2, r"model.layers.1.mlp.up_proj": 64}},
        {"alpha_pattern": {r".*\.0\..*": 64}},
        {"alpha_pattern": {"q_proj|v_proj": 64}},
        {"alpha_pattern": {"proj": 64, "layers.0": 64, r"^layers\.0\.self_attn\.q_proj": 64}},
        {"alpha_pattern": {r"[qk]_proj": 64}, "rank_pattern": {r"^model\.layers\.1\..*": 2, "v_proj": 8}},
    ],
    ids=["anchored", "end", "first match wins", "inside", "either", "no match", "rank and alpha"],
)
def test_patterns_of_rank_and_alpha_mean_what_they_mean_to_peft(base, model, tmp_path, patterns, use_rslora):
    plain = copy.deepcopy(model.language_model)
    random_lora(model.language_model, tmp_path, use_rslora=use_rslora, **patterns)
    # As saved: peft sorts the patterns when it writes them, and the first that fits decides.
    expected = peft.PeftModel.from_pretrained(plain, str(tmp_path)).merge_and_unload()
    merged, _ = load_model(base, device="cpu", adapters=[tmp_path])
    assert_same(logits(merged.language_model), logits(expected))


@pytest.mark.parametrize("start", ["gaussian", "orthogonal"])
def test_initialisations_that_leave_the_base_alone_are_merged(base, model, tmp_path, start):
    wrapped = random_lora(model.language_model, tmp_path, init_lora_weights=start)
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_B" in name:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    wrapped.save_pretrained(str(tmp_path))
    merged, _ = load_model(base, device="cpu", adapters=[tmp_path])
    assert_same(logits(merged.language_model), logits(wrapped))


def test_an_adapter_trained_on_the_whole_model_finds_its_place_too(base, model, tmp_path):
    class Whole(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.config = {}
            for name, child in model.named_children():
                self.add_module(name, child)

    wrapped = random_lora(Whole(), tmp_path)
    assert any(".language_model.model.layers" in name for name in load_file(tmp_path / "adapter_model.safetensors"))
    merged, _ = load_model(base, device="cpu", adapters=[tmp_path])
    reference = wrapped.base_model.model.language_model
    assert_same(logits(merged.language_model), logits(reference))


def test_a_zero_adapter_changes_no_bit(base, model, tmp_path):
    plain = logits(model.language_model)
    random_lora(model.language_model, tmp_path, init_lora_weights=True)
    merged, _ = load_model(base, device="cpu", adapters=[tmp_path])
    assert torch.equal(logits(merged.language_model), plain)


def test_two_adapters_add_up_in_order(base, model, tmp_path):
    first = copy.deepcopy(model.language_model)
    random_lora(first, tmp_path / "first")
    torch.manual_seed(3)
    stacked = peft.PeftModel.from_pretrained(model.language_model, str(tmp_path / "first")).merge_and_unload()
    wrapped = random_lora(stacked, tmp_path / "second", r=2)
    merged, _ = load_model(base, device="cpu", adapters=[tmp_path / "first", tmp_path / "second"])
    assert_same(logits(merged.language_model), logits(wrapped))


@pytest.mark.parametrize("method", ["nf4", "int8"])
def test_adapters_are_merged_before_quantization(base, model, tmp_path, method):
    """Quantizing the merged weights, not merging into quantized ones: the tensors are those of a merged checkpoint."""
    wrapped = random_lora(model.language_model, tmp_path / "adapter")
    model.language_model = wrapped.merge_and_unload()
    save_model(model, tmp_path / "merged")
    expected = load_model(tmp_path / "merged", device="cpu", quantization=method)[0]
    got = load_model(base, device="cpu", quantization=method, adapters=[tmp_path / "adapter"])[0]
    assert (logits(got.language_model) - logits(expected.language_model)).abs().max() < 0.02
    pairs = zip(got.state_dict().items(), expected.state_dict().values(), strict=True)
    differing = {name: (a != b).float().mean() for (name, a), b in pairs if a.dtype in (torch.uint8, torch.int8)}
    assert differing
    assert max(differing.values()) < 1e-3, differing


def test_lora_into_a_quantized_checkpoint_is_refused(tiny_checkpoints, model, tmp_path):
    random_lora(model.language_model, tmp_path)
    with pytest.raises(BadCheckpoint, match="merged before quantization"):
        load_model(tiny_checkpoints.ours(quantization="nf4"), device="cpu", adapters=[tmp_path])


def test_whole_tensors_replace_those_of_the_base(base, model, tmp_path):
    name = "token_generation.query_projector.weight"
    value = torch.randn_like(model.state_dict()[name])
    save_file({name: value}, tmp_path / "non_lora_trainables.safetensors")
    merged, _ = load_model(base, device="cpu", adapters=[tmp_path])
    assert torch.equal(merged.state_dict()[name], value)


def test_published_non_lora_trainables_are_read_under_their_published_names(base, model, tmp_path):
    value = torch.randn_like(model.state_dict()["token_generation.content_projector.0.weight"])
    torch.save({"base_model.model.model.mm_projector.0.weight": value}, tmp_path / "non_lora_trainables.bin")
    merged, _ = load_model(base, device="cpu", adapters=[tmp_path])
    assert torch.equal(merged.state_dict()["token_generation.content_projector.0.weight"], value)


def test_modules_that_peft_saved_whole_are_merged(base, model, tmp_path):
    wrapped = random_lora(model.language_model, tmp_path, modules_to_save=["lm_head"])
    with torch.no_grad():
        wrapped.base_model.model.lm_head.modules_to_save["default"].weight.add_(0.1)
    wrapped.save_pretrained(str(tmp_path))
    merged, _ = load_model(base, device="cpu", adapters=[tmp_path])
    assert_same(logits(merged.language_model), logits(wrapped))


def test_an_adapter_can_bring_the_face_branch(tiny_checkpoints, tmp_path):
    from emo_llama_ros.model.checkpoint import Manifest, write_description

    trained = tiny_checkpoints.model(tiny_checkpoints.config(face=True), seed=3)
    face = {name: tensor for name, tensor in trained.state_dict().items() if name.startswith("face_branch.")}
    save_file(face, tmp_path / "non_lora_trainables.safetensors")
    write_description(tmp_path, trained.config, Manifest())
    model, report = load_model(tiny_checkpoints.ours(face=False), device="cpu", adapters=[tmp_path])
    assert report.checkpoint.config.face == trained.config.face
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in face.items())

    face.pop("face_branch.projector.bias")
    save_file(face, tmp_path / "non_lora_trainables.safetensors")
    with pytest.raises(BadCheckpoint, match=r"lacks the tensor 'face_branch\.projector\.bias'"):
        load_model(tiny_checkpoints.ours(face=False), device="cpu", adapters=[tmp_path])


def rewritten(folder, change):
    file = folder / "adapter_model.safetensors"
    tensors = load_file(file)
    save_file(change(tensors), file)


def first(tensors, part="lora_A"):
    return next(name for name in tensors if part in name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: {name.replace("layers", "blocks"): v for name, v in t.items()}, "fits no tensor of this model"),
        (lambda t: {**t, "base_model.model.model.layers.9.mlp.up_proj.lora_A.weight": torch.ones(4, 64)}, "layers.9"),
        (lambda t: {name: v for name, v in t.items() if name != first(t)}, "lacks one of its two"),
        (lambda t: {**t, first(t): t[first(t)][:, :-1].contiguous()}, "has shape"),
        (lambda t: {**t, first(t): t[first(t)][:-1].contiguous()}, "lacks one of its two"),
        (lambda t: {first(t).replace("lora_A", "lora_magnitude_vector"): torch.ones(64)}, "kind of LoRA"),
        (lambda t: {"base_model.model.lm_head.weight": torch.zeros(384, 64)}, "holds no LoRA"),
        (lambda t: {**t, first(t).replace("lora_A", "lora_A.second"): t[first(t)].clone()}, "two LoRA updates"),
        (lambda t: {**t, first(t): t[first(t)][:, :, None, None].clone()}, "updates a convolution"),
        (lambda t: {**t, f"{HEAD}": torch.ones(384, 64), f"model.{HEAD}": torch.ones(384, 64)}, "a second time"),
    ],
    ids=[
        *("renamed", "unknown layer", "half a pair", "wrong width", "wrong rank", "dora", "empty"),
        *("two adapters", "convolution", "two values"),
    ],
)
def test_an_adapter_that_would_load_in_part_is_refused_by_name(base, model, tmp_path, change, message):
    random_lora(model.language_model, tmp_path)
    rewritten(tmp_path, change)
    with pytest.raises(BadCheckpoint, match=message):
        load_model(base, device="cpu", adapters=[tmp_path])


def reconfigured(folder, **settings):
    config = folder / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | settings))


UNDERSTOOD = {
    *("task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision", "inference_mode"),
    *("r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "init_lora_weights", "peft_type"),
    *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "modules_to_save", "bias"),
    *("lora_dropout", "runtime_config", "eva_config", "megatron_core", "qalora_group_size"),
}
PEFT_FIELDS = {f.name for f in dataclasses.fields(peft.LoraConfig)}


@pytest.mark.parametrize("name", [*sorted(PEFT_FIELDS - UNDERSTOOD), "a_field_of_a_later_peft"])
def test_a_field_of_peft_that_is_not_understood_is_refused_by_its_name(model, tmp_path, name):
    random_lora(model.language_model, tmp_path)
    reconfigured(tmp_path, **{name: {"some": "value"}})
    with pytest.raises(BadCheckpoint, match=rf"made with {name}.*(merge it with peft|cannot be merged)"):
        read_adapter(tmp_path, resolver(model.state_dict()))


@pytest.mark.parametrize("start", ["pissa", "pissa_niter_4", "olora", "corda", "loftq", "lora_ga", "mica", "PiSSA"])
def test_initialisations_that_change_the_base_are_refused(model, tmp_path, start):
    random_lora(model.language_model, tmp_path)
    reconfigured(tmp_path, init_lora_weights=start)
    with pytest.raises(BadCheckpoint, match=f'init_lora_weights="{start}".*merge it with peft'):
        read_adapter(tmp_path, resolver(model.state_dict()))


def test_an_adapter_of_another_type_is_refused(model, tmp_path):
    random_lora(model.language_model, tmp_path)
    reconfigured(tmp_path, peft_type="IA3")
    with pytest.raises(BadCheckpoint, match="type IA3, not LoRA"):
        read_adapter(tmp_path, resolver(model.state_dict()))


@pytest.mark.parametrize(
    "settings",
    [
        {"alpha_pattern": {"q_proj(": 3}},
        {"alpha_pattern": ["q_proj"]},
        {"rank_pattern": {"q_proj": "four"}},
        {"lora_alpha": None},
    ],
    ids=str,
)
def test_a_configuration_that_peft_did_not_write_is_refused_in_one_sentence(model, tmp_path, settings):
    random_lora(model.language_model, tmp_path)
    reconfigured(tmp_path, **settings)
    with pytest.raises(BadCheckpoint, match="is not what peft writes"):
        read_adapter(tmp_path, resolver(model.state_dict()))


@pytest.mark.parametrize("settings", [{"r": 8}, {"rank_pattern": {"q_proj": 2}}], ids=str)
def test_matrices_of_another_rank_than_configured_are_refused(model, tmp_path, settings):
    names = resolver(model.state_dict())
    random_lora(model.language_model, tmp_path)
    reconfigured(tmp_path, **settings)
    with pytest.raises(BadCheckpoint, match="has rank 4, but"):
        read_adapter(tmp_path, names)


def test_of_a_trained_copy_and_its_original_the_copy_is_merged(base, model, tmp_path):
    name = "token_generation.query_projector"
    value = torch.randn_like(model.state_dict()[f"{name}.weight"])
    tensors = {f"{name}.modules_to_save.default.weight": value, f"{name}.original_module.weight": value + 1}
    for order in (1, -1):
        torch.save(dict(list(tensors.items())[::order]), tmp_path / "non_lora_trainables.bin")
        merged, _ = load_model(base, device="cpu", adapters=[tmp_path])
        assert torch.equal(merged.state_dict()[f"{name}.weight"], value)


def test_a_trained_copy_of_tied_embeddings_is_refused(tiny_checkpoints, tmp_path):
    config = tiny_checkpoints.config()
    model = tiny_checkpoints.model(dataclasses.replace(config, llm=dataclasses.replace(config.llm, **TIED)))
    save_model(model, tmp_path / "base")
    random_lora(model.language_model, tmp_path / "adapter", modules_to_save=["embed_tokens"])
    with pytest.raises(BadCheckpoint, match="they are the output layer, too"):
        load_model(tmp_path / "base", device="cpu", adapters=[tmp_path / "adapter"])


def test_every_tensor_of_an_adapter_file_is_accounted_for(model, tmp_path):
    names = resolver(model.state_dict())
    random_lora(model.language_model, tmp_path)
    adapter = read_adapter(tmp_path, names)
    assert 2 * len(adapter.lora) == len(load_file(tmp_path / "adapter_model.safetensors")) == 2 * 7 * 2


def test_an_empty_adapter_folder_is_refused(base, tmp_path):
    with pytest.raises(MissingModel, match="holds no adapter"):
        load_model(base, device="cpu", adapters=[tmp_path])


def test_a_second_face_branch_is_refused(base, model):
    with pytest.raises(BadParameter, match="already"):
        load_model(base, device="cpu", new_face_branch=model.config.face)


def test_an_update_that_met_no_tensor_is_named(tmp_path):
    adapter = Adapter(tmp_path, lora={"a.weight": LoraPair(1.0, torch.ones(1, 2), torch.ones(2, 1))})
    merger = Merger([adapter])
    assert torch.equal(merger.merge("b.weight", torch.zeros(2, 2)), torch.zeros(2, 2))
    with pytest.raises(BadCheckpoint, match=r"'a\.weight'"):
        merger.check_all_used()
    merger.merge("a.weight", torch.zeros(2, 2))
    merger.check_all_used()


def test_an_adapter_trained_on_a_quantized_model_merges_into_the_unquantized_base(tiny_checkpoints, base, tmp_path):
    """QLoRA: LoRA beside NF4 weights, put in place the way the trainer does it."""
    settings = peft.LoraConfig(r=4, target_modules=LLM_LINEARS, init_lora_weights=False)
    model, _ = load_model(base, device="cpu", quantization="nf4")
    peft.inject_adapter_in_model(settings, model)
    assert type(model.language_model.model.layers[0].mlp.up_proj).__module__.endswith("lora.bnb")
    settings.save_pretrained(str(tmp_path))
    save_file(dict(peft.get_peft_model_state_dict(model)), tmp_path / "adapter_model.safetensors")
    merged, _ = load_model(base, device="cpu", adapters=[tmp_path])
    plain, _ = load_model(base, device="cpu")
    layer = "language_model.model.layers.1.mlp.down_proj"
    lora = model.get_submodule(layer)
    delta = lora.lora_B["default"].weight @ lora.lora_A["default"].weight * lora.scaling["default"]
    torch.testing.assert_close(merged.get_parameter(f"{layer}.weight"), plain.get_parameter(f"{layer}.weight") + delta)
