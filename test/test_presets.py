import pytest
import yaml

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


def test_every_preset_is_tested(repository):
    assert sorted(p.stem for p in (repository / "config" / "presets").glob("*.yaml")) == PRESETS
