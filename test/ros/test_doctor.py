import pytest

from emo_llama_ros.install.doctor import Level
from emo_llama_ros.options import Options

pytestmark = pytest.mark.usefixtures("ros")


def findings(corner, **values):
    from emo_llama_ros.ros.doctor import ros_findings

    options = Options().with_values({"image_topic": corner.name("camera/image_raw"), **values})
    found = []

    def seen():
        found[:] = ros_findings(options, seconds=1.0)
        return any(corner.namespace in f"{f.subject} {f.found}" for f in found)

    corner.until(seen, "the camera to be discovered", 15.0)
    return found


def test_a_camera_that_fits_is_fine(corner):
    corner.camera()
    found = findings(corner)
    camera = next(f for f in found if corner.name("camera/image_raw") in f.subject)
    assert camera.level is Level.OK
    assert f"{corner.namespace}/helper offers reliable" in camera.found
    assert not [f for f in found if f.level is Level.FAIL]


def test_a_camera_whose_qos_does_not_fit_is_a_failure_with_the_cure(corner):
    corner.camera(reliable=False)
    found = findings(corner, input_reliability="reliable")
    camera = next(f for f in found if corner.name("camera/image_raw") in f.subject)
    assert camera.level is Level.FAIL
    assert camera.advice == "set input_reliability to best_effort"


def test_a_topic_nobody_publishes_is_named_beside_those_that_are(corner):
    corner.camera("front/image_raw")
    warning = next(f for f in findings(corner) if f.level is Level.WARN and f.subject == "cameras")
    assert corner.name("camera/image_raw") in warning.found
    assert "image_topic:=" in warning.advice


def test_the_installation_and_the_profile_are_told(corner):
    corner.camera()
    subjects = {f.subject: f for f in findings(corner)}
    assert subjects["middleware"].found.startswith("rmw_")
    assert "Fast DDS" in subjects["DDS"].found or "rmw" in subjects["DDS"].found
    assert subjects["package"].level is not Level.FAIL
