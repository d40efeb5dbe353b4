from pathlib import Path

import pytest

from emo_llama_ros.errors import BadParameter
from emo_llama_ros.training.recipe import LANGUAGE_MODEL_LINEARS, load_recipe, read_yaml

SHIPPED = sorted((Path(__file__).resolve().parents[2] / "config" / "train").glob("*.yaml"))
OF_LANGUAGE_MODELS = [path for path in SHIPPED if "kind" not in read_yaml(path)]
SMALL = """
name: small
output: runs/small
seed: 1
model: {checkpoint: base}
data: {source: records, records: [a.jsonl]}
groups:
  - {name: face, modules: [face_branch], learning_rate: 1e-3}
stages:
  - {name: only, training: {max_steps: 1}}
"""


@pytest.fixture
def recipe(tmp_path):
    def load(text):
        (tmp_path / "recipe.yaml").write_text(text)
        return load_recipe(tmp_path / "recipe.yaml")

    return load


def test_recipes_of_language_models_and_of_emo_eyes_are_shipped():
    assert {path.stem for path in SHIPPED} - {path.stem for path in OF_LANGUAGE_MODELS} == {"eyes"}


@pytest.mark.parametrize("path", OF_LANGUAGE_MODELS, ids=lambda path: path.stem)
def test_every_shipped_recipe_loads(path):
    loaded = load_recipe(path)
    assert loaded.path == path
    assert loaded.groups
    assert all(stage.smoke for stage in loaded.stages)


def test_numbers_that_yaml_reads_as_text_are_numbers(recipe):
    assert recipe(SMALL).groups[0].learning_rate == 1e-3


def test_what_is_left_out_has_a_default(recipe):
    loaded = recipe(SMALL + "lora: {r: 8}\n")
    assert loaded.lora.r == 8
    assert loaded.lora.target_modules == LANGUAGE_MODEL_LINEARS
    assert recipe(SMALL).lora is None


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("seed: 1\n", ""), "lacks the key 'seed'"),
        (("seed: 1", "seed: one"), "seed must be of type int"),
        (("name: small", "nmae: small"), "unknown key 'nmae'"),
        (("1e-3", "fast"), r"groups\[0\].learning_rate must be a number"),
        (("[face_branch]", "face_branch"), r"modules must be a list"),
        (("max_steps: 1}", "max_steps: 1}, steps: 2"), r"stages\[0\] has an unknown key 'steps'"),
        (("  - {name: only, training: {max_steps: 1}}", "  []"), "nothing to train"),
        (("model: {checkpoint: base}", "model: base"), "model must be a table"),
        (("seed: 1", "seed: ["), "not valid YAML"),
    ],
)
def test_a_fault_is_named_with_its_place(recipe, change, complaint):
    with pytest.raises(BadParameter, match=complaint):
        recipe(SMALL.replace(*change))


def test_a_recipe_that_is_not_there_says_where_some_are(tmp_path):
    with pytest.raises(BadParameter, match="config/train"):
        load_recipe(tmp_path / "none.yaml")
