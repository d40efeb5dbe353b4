import pytest
import yaml

from emo_llama_ros.options import Options, specs
from emo_llama_ros.ros.parameters_file import parameters_yaml

SPECS = specs()
NUMBERS = [s for s in SPECS.values() if s.low is not None]
CHOICES = [s for s in SPECS.values() if s.choices]
LIVE = [s.name for s in SPECS.values() if s.live]


def test_the_shipped_file_is_what_the_option_table_writes(repository):
    assert (repository / "config" / "emo.yaml").read_text() == parameters_yaml()


def test_the_shipped_file_holds_every_option_with_its_default_and_type(repository):
    shipped = yaml.safe_load((repository / "config" / "emo.yaml").read_text())["/**"]["ros__parameters"]
    assert list(shipped) == list(SPECS)
    for name, value in shipped.items():
        assert value == SPECS[name].default
        assert type(value) is SPECS[name].type


def test_a_node_started_with_the_shipped_file_has_the_default_options(ros, repository):
    from emo_llama_ros.ros import parameters

    arguments = ["--ros-args", "--params-file", str(repository / "config" / "emo.yaml")]
    node = ros.create_node("from_file", cli_args=arguments, use_global_arguments=False)
    parameters.declare(node)
    assert parameters.read(node) == Options()
    node.destroy_node()


def test_descriptions_units_and_ranges_are_shown(corner, scripted):
    node = corner.emo_llama_node(scripted)
    for spec in SPECS.values():
        descriptor = node.describe_parameter(spec.name)
        assert spec.description in descriptor.description
        assert spec.unit in descriptor.description
        assert not descriptor.read_only
        if spec.low is not None:
            (bounds,) = descriptor.integer_range or descriptor.floating_point_range
            assert (bounds.from_value, bounds.to_value) == (spec.low, spec.high)
        for choice in spec.choices:
            assert choice in descriptor.additional_constraints


def test_out_of_range_wrong_type_and_unknown_choices_are_refused_with_the_reason(corner, scripted):
    corner.emo_llama_node(scripted)
    spec_of = {
        "clip_s": (-1.0, "range"),
        "clip_frames": (1000, "range"),
        "label_rate_hz": (float("nan"), ""),
        "backend": ("crystal_ball", "one of"),
        "enabled": ("yes", "type"),
        "image_topic": (7, "type"),
    }
    for name, (value, word) in spec_of.items():
        result = corner.set_parameter(name, value)
        assert not result.successful, name
        assert word in result.reason
        assert name in result.reason or word == "type"  # rclpy's own words
        assert corner.parameter(name) == SPECS[name].default


@pytest.mark.parametrize("spec", NUMBERS, ids=lambda s: s.name)
def test_the_core_refuses_what_lies_outside_each_range(ros, spec):
    from rclpy.parameter import Parameter

    from emo_llama_ros.ros.parameters import refusal

    for value in (spec.type(spec.low), spec.type(spec.high)):
        assert refusal([Parameter(spec.name, value=value)], configured=False) == ""
    for value in (spec.type(spec.low - 1), spec.type(spec.high + 1)):
        assert f"'{spec.name}' must be between" in refusal([Parameter(spec.name, value=value)], configured=False)


@pytest.mark.parametrize("spec", CHOICES, ids=lambda s: s.name)
def test_every_choice_is_accepted(ros, spec):
    from rclpy.parameter import Parameter

    from emo_llama_ros.ros.parameters import refusal

    for choice in spec.choices:
        assert refusal([Parameter(spec.name, value=choice)], configured=False) == ""


def test_while_configured_only_live_parameters_change(corner, scripted):
    corner.emo_llama_node(scripted)
    assert corner.set_parameter("clip_s", 3.0).successful
    assert corner.change_state("configure")
    (engine,) = scripted.made
    assert engine.options.clip_s == 3.0

    refused = corner.set_parameter("clip_s", 4.0)
    assert not refused.successful
    assert "takes effect at the next configure: deactivate and clean up" in refused.reason
    assert corner.parameter("clip_s") == 3.0

    for name in LIVE:
        value = {bool: False, float: 0.5}[SPECS[name].type]
        assert corner.set_parameter(name, value).successful, name
        assert engine.live[name] == value

    assert corner.change_state("cleanup")
    assert corner.set_parameter("clip_s", 4.0).successful
    assert corner.change_state("configure")
    options = scripted.made[-1].options
    assert options.clip_s == 4.0
    assert options.min_confidence == 0.5, "what was changed live stays"


def test_one_bad_value_of_several_changes_nothing(corner, scripted):
    from rcl_interfaces.srv import SetParametersAtomically
    from rclpy.parameter import Parameter

    corner.emo_llama_node(scripted)
    assert corner.change_state("configure")
    both = [Parameter("min_confidence", value=0.9), Parameter("backend", value="crystal_ball")]
    request = SetParametersAtomically.Request(parameters=[p.to_parameter_msg() for p in both])
    response = corner.call(SetParametersAtomically, "set_parameters_atomically", request)
    assert not response.result.successful
    assert corner.parameter("min_confidence") == SPECS["min_confidence"].default
    assert scripted.made[0].live == {}


def test_a_misspelt_parameter_is_named(ros):
    from emo_llama_ros.ros.parameters import unknown

    given = ["clip_s", "lable_rate_hz", "use_sim_time", "qos_overrides./emotion.publisher.depth"]
    assert unknown(given) == ["lable_rate_hz"]
