"""emo.launch.py: its arguments, the real thing where launch is installed, and what it hands to launch elsewhere."""

import importlib.util
import os
import signal
import subprocess
import sys
import types

import pytest
from patience import PATIENCE_S

from emo_llama_ros.errors import BadParameter
from emo_llama_ros.options import specs

pytestmark = pytest.mark.usefixtures("ros")

START = {"params_file", "namespace", "name", "use_sim_time", "respawn", "autostart", "log_level", "fastdds_profile"}


def test_every_option_is_a_launch_argument_and_described():
    from emo_llama_ros.ros.launch_arguments import launch_arguments

    declared = {argument.name: argument for argument in launch_arguments()}
    assert set(declared) == set(specs()) | START
    assert len(declared) == len(launch_arguments()), "none twice"
    assert all(argument.description for argument in declared.values())
    for spec in specs().values():
        assert spec.description in declared[spec.name].description
        assert declared[spec.name].default == "", "what is not given is left to the parameter file"


def stop(process):
    """End a process group as Ctrl-C in a terminal does; return the exit code of its leader."""
    os.killpg(process.pid, signal.SIGINT)
    return process.wait(PATIENCE_S)


def lifecycle_label(corner, node_name):
    from lifecycle_msgs.srv import GetState

    client = corner.helper.create_client(GetState, f"{node_name}/get_state")
    try:
        assert client.wait_for_service(timeout_sec=PATIENCE_S)
        future = client.call_async(GetState.Request())
        corner.until(future.done, "the lifecycle state")
        return future.result().current_state.label
    finally:
        corner.helper.destroy_client(client)


def real_launch(*arguments, **environment):
    """Run emo.launch.py in the real launch, as `ros2 launch` does; return the process."""
    program = """
import sys, launch
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
arguments = sys.argv[2:]
service = launch.LaunchService(argv=arguments)
given = [tuple(argument.split(":=", 1)) for argument in arguments]
source = PythonLaunchDescriptionSource(sys.argv[1])
service.include_launch_description(
    launch.LaunchDescription([IncludeLaunchDescription(source, launch_arguments=given)])
)
sys.exit(service.run())
"""
    path = os.environ.get("PYTHONPATH", "")
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments], start_new_session=True, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, "PYTHONPATH": path, **environment},
    )  # fmt: skip


@pytest.fixture
def emo_launch(repository):
    """The path of emo.launch.py; skips where launch is not installed."""
    pytest.importorskip("launch_ros", reason="needs launch_ros (not in any package registry)")
    return str(repository / "launch" / "emo.launch.py")


def test_ros2_launch_starts_an_active_node(corner, emo_launch, fetched_networks):
    arguments = [f"namespace:={corner.namespace}", "name:=eyes", "image_topic:=front/image_raw", "backend:=expression",
                 "medical_or_safety_reason:=no: really", "clip_s:=3", "model_path:=7"]  # fmt: skip
    process = real_launch(emo_launch, *arguments)
    try:
        corner.until(lambda: lifecycle_label(corner, corner.name("eyes")) == "active", "the node")
        corner.until(lambda: corner.helper.count_subscribers(corner.name("front/image_raw")), "the subscription")
        from rcl_interfaces.srv import GetParameters
        from rclpy.parameter import parameter_value_to_python

        client = corner.helper.create_client(GetParameters, corner.name("eyes/get_parameters"))
        assert client.wait_for_service(timeout_sec=PATIENCE_S)
        future = client.call_async(GetParameters.Request(names=["medical_or_safety_reason", "clip_s", "model_path"]))
        corner.until(future.done, "the parameters")
        assert [parameter_value_to_python(v) for v in future.result().values] == ["no: really", 3.0, "7"]
    finally:
        code = stop(process)
        print(process.communicate(timeout=PATIENCE_S)[0])
    assert code == 0


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("modelpath:=X", ["There is no parameter 'modelpath'; did you mean 'model_path'?"]),
        ("clip_s:=fast", ["clip_s", "float"]),
        ("namespace:=a-b", ["a-b"]),
    ],
)
def test_ros2_launch_refuses_what_cannot_be_meant(emo_launch, argument, words):
    process = real_launch(emo_launch, argument)
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode != 0
    for word in words:
        assert word in output
    assert "Traceback" not in output


# --- the stand-in: records what the launch file asks for, without launch ---


