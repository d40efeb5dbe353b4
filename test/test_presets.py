import pytest
import yaml

from emo_llama_ros.checks.preflight import check_files
from emo_llama_ros.errors import MissingModel
from emo_llama_ros.options import Options, specs

PRESETS = ["emo-llama-7b"]


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_sets_known_options_within_their_ranges(repository, name):
    values = yaml.safe_load((repository / "config" / "presets" / f"{name}.yaml").read_text())["/**"]["ros__parameters"]
    assert values["backend"] == "emo_llama"
    options = Options().with_values(values)
    for option, value in values.items():
        assert getattr(options, option) == value
        assert type(value) is specs()[option].type


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_without_its_checkpoint_refuses(repository, name):
    values = yaml.safe_load((repository / "config" / "presets" / f"{name}.yaml").read_text())["/**"]["ros__parameters"]
    with pytest.raises(MissingModel, match=r"model_path is .*no such folder; make one with `emo_llama convert`"):
        check_files(Options().with_values({"analyzer": "insightface", "insightface_folder": str(repository), **values}))


def test_every_preset_is_tested(repository):
    assert sorted(p.stem for p in (repository / "config" / "presets").glob("*.yaml")) == PRESETS
