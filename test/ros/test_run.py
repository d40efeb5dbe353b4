"""`emo_llama run` gives the node the same parameters as the launch file."""

import os
import signal
import subprocess
import sys

import pytest

from emo_llama_ros.errors import BadParameter

pytestmark = pytest.mark.usefixtures("ros")


def test_launch_arguments_become_ros_arguments(repository):
    from emo_llama_ros.ros.process import ros_arguments

    shipped = str(repository / "config" / "emo.yaml")
    assert ros_arguments([]) == ["--ros-args", "--params-file", shipped]
    assert ros_arguments(
        ["image_topic:=/front", "namespace:=head", "name:=eyes", "--ros-args", "-p", "clip_s:=3.0"], "mine.yaml"
    ) == [
        *("--ros-args", "--params-file", "mine.yaml"),
        *("-p", "image_topic:=/front", "-r", "__ns:=head", "-r", "__node:=eyes"),
        *("-p", "clip_s:=3.0"),
    ]
    for wrong in ("image_topic=/front", "--imagetopic", ":=x"):
        with pytest.raises(BadParameter, match="name:=value"):
            ros_arguments([wrong])


def test_emo_llama_run_starts_an_active_node_and_ends_on_ctrl_c(corner, repository, fetched_networks, tmp_path):
    from lifecycle_msgs.srv import GetState

    file = tmp_path / "mine.yaml"
    file.write_text("/**:\n  ros__parameters:\n    min_confidence: 0.7\n")
    command = [sys.executable, "-c", "from emo_llama_ros.cli import main; main()", "run", "--params-file", str(file)]
    process = subprocess.Popen(
        [*command, "image_topic:=front/image_raw", f"namespace:={corner.namespace}"],
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(repository), os.environ.get("PYTHONPATH", "")])},
    )
    try:
        corner.until(lambda: corner.helper.count_subscribers(corner.name("front/image_raw")), "the subscription", 20.0)
        assert corner.call(GetState, "get_state", GetState.Request())[0].current_state.label == "active"
        assert corner.parameter("min_confidence") == 0.7
    finally:
        os.killpg(process.pid, signal.SIGINT)
        code = process.wait(10)
    assert code == 0
