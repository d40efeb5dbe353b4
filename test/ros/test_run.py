"""`emo_llama run` and emo.launch.py take the same arguments, and give the node the same parameters."""

import os
import signal
import subprocess
import sys

import pytest
from patience import PATIENCE_S

from emo_llama_ros.errors import BadParameter
from emo_llama_ros.options import Options, specs

HEAD = "/**:\n  ros__parameters:\n"


@pytest.fixture(scope="module")
def context():
    """One for all nodes of this file: each opens the middleware anew."""
    rclpy = pytest.importorskip("rclpy")
    from rclpy.signals import SignalHandlerOptions

    context = rclpy.Context()
    rclpy.init(context=context, signal_handler_options=SignalHandlerOptions.NO)
    yield context
    rclpy.try_shutdown(context=context)


@pytest.fixture
def read(context):
    """Return what a node of ROS 2 gets from the arguments that `emo_llama run` makes of these: (options, node)."""
    import rclpy

    from emo_llama_ros.ros import parameters
    from emo_llama_ros.ros.launch_arguments import node_start, ros_arguments, split

    nodes = []

    def start(*arguments):
        made = ros_arguments(node_start(split(arguments), launched=False))
        ours = [argument for argument in made if argument != "--autostart"]
        node = rclpy.create_node("other", context=context, cli_args=ours, use_global_arguments=False)
        nodes.append(node)
        parameters.declare(node)
        return parameters.read(node), node

    yield start
    for node in nodes:
        node.destroy_node()


def test_what_is_typed_reaches_the_node_as_it_was_meant(read, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(HEAD + "    label_rate_hz: 3\n    min_confidence: 0.7\n")
    options, node = read(
        "clip_s:=3", "max_faces:=2", "reasoning:=no", "medical_or_safety_reason:=no: really", "model_path:=7",
        "image_topic:=/front", "namespace:=left/head", "name:=eyes", f"params_file:={file}", "use_sim_time:=true",
        "insightface_folder:=a 'b' \"c\" ü \\", "skip_unchanged:=0.00001",
    )  # fmt: skip
    assert options == Options(
        clip_s=3.0, max_faces=2, reasoning=False, medical_or_safety_reason="no: really", model_path="7",
        image_topic="/front", label_rate_hz=3.0, min_confidence=0.7, insightface_folder="a 'b' \"c\" ü \\",
        skip_unchanged=0.00001,
    )  # fmt: skip
    assert node.get_fully_qualified_name() == "/left/head/eyes"
    assert node.get_parameter("use_sim_time").value is True


@pytest.mark.parametrize("spec", specs().values(), ids=lambda s: s.name)
def test_the_default_of_every_option_can_be_typed(read, spec):
    typed = str(spec.default).lower() if spec.type is bool else str(spec.default)
    options, _ = read(f"{spec.name}:={typed}")
    assert options == Options()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["image_topic=/front"], ["NAME:=VALUE"]),
        (["--imagetopic"], ["NAME:=VALUE"]),
        ([":=x"], ["NAME:=VALUE"]),
        (["modelpath:=x"], ["modelpath", "did you mean 'model_path'?"]),
        (["Model_Path:=x"], ["did you mean 'model_path'?"]),
        (["names:=x"], ["did you mean 'name'?"]),
        (["respawn:=true"], ["There is no parameter 'respawn'"]),
        (["zzz:=x"], ["There is no parameter 'zzz'."]),
        (["name:=my-node"], ["my-node", "letters"]),
        (["name:=1st"], ["1st", "digit"]),
        (["namespace:=a-b"], ["a-b", "/left"]),
        (["namespace:=a//b"], ["a//b"]),
        (["clip_s:=fast"], ["clip_s", "float"]),
        (["clip_s:="], ["clip_s", "float"]),
        (["clip_s:=nan"], ["clip_s"]),
        (["clip_s:=1000"], ["clip_s", "30"]),
        (["max_faces:=2.5"], ["max_faces", "int"]),
        (["enabled:=maybe"], ["enabled", "bool"]),
        (["backend:=crystal_ball"], ["backend", "expression"]),
        (["log_level:=loud"], ["log_level", "debug"]),
        (["use_sim_time:=maybe"], ["use_sim_time", "true or false"]),
        (["params_file:=/nowhere.yaml"], ["/nowhere.yaml"]),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_sentence(arguments, words):
    from emo_llama_ros.ros.launch_arguments import node_start, split

    with pytest.raises(BadParameter) as refusal:
        node_start(split(arguments), launched=False)
    assert len(str(refusal.value).splitlines()) == 1
    for word in words:
        assert word in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("/**:\n  ros__parameters:\n\tlabel_rate_hz: 2.0\n", ["not YAML", "line 3"]),
        ("emo_llama_node:\n  label_rate_hz: 2.0\n", ["emo_llama_node", "ros__parameters"]),
        ("label_rate_hz: 2.0\n", ["label_rate_hz", "ros__parameters"]),
        ("", ["no parameters"]),
        ("- a\n", ["no parameters"]),
        ("/**:\n  ros__parameters: 7\n", ["ros__parameters"]),
        ("other_node:\n  ros__parameters:\n    clip_s: 2.0\n", ["is for other_node", "/left/eyes"]),
        ("/right/eyes:\n  ros__parameters:\n    clip_s: 2.0\n", ["is for /right/eyes", "/left/eyes"]),
    ],
)
def test_a_parameter_file_that_says_nothing_to_the_node_is_refused_in_one_sentence(tmp_path, text, words):
    from emo_llama_ros.ros.launch_arguments import check_params_file

    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(BadParameter) as refusal:
        check_params_file(file, "/left", "eyes")
    assert len(str(refusal.value).splitlines()) == 1
    for word in words:
        assert word in str(refusal.value)


@pytest.mark.parametrize("node", ["/**", "eyes", "/left/eyes", "/*/eyes", "left:\n  eyes", "/**/eyes", "/left/**"])
def test_every_way_to_name_a_node_in_a_parameter_file_is_understood(tmp_path, node):
    from emo_llama_ros.ros.launch_arguments import check_params_file

    file = tmp_path / "mine.yaml"
    indent = "    " if "\n" in node else "  "
    file.write_text(f"{node}:\n{indent}ros__parameters:\n{indent}  clip_s: 2.0\n")
    check_params_file(file, "/left", "eyes")


@pytest.mark.usefixtures("ros")
def test_emo_llama_run_starts_an_active_node_and_ends_on_ctrl_c(corner, repository, fetched_networks, tmp_path):
    from lifecycle_msgs.srv import GetState

    file = tmp_path / "mine.yaml"
    file.write_text(HEAD + "    min_confidence: 0.7\n    backend: expression\n")
    command = [sys.executable, "-c", "from emo_llama_ros.cli import main; main()", "run", "--params-file", str(file)]
    process = subprocess.Popen(
        [*command, "image_topic:=front/image_raw", f"namespace:={corner.namespace}", "clip_s:=3"],
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(repository), os.environ.get("PYTHONPATH", "")])},
    )
    try:
        corner.until(lambda: corner.helper.count_subscribers(corner.name("front/image_raw")), "the subscription")
        assert corner.call(GetState, "get_state", GetState.Request()).current_state.label == "active"
        assert corner.parameter("min_confidence") == 0.7
        assert corner.parameter("clip_s") == 3.0
    finally:
        os.killpg(process.pid, signal.SIGINT)
        code = process.wait(PATIENCE_S)
    assert code == 0
