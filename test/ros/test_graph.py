import os
import subprocess
import sys

import pytest
from patience import PATIENCE_S

from emo_llama_ros.findings import Level
from emo_llama_ros.options import Options

pytestmark = pytest.mark.usefixtures("ros")


def findings(corner, **values):
    from emo_llama_ros.ros.graph import ros_findings

    options = Options().with_values({"image_topic": corner.name("camera/image_raw"), **values})
    found = []

    def seen():
        found[:] = ros_findings(options, seconds=1.0)
        return any(corner.namespace in f"{f.subject} {f.found}" for f in found)

    corner.until(seen, "the camera to be discovered")
    return found


def test_a_camera_that_fits_is_fine(corner):
    corner.camera()
    found = findings(corner)
    camera = next(f for f in found if corner.name("camera/image_raw") in f.subject)
    assert camera.level is Level.OK
    assert f"{corner.namespace}/helper offers reliable, this node follows that" in camera.found
    assert not [f for f in found if f.level is Level.FAIL]


def test_a_camera_whose_qos_does_not_fit_is_a_failure_with_the_cure(corner):
    corner.camera(reliable=False)
    found = findings(corner, input_reliability="reliable")
    camera = next(f for f in found if corner.name("camera/image_raw") in f.subject)
    assert camera.level is Level.FAIL
    assert camera.advice == "set input_reliability to auto or best_effort"


def test_a_topic_nobody_publishes_is_named_beside_those_that_are(corner):
    corner.camera("front/image_raw")
    warning = next(f for f in findings(corner) if f.level is Level.WARN and f.subject == "cameras")
    assert corner.name("camera/image_raw") in warning.found
    advised = corner.name("front/image_raw")
    assert warning.advice == f"there is {advised} (raw): set image_topic:={advised} image_transport:=raw"


@pytest.mark.parametrize("transport", ["raw", "compressed"])
def test_a_topic_of_the_other_image_type_is_a_failure_with_the_cure(corner, transport):
    """What the node would ask for is published, but as the other kind of image."""
    compressed = transport == "raw"
    name = "camera/image_raw/compressed"
    corner.camera(name, compressed=compressed)
    failure = next(
        f for f in findings(corner, image_topic=corner.name(name), image_transport=transport) if f.level is Level.FAIL
    )
    kind = "sensor_msgs/msg/CompressedImage" if compressed else "sensor_msgs/msg/Image"
    assert f"{corner.name(name)} carries {kind}, but image_transport is {transport}" in failure.found
    read = ("camera/image_raw", "compressed") if compressed else (name, "raw")
    assert failure.advice == f"set image_topic:={corner.name(read[0])} image_transport:={read[1]}"


def test_a_topic_with_the_suffix_fits_the_compressed_transport(corner):
    corner.camera("camera/image_raw/compressed", compressed=True)
    for topic in ("camera/image_raw/compressed", "camera/image_raw"):
        found = findings(corner, image_topic=corner.name(topic), image_transport="compressed")
        assert not [f for f in found if f.subject == "cameras"], topic


def test_what_is_no_topic_name_is_a_failure():
    from emo_llama_ros.ros.graph import ros_findings

    found = list(ros_findings(Options(image_topic="/cam-1/image"), seconds=0.0))
    assert "/cam-1/image" in next(f for f in found if f.level is Level.FAIL).found


@pytest.mark.parametrize(
    ("environment", "subject", "words"),
    [
        ({"ROS_DOMAIN_ID": "abc"}, "ROS 2", ["'abc'", "from 0 to 232"]),
        ({"ROS_DOMAIN_ID": "4711"}, "ROS 2", ["'4711'"]),
        ({"RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"}, "ROS 2", ["rmw_cyclonedds_cpp", "not installed"]),
        ({"HOME": "/dev/null/x", "ROS_HOME": "", "ROS_LOG_DIR": ""}, "log files", ["/dev/null/x/.ros/log"]),
    ],
)
def test_a_broken_environment_is_a_finding_and_the_command_goes_on(repository, environment, subject, words):
    path = os.pathsep.join([str(repository), os.environ.get("PYTHONPATH", "")])
    command = (
        "import sys; sys.argv = ['emo_llama', 'doctor', '--seconds', '0']; from emo_llama_ros.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", command], capture_output=True, text=True, timeout=PATIENCE_S, check=False,
        env={**os.environ, "PYTHONPATH": path, **environment},
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert "Traceback" not in done.stdout + done.stderr
    bad = [line for line in lines if line.startswith(("fail", "warn")) and f"  {subject}: " in line]
    assert bad, done.stdout
    for word in words:
        assert word in bad[0]
    assert any("shared memory: " in line for line in lines), "the other checks ran"
    if "RMW_IMPLEMENTATION" not in environment:
        assert any("  middleware: rmw_" in line for line in lines), "and those after it"


def test_the_installation_and_the_profile_are_told(corner):
    corner.camera()
    subjects = {f.subject: f for f in findings(corner)}
    assert subjects["middleware"].found.startswith("rmw_")
    assert "Fast DDS" in subjects["DDS"].found or "rmw" in subjects["DDS"].found
    assert subjects["package"].level is not Level.FAIL
