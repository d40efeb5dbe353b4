import pytest
import yaml

from emo_llama_ros.checks.preflight import check_files
from emo_llama_ros.errors import MissingModel
from emo_llama_ros.options import Options, specs

PRESETS = ["emo-llama-7b"]


def parameters(repository, name):
    """What the file of a preset sets."""
    return yaml.safe_load((repository / "config" / "presets" / f"{name}.yaml").read_text())["/**"]["ros__parameters"]


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_sets_known_options_within_their_ranges(repository, name):
    values = parameters(repository, name)
    Options().with_values(values)  # refuses what it does not know, and what lies out of range
    assert {n: type(value) for n, value in values.items()} == {n: specs()[n].type for n in values}, "as ROS wants them"


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_without_its_checkpoint_refuses(repository, name):
    with pytest.raises(MissingModel, match=r"model_path is .*no such folder; make one with `emo_llama convert`"):
        check_files(Options().with_values(parameters(repository, name)))


def test_every_preset_is_tested(repository):
    assert sorted(p.stem for p in (repository / "config" / "presets").glob("*.yaml")) == PRESETS
