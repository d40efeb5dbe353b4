import pytest

from emo_llama_ros.engine.api import EngineState, EngineStats
from emo_llama_ros.options import Options

pytestmark = pytest.mark.usefixtures("ros")

OK, WARN, ERROR = b"\x00", b"\x01", b"\x02"


@pytest.fixture
def report():
    from emo_llama_ros.ros.camera import CameraReport

    def make(**changes):
        values = {
            "topic": "/camera/image_raw", "transport": "raw", "publishers": 1, "received": 100, "lost": 0,
            "damaged": 0, "received_hz": 30.0, "published_hz": 30.0, "lost_percent": 0.0, "silent_s": 0.02,
            "stamp_age_s": 0.01, "stamps_stand_still": False, "incompatible": (),
        }  # fmt: skip
        return CameraReport(**{**values, **changes})

    return make


@pytest.mark.parametrize(
    ("changes", "level", "words"),
    [
        ({}, OK, ["30.0 frames/s", "/camera/image_raw"]),
        ({"silent_s": 2.4, "publishers": 3}, WARN, ["no frame for 2 s on /camera/image_raw, 3 publishers"]),
        ({"silent_s": 2.4, "publishers": 1}, WARN, ["1 publisher"]),
        ({"lost_percent": 92.0, "received_hz": 2.0}, WARN, ["92 % of frames lost", "fastdds.xml", "reliable"]),
        (
            {"received_hz": 0.0, "incompatible": ("/driver offers best_effort, this node asks for reliable",)},
            ERROR,
            ["incompatible QoS", "/driver offers best_effort", "asks for reliable"],
        ),
        ({"stamps_stand_still": True}, WARN, ["stand still"]),
        ({"stamp_age_s": 3600.0}, WARN, ["3600 s older", "use_sim_time"]),
        ({"stamp_age_s": -60.0}, WARN, ["60 s newer"]),
        ({"damaged": 2}, WARN, ["2 frames"]),
    ],
)
def test_the_camera_status_says_what_is_wrong_and_what_to_do(report, changes, level, words):
    from emo_llama_ros.ros.diagnostics import camera_status

    status = camera_status("n: camera", report(**changes), Options())
    assert status.level == level
    for word in words:
        assert word in status.message


def test_the_input_rate_is_shown(report):
    from emo_llama_ros.ros.diagnostics import camera_status

    status = camera_status("n: camera", report(received_hz=15.0, published_hz=30.0, lost=7), Options())
    values = {pair.key: pair.value for pair in status.values}
    assert values["received Hz"] == "15.0"
    assert values["published Hz"] == "30.0"
    assert values["frames lost on the way"] == "7"


def test_drops_clips_and_latencies_are_listed():
    from emo_llama_ros.ros.diagnostics import NodeReport, estimates_status

    stats = EngineStats(
        state=EngineState.READY,
        received=10,
        used=4,
        skipped=3,
        drops={"busy": 2, "disabled": 1},
        clips={"labelled": 5, "stale": 1},
        people=2,
        latency_ms={"label": (1.0, 2.5)},
    )
    node = NodeReport("active", published=9, age_ms=(20.0, 35.0), publish_ms=(0.1, 0.4), clock_jumps=1)
    status = estimates_status("n: estimates", stats, node)
    values = {pair.key: pair.value for pair in status.values}
    assert values["frames dropped: busy"] == "2"
    assert values["frames dropped: disabled"] == "1"
    assert values["clips stale"] == "1"
    assert values["label ms p95"] == "2.50"
    assert values["age at publish ms p95"] == "35.0"
    assert values["clock jumps"] == "1"
    assert status.level == OK


def test_bad_images_warn_with_the_reason():
    from emo_llama_ros.ros.diagnostics import NodeReport, estimates_status

    stats = EngineStats(drops={"bad_image": 3}, last_bad_image="The JPEG image is cut off.")
    status = estimates_status("n", stats, NodeReport("active", 0))
    assert (status.level, status.message) == (WARN, "The JPEG image is cut off.")


@pytest.mark.parametrize(
    ("state", "level"),
    [
        (EngineState.LOADING, OK),
        (EngineState.READY, OK),
        (EngineState.RESTARTING, ERROR),
        (EngineState.FAILED, ERROR),
    ],
)
def test_the_model_status_follows_the_engine(state, level):
    from emo_llama_ros.ros.diagnostics import NodeReport, model_status

    stats = EngineStats(state=state, worker_memory_mb=321.4, restarts=2, converter="builtin. It was asked for.")
    status = model_status("n: model", stats, NodeReport("active", 0, memory_mb=80.0), Options())
    values = {pair.key: pair.value for pair in status.values}
    assert status.level == level
    assert values["model state"] == state.value
    assert values["worker memory MB"] == "321"
    assert values["worker restarts"] == "2"
    assert values["node memory MB"] == "80"
    assert values["image converter"] == "builtin. It was asked for."


def test_a_disabled_node_says_that_nobody_is_observed():
    from emo_llama_ros.ros.diagnostics import privacy_status

    assert "dropped undecoded" in privacy_status("n", Options(enabled=False)).message
    assert "observing" in privacy_status("n", Options()).message
