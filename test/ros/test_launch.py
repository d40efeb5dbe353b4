"""Two ways to look at emo.launch.py: with the real launch where it is installed, and with a stand-in everywhere."""

import importlib.util
import os
import signal
import subprocess
import sys
import types
from pathlib import Path

import pytest

from emo_llama_ros.options import specs

pytestmark = pytest.mark.usefixtures("ros")

ARGUMENTS = {
    "image_topic", "image_transport", "backend", "params_file", "namespace", "name", "use_sim_time", "respawn",
    "autostart", "log_level", "fastdds_profile",
}  # fmt: skip


def stop(process):
    """End a process group as Ctrl-C in a terminal does; return the exit code of its leader."""
    os.killpg(process.pid, signal.SIGINT)
    return process.wait(10)


def lifecycle_label(corner, node_name):
    from lifecycle_msgs.srv import GetState

    client = corner.helper.create_client(GetState, f"{node_name}/get_state")
    try:
        assert client.wait_for_service(timeout_sec=30.0)
        future = client.call_async(GetState.Request())
        corner.until(future.done, "the lifecycle state")
        return future.result().current_state.label
    finally:
        corner.helper.destroy_client(client)


def test_ros2_launch_starts_an_active_node(corner, fetched_networks):
    pytest.importorskip("launch_ros", reason="needs launch_ros (not in any package registry)")
    pytest.importorskip("ros2launch", reason="needs ros2launch (not in any package registry)")
    arguments = [f"namespace:={corner.namespace}", "name:=eyes", "image_topic:=front/image_raw"]
    command = [sys.executable, "-c", "from ros2cli.cli import main; main()", "launch", "emo_llama_ros", "emo.launch.py"]
    process = subprocess.Popen([*command, *arguments], start_new_session=True)
    try:
        corner.until(lambda: lifecycle_label(corner, corner.name("eyes")) == "active", "the node", 30.0)
        corner.until(lambda: corner.helper.count_subscribers(corner.name("front/image_raw")), "the subscription")
    finally:
        code = stop(process)
    assert code == 0


# --- the stand-in: records what the launch file asks for, without launch ---


class Recorder:
    def __init__(self, *arguments, **keywords):
        self.arguments, self.keywords = arguments, keywords


class Configuration(Recorder):
    def perform(self, context):
        return context.values[self.arguments[0]]


class Share(Recorder):
    pass


class JoinedPath(Recorder):
    def perform(self, repository):
        return str(repository.joinpath(*self.arguments[0][1:]))


@pytest.fixture
def launch_file(repository, monkeypatch):
    """The launch file, imported against the stand-in."""
    names = {
        "launch": {"LaunchContext": Recorder, "LaunchDescription": Recorder},
        "launch.actions": dict.fromkeys(
            ("DeclareLaunchArgument", "LogInfo", "OpaqueFunction", "SetEnvironmentVariable"), None
        ),
        "launch.substitutions": {"LaunchConfiguration": Configuration, "PathJoinSubstitution": JoinedPath},
        "launch_ros": {},
        "launch_ros.actions": {"LifecycleNode": None},
        "launch_ros.substitutions": {"FindPackageShare": Share},
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
def launched(launch_file, repository):
    """Return what the launch file starts with these launch arguments: (actions, the node's keywords)."""

    def start(environment=None, **arguments):
        (actions,) = launch_file.generate_launch_description().arguments
        declared = {a.arguments[0]: a.keywords["default_value"] for a in actions if "default_value" in a.keywords}
        values = {k: v if isinstance(v, str) else v.perform(repository) for k, v in declared.items()}
        context = types.SimpleNamespace(values={**values, **arguments}, environment=environment or {})
        made = actions[-1].keywords["function"](context)
        return made, made[-1].keywords

    return start


def test_launch_file_structure_standin_every_argument_is_declared_and_described(launch_file):
    (actions,) = launch_file.generate_launch_description().arguments
    declared = {a.arguments[0]: a.keywords for a in actions[:-1]}
    assert set(declared) == ARGUMENTS
    assert all(keywords["description"] for keywords in declared.values())


def test_launch_file_structure_standin_what_it_starts_exists(launched, repository):
    _, node = launched()
    assert node["package"] == "emo_llama_ros"
    assert (repository / "scripts" / node["executable"]).is_file()
    assert "<build_type>ament_cmake</build_type>" in (repository / "package.xml").read_text()
    assert Path(node["parameters"][0]).is_file()
    assert node["parameters"][1] == {"use_sim_time": False}
    assert node["name"] == "emo_llama_node"
    assert node["arguments"][0] == "--autostart"


def test_launch_file_structure_standin_arguments_reach_the_node(launched):
    _, node = launched(
        image_topic="front", image_transport="compressed", backend="emo_llama", namespace="head", name="eyes",
        use_sim_time="True", respawn="true", autostart="false", log_level="debug",
    )  # fmt: skip
    overrides = node["parameters"][1]
    assert overrides == {
        "image_topic": "front", "image_transport": "compressed", "backend": "emo_llama", "use_sim_time": True,
    }  # fmt: skip
    assert set(overrides) - {"use_sim_time"} <= set(specs())
    assert (node["namespace"], node["name"], node["respawn"]) == ("head", "eyes", True)
    assert node["arguments"] == ["--ros-args", "--log-level", "debug"]


def test_launch_file_structure_standin_the_dds_profile_is_set_unless_the_user_chose(launched, repository):
    def variables(actions):
        return [a.arguments for a in actions if type(a).__name__ == "SetEnvironmentVariable"]

    ((name, path),) = variables(launched()[0])
    assert name.endswith("_DEFAULT_PROFILES_FILE")
    assert Path(path) == repository / "config" / "fastdds.xml"
    assert variables(launched(fastdds_profile="none")[0]) == []
    assert variables(launched(fastdds_profile="/my.xml")[0]) == [(name, "/my.xml")]
    assert variables(launched({"FASTDDS_BUILTIN_TRANSPORTS": "UDPv4"})[0]) == []


def test_launch_file_structure_standin_the_recorded_command_line_runs(launched, corner, repository, fetched_networks):
    _, node = launched(namespace=corner.namespace, name="eyes", image_topic="front/image_raw")
    overrides = [part for key, value in node["parameters"][1].items() for part in ("-p", f"{key}:={value}")]
    command = [sys.executable, str(repository / "scripts" / node["executable"]), *node["arguments"]]
    names = ["-r", f"__ns:={node['namespace']}", "-r", f"__node:={node['name']}"]
    process = subprocess.Popen(
        [*command, *names, "--params-file", node["parameters"][0], *overrides],
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(repository), os.environ.get("PYTHONPATH", "")])},
    )
    try:
        assert corner.until(lambda: lifecycle_label(corner, corner.name("eyes")) == "active", "the node", 20.0)
        corner.until(lambda: corner.helper.count_subscribers(corner.name("front/image_raw")), "the subscription")
    finally:
        code = stop(process)
    assert code == 0