class Recorder:
    def __init__(self, *arguments, **keywords):
        self.arguments, self.keywords = arguments, keywords


class Configuration(Recorder):
    def perform(self, context):
        return context.values[self.arguments[0]]


@pytest.fixture
def launch_file(repository, monkeypatch):
    """The launch file, imported against the stand-in."""
    names = {
        "launch": {"LaunchContext": Recorder, "LaunchDescription": Recorder},
        "launch.actions": dict.fromkeys(
            ("DeclareLaunchArgument", "LogInfo", "OpaqueFunction", "SetEnvironmentVariable"), None
        ),
        "launch.substitutions": {"LaunchConfiguration": Configuration},
        "launch_ros": {},
        "launch_ros.actions": {"LifecycleNode": None},
        "launch_ros.parameter_descriptions": {"ParameterValue": None},
    }
    for module_name, members in names.items():
        module = types.ModuleType(module_name)
        for name, member in members.items():
            setattr(module, name, member or type(name, (Recorder,), {}))
        monkeypatch.setitem(sys.modules, module_name, module)
    spec = importlib.util.spec_from_file_location("emo_launch", repository / "launch" / "emo.launch.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def launched(launch_file):
    """Return what the launch file starts with these launch arguments: (actions, the node's keywords)."""

    def start(environment=None, typed=(), **arguments):
        (actions,) = launch_file.generate_launch_description().arguments
        declared = {a.arguments[0]: a.keywords["default_value"] for a in actions if "default_value" in a.keywords}
        context = types.SimpleNamespace(values={**declared, **arguments}, environment=environment or {}, argv=typed)
        made = actions[-1].keywords["function"](context)
        return made, made[-1].keywords

    return start


def given(node):
    """Return the parameters that the node gets beside the file."""
    _, overrides = node["parameters"]
    return {n: v.arguments[0] if isinstance(v, Recorder) else v for n, v in overrides.items()}


def test_stand_in_what_it_starts_exists(launched, repository):
    _, node = launched()
    assert (repository / "scripts" / node["executable"]).is_file()
    assert f"<name>{node['package']}</name>" in (repository / "package.xml").read_text()
    assert node["parameters"] == [str(repository / "config" / "emo.yaml")], "everything else is left to the file"
    assert (node["name"], node["namespace"], node["respawn"]) == ("emo_llama_node", "", False)
    assert node["arguments"] == ["--autostart", "--ros-args", "--log-level", "info"]


def test_stand_in_arguments_reach_the_node_in_their_types(launched):
    _, node = launched(
        image_topic="front", model_path="7", clip_s="3", reasoning="off", max_faces="2", namespace="head", name="eyes",
        use_sim_time="True", respawn="true", autostart="false", log_level="debug",
    )  # fmt: skip
    assert given(node) == {
        "image_topic": "front", "model_path": "7", "clip_s": 3.0, "reasoning": False, "max_faces": 2,
        "use_sim_time": True,
    }  # fmt: skip
    assert all(node["parameters"][1][name].keywords == {"value_type": str} for name in ("image_topic", "model_path"))
    assert (node["namespace"], node["name"], node["respawn"]) == ("/head", "eyes", True)
    assert node["arguments"] == ["--ros-args", "--log-level", "debug"]


def test_stand_in_a_misspelt_argument_is_refused_where_this_file_was_started(launched, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["ros2", "launch", "emo_llama_ros", "emo.launch.py", "modelpath:=X"])
    with pytest.raises(BadParameter, match="did you mean 'model_path'"):
        launched(typed=["modelpath:=X"])
    monkeypatch.setattr(sys, "argv", ["ros2", "launch", "my_robot", "robot.launch.py", "modelpath:=X"])
    launched(typed=["modelpath:=X"])  # it belongs to the file that includes this one


def test_stand_in_the_dds_profile_is_set_unless_the_user_chose(launched, repository):
    def variables(actions):
        return [a.arguments for a in actions if type(a).__name__ == "SetEnvironmentVariable"]

    ((name, path),) = variables(launched()[0])
    assert name.endswith("_DEFAULT_PROFILES_FILE")
    assert path == str(repository / "config" / "fastdds.xml")
    assert variables(launched(fastdds_profile="none")[0]) == []
    assert variables(launched(fastdds_profile="/my.xml")[0]) == [(name, "/my.xml")]
    assert variables(launched({"FASTDDS_BUILTIN_TRANSPORTS": "UDPv4"})[0]) == []
