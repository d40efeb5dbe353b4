"""`emo_llama run --webcam` and `--watch`: node, camera and view start and end together."""

import contextlib
import os
import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest
from patience import PATIENCE_S

pytestmark = pytest.mark.usefixtures("ros")


@pytest.fixture
def video(tmp_path):
    """Ten grey frames; a video file stands for the webcam, which no test machine has."""
    path = tmp_path / "grey.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10.0, (64, 48))
    for _ in range(10):
        writer.write(np.full((48, 64, 3), 120, np.uint8))
    writer.release()
    return path


@pytest.fixture
def run(repository, corner, tmp_path):
    """Start `emo_llama run` with these arguments in the test's namespace."""
    made = []

    def start(*arguments):
        path = os.pathsep.join([str(repository), os.environ.get("PYTHONPATH", "")])
        command = [sys.executable, "-m", "emo_llama_ros.cli", "run", "backend:=expression"]
        process = subprocess.Popen(
            [*command, f"namespace:={corner.namespace}", *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": path, "ROS_LOG_DIR": str(tmp_path)}, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        made.append(process)
        return process

    yield start
    for process in made:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=PATIENCE_S)


@pytest.mark.parametrize("more", [(), ("image_topic:=front", "image_transport:=compressed")], ids=["raw", "compressed"])
def test_a_webcam_reaches_the_node_and_ctrl_c_ends_both(corner, run, video, fetched_networks, more):
    from lifecycle_msgs.srv import GetState

    values = corner.diagnostics()
    process = run("--webcam", video, *more)
    corner.until(lambda: int((values("camera") or (0, "", {}))[2].get("frames received", 0)) > 3, "frames")
    assert corner.call(GetState, "get_state", GetState.Request()).current_state.label == "active"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, errors
    topic = corner.name("front" if more else "camera/image_raw")
    assert f"{video}: 64×48 images on {topic}. Ctrl-C ends it.\n" in errors
    assert "Traceback" not in errors


def test_a_view_shows_the_node_that_runs_behind_it_and_ctrl_c_ends_all(corner, run, video, fetched_networks, tmp_path):
    process = run("--webcam", video, "--watch")
    corner.until(lambda: corner.helper.count_publishers(corner.name("emotion")), "the node")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    corner.until(lambda: not corner.helper.count_publishers(corner.name("emotion")), "the end of the node")
    assert "Loading the model" in (tmp_path / "emo_llama_run.log").read_text()


@pytest.mark.parametrize("more", [["-r", "a:b"], ["-r"], ["--log-level", "loud"], ["-p", "x"]], ids=" ".join)
def test_ros_arguments_that_cannot_be_read_are_one_sentence_with_a_webcam_too(run, video, more):
    process = run("--webcam", video, "--ros-args", *more)
    out, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    assert errors.startswith("emo_llama: Couldn't parse "), errors
    assert errors.count("\n") == 1
    assert out == ""


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--webcam", "97"], "There is no camera 97: "),
        (["--webcam", "0", "use_sim_time:=true"], "A webcam gives the present time: leave out use_sim_time."),
    ],
)
def test_a_webcam_that_cannot_be_opened_is_one_sentence_and_no_node(run, arguments, reason):
    process = run(*arguments)
    out, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    assert errors.startswith(f"emo_llama: {reason}"), errors
    assert errors.count("\n") == 1
    assert out == ""
