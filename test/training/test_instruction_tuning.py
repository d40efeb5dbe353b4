"""The 7B's recipe in miniature: what trains, what stays, and that what was learned survives saving and quantizing."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("peft", reason="needs the 'model' extra")

from emo_llama_ros.errors import BadParameter
from emo_llama_ros.model.checkpoint import open_checkpoint
from emo_llama_ros.model.loading import load_model, quantization_of, save_model
from emo_llama_ros.model.modeling import EmoLlama
from emo_llama_ros.training import run
from emo_llama_ros.training.recipe import load_recipe
from emo_llama_ros.training.source import make_source

sys.path.insert(0, str(Path(__file__).parent))
from tiny_tuning import answers, miniature, write_base, write_sixteen

RECIPE = Path(__file__).resolve().parents[2] / "config" / "train" / "emo_llama_7b_lora.yaml"
QUICK = {"activation_checkpointing": False, "per_device_train_batch_size": 16, "gradient_accumulation_steps": 1}
TRAINED = ("face_branch.", ".lora_", "_projector.")


@pytest.fixture(scope="module")
def base(tiny_checkpoints, tmp_path_factory):
    return write_base(tiny_checkpoints, tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return write_sixteen(tmp_path_factory.mktemp("records"))


@pytest.fixture
def trained(monkeypatch):
    """The model that `run.train` trains, as it was before and after."""
    kept = {}
    fit = run.fit

    def spy(model, *arguments, **options):
        kept["model"] = model
        kept["before"] = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        return fit(model, *arguments, **options)

    monkeypatch.setattr(run, "fit", spy)
    return kept


def items_of(recipe, model: EmoLlama, folder):
    source = make_source(recipe, folder, False)
    source.prepare(model)
    return source.items({}, 0)[0], source.collate


def test_the_recipe_is_one_stage_of_lora_face_branch_and_connector():
    recipe = load_recipe(RECIPE)
    assert (recipe.lora.r, recipe.lora.alpha, recipe.lora.dropout, recipe.lora.learning_rate) == (64, 128, 0.05, 1e-4)
    assert [(group.name, group.learning_rate) for group in recipe.groups] == [("face", 1e-4), ("connector", 2e-5)]
    training = recipe.stages[0].training
    assert training["per_device_train_batch_size"] * training["gradient_accumulation_steps"] == 128
    assert recipe.model.quantization == "nf4"


def test_every_key_of_the_recipe_is_explained():
    text = RECIPE.read_text().split("    smoke:")[0]
    lines = [line for line in text.splitlines() if ": " in line and not line.lstrip().startswith("#")]
    assert [line for line in lines if "#" not in line and "name: " not in line and "modules: " not in line] == []


def test_two_steps_on_a_base_in_nf4_train_what_the_recipe_says(base, records, trained, tmp_path):
    pytest.importorskip("bitsandbytes")
    recipe = miniature(RECIPE, base, records, quantization="nf4", steps=2, rate=1e-3)
    result = run.train(recipe, tmp_path)
    model, before = trained["model"], trained["before"]
    assert quantization_of(model) == "nf4"
    after = model.state_dict()
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    assert all(any(part in name for part in TRAINED) for name in changed)
    assert not any("qformer" in name or "vision_tower" in name for name in changed if "face_branch" not in name)
    # Without weight decay, what moved had a gradient: B in the first step, A once B is no longer zero.
    lora = {name for name in after if ".lora_" in name}
    assert len(lora) == 2 * 7 * model.config.llm.num_hidden_layers
    assert lora <= changed
    for part in ("face_branch", "content_projector", "context_projector", "query_projector"):
        assert any(part in name for name in changed), part
    assert {"adapter_config.json", "adapter_model.safetensors", "non_lora_trainables.safetensors"} <= {
        file.name for file in result.folder.iterdir()
    }


def test_a_new_aggregator_starts_as_the_main_one(base, records, trained, tmp_path):
    recipe = miniature(RECIPE, base, records, quantization="none", steps=1, rate=1e-3)
    as_wide = {**recipe.model.face["aggregator"], "hidden_size": open_checkpoint(base).config.qformer.hidden_size}
    recipe = replace(recipe, model=replace(recipe.model, face={**recipe.model.face, "aggregator": as_wide}))
    run.train(recipe, tmp_path)
    before = trained["before"]
    main = {n.removeprefix("token_generation.qformer."): t for n, t in before.items() if "generation.qformer" in n}
    face = {n.removeprefix("face_branch.aggregator."): t for n, t in before.items() if "face_branch.aggregator" in n}
    fitting = [name for name in face if name in main and main[name].shape == face[name].shape and "bias" not in name]
    assert any("attention" in name for name in fitting)
    assert all(torch.equal(face[name], main[name]) for name in fitting)


def test_an_interrupted_run_is_not_resumed_in_a_stage_that_only_an_earlier_run_reached(
    base, records, monkeypatch, tmp_path
):
    recipe = miniature(RECIPE, base, records, quantization="none", steps=1, rate=1e-3)
    recipe = replace(recipe, stages=(recipe.stages[0], replace(recipe.stages[0], name="second")))
    earlier = tmp_path / "second" / "checkpoint-9"
    earlier.mkdir(parents=True)

    def interrupted(*_arguments, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run.train(recipe, tmp_path)
    assert not earlier.exists()
    with pytest.raises(BadParameter, match="start without --resume"):
        run.train(recipe, tmp_path, resume=True)


@pytest.mark.slow
@pytest.mark.timeout(280)
def test_sixteen_items_are_learned_and_survive_saving_reloading_and_quantizing(base, records, tmp_path):
    recipe = miniature(RECIPE, base, records, quantization="none", steps=60, rate=3e-3, **QUICK)
    result = run.train(recipe, tmp_path / "run")
    assert result.figures["eval_answer_accuracy"] == 1.0
    assert result.figures["eval_token_accuracy"] == 1.0
    losses = [entry["loss"] for entry in map(json.loads, result.log.read_text().splitlines()) if "loss" in entry]
    assert losses[-1] < 0.2 * losses[0]

    def reloaded(**options):
        return load_model(base, adapters=[result.folder], device="cpu", dtype="float32", **options)[0]

    model = reloaded(quantization="none")
    items, collate = items_of(recipe, model, tmp_path / "again")
    items = [items[i] for i in range(len(items))]
    wanted = [item.turns[-1].answer for item in items]
    assert len({item.turns[0].answer for item in items}) == 7
    untrained = load_model(base, device="cpu", dtype="float32", quantization="none", new_face_branch=model.config.face)
    assert answers(untrained[0], items, collate) != wanted
    assert answers(model, items, collate) == wanted

    pytest.importorskip("bitsandbytes")
    assert answers(reloaded(quantization="int8"), items, collate) == wanted
    nf4 = reloaded(quantization="nf4")
    assert answers(nf4, items, collate) == wanted
    save_model(nf4, tmp_path / "nf4")
    stored, report = load_model(tmp_path / "nf4", device="cpu", dtype="float32")
    assert report.quantization == "nf4"
    assert answers(stored, items, collate) == wanted
