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
            "topic": "/camera/image_raw", "transport": "raw", "reliability": "best_effort", "publishers": 1,
            "received": 100, "lost": 0, "damaged": 0, "received_hz": 30.0, "published_hz": 30.0, "lost_percent": 0.0,
            "damaged_percent": 0.0, "silent_s": 0.02, "period_s": 0.03, "stamp_age_s": 0.01,
            "stamps_stand_still": False,
        }  # fmt: skip
        return CameraReport(**{**values, **changes})

    return make


NOW_AND_THEN = {"received_hz": 0.2, "period_s": 5.0, "silent_s": 4.9}


@pytest.mark.parametrize(
    ("changes", "level", "words"),
    [
        ({}, OK, ["30.0 frames/s", "/camera/image_raw"]),
        ({"silent_s": 2.4, "publishers": 3}, WARN, ["no frame for 2 s on /camera/image_raw, 3 publishers"]),
        ({"silent_s": 2.4, "publishers": 1}, WARN, ["1 publisher"]),
        ({"silent_s": 2.4, "publishers": 0}, WARN, ["0 publishers", "start the camera driver"]),
        (NOW_AND_THEN, OK, ["0.2 frames/s"]),
        ({**NOW_AND_THEN, "silent_s": 13.0}, WARN, ["no frame for 13 s"]),
        ({"lost_percent": 92.0, "received_hz": 2.0}, WARN, ["92 % of frames lost", "fastdds.xml", "reliable"]),
        (
            {"received_hz": 0.0, "silent_s": 2.4, "incompatible": ("/driver offers best_effort, this node asks for",)},
            ERROR,
            ["incompatible QoS", "/driver offers best_effort", "set input_reliability to auto"],
        ),
        ({"stamps_stand_still": True}, WARN, ["stand still"]),
        ({"stamp_age_s": 3600.0}, WARN, ["3600 s older", "set use_sim_time"]),
        ({"stamp_age_s": -60.0}, WARN, ["60 s newer"]),
        ({"stamp_age_s": 3600.0, "follows_sim_time": True}, WARN, ["3600 s older", "play both together"]),
        ({"stamp_age_s": 3600.0, "follows_sim_time": True, "sim_time_stands": True}, WARN, ["--clock", "to false"]),
        ({"damaged": 2, "damaged_percent": 0.002}, OK, ["frames/s"]),
        ({"damaged": 60, "damaged_percent": 20.0, "publisher_names": ("/driver",)}, WARN, ["20 %", "/driver"]),
        ({"damaged": 60, "damaged_percent": 100.0}, ERROR, ["100 %"]),
        (
            {"clock_jumps_percent": 50.0, "publishers": 2, "publisher_names": ("/left", "/right")},
            WARN,
            ["go back again and again", "/left, /right", "synchronize"],
        ),
    ],
)
def test_the_camera_status_says_what_is_wrong_and_what_to_do(report, changes, level, words):
    from emo_llama_ros.ros.diagnostics import judge_camera

    verdict = judge_camera(report(**changes), Options(), {}).verdict
    assert verdict.level == level
    for word in words:
        assert word in verdict.message


def test_who_follows_the_simulated_clock_is_not_told_to_set_use_sim_time(report):
    from emo_llama_ros.ros.diagnostics import judge_camera

    for stands in (True, False):
        odd = report(stamp_age_s=3600.0, follows_sim_time=True, sim_time_stands=stands)
        assert "set use_sim_time," not in judge_camera(odd, Options(), {}).verdict.message


def test_a_topic_of_another_image_type_names_the_transport_that_reads_it(report):
    from emo_llama_ros.ros.diagnostics import judge_camera

    compressed = ("sensor_msgs/msg/CompressedImage",)
    odd = report(topic="/cam/image_raw/compressed", publishers=0, other_types=compressed, received_hz=0.0)
    verdict = judge_camera(odd, Options(), {}).verdict
    assert verdict.level == WARN
    assert "carries sensor_msgs/msg/CompressedImage" in verdict.message
    assert verdict.message.endswith("set image_topic:=/cam/image_raw image_transport:=compressed")

    odd = report(topic="/cam/image_raw", transport="compressed", publishers=0, other_types=("sensor_msgs/msg/Image",))
    assert "set image_topic:=/cam/image_raw image_transport:=raw" in judge_camera(odd, Options(), {}).verdict.message
    odd = report(topic="/scan", publishers=0, other_types=("sensor_msgs/msg/LaserScan",))
    assert "/front/image" in judge_camera(odd, Options(), {"/front/image": "raw"}).verdict.message


def test_advice_for_a_silent_topic_names_the_nearest_camera_and_how_to_read_it(report):
    from emo_llama_ros.ros.diagnostics import judge_camera

    graph = {"/cam/depth/image_raw": "raw", "/cam/color/image_raw/compressed": "compressed", "/a/mask": "raw"}
    silent = report(topic="/cam/color/image", publishers=0, silent_s=3.0)
    message = judge_camera(silent, Options(), graph).verdict.message
    assert message.endswith("set image_topic:=/cam/color/image_raw image_transport:=compressed")


def test_little_shared_memory_is_named_as_the_cause_of_losses(report, monkeypatch):
    from emo_llama_ros.ros.diagnostics import judge_camera

    usage = type("Usage", (), {"free": 60_000_000})
    monkeypatch.setattr("emo_llama_ros.ros.diagnostics.shutil.disk_usage", lambda path: usage)
    message = judge_camera(report(lost_percent=99.0), Options(), {}).verdict.message
    assert "/dev/shm has only 60 MB free" in message
    assert "--shm-size" in message


def test_the_input_rate_is_shown(report):
    from emo_llama_ros.ros.diagnostics import judge_camera

    values = judge_camera(report(received_hz=15.0, published_hz=30.0, lost=7), Options(), {}).values
    assert values["received Hz"] == "15.0"
    assert values["published Hz"] == "30.0"
    assert values["frames lost on the way"] == 7


def test_drops_clips_and_latencies_are_listed():
    from emo_llama_ros.ros.diagnostics import NodeReport, judge_estimates, status_message
    from emo_llama_ros.ros.verdicts import Recent

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
    status = status_message("n: estimates", judge_estimates(stats, Recent(), node, Options()))
    values = {pair.key: pair.value for pair in status.values}
    assert values["frames dropped: busy"] == "2"
    assert values["frames dropped: disabled"] == "1"
    assert values["clips stale"] == "1"
    assert values["label ms p95"] == "2.50"
    assert values["age at publish ms p95"] == "35.0"
    assert values["clock jumps"] == "1"
    assert status.level == OK


@pytest.fixture
def judged():
    """Judge what two snapshots of an engine say, taken 10 s apart: (first, second) → verdict."""
    from emo_llama_ros.ros.diagnostics import NodeReport, judge_estimates
    from emo_llama_ros.ros.verdicts import EngineWindow

    def judge(first, second, options=Options()):  # noqa: B008
        window = EngineWindow(10.0)
        window.add(EngineStats(state=EngineState.READY, **first), 100.0)
        window.add(EngineStats(state=EngineState.READY, **first), 105.0)
        stats = EngineStats(state=EngineState.READY, **second)
        return judge_estimates(stats, window.add(stats, 115.0), NodeReport("active", 0), options).verdict

    return judge


@pytest.mark.parametrize(
    ("drops", "level", "words"),
    [
        ({"bad_image": 100}, ERROR, ["100%", "cannot be decoded", "cut off"]),
        ({"bad_image": 10}, WARN, ["10%", "cut off"]),
        ({"bad_image": 1}, OK, []),
        ({"faces_failed": 100}, ERROR, ["could not be searched for faces", "cut off"]),
        ({"worker_lost": 10}, WARN, ["model process that ended"]),
        ({"busy": 40}, OK, []),
        ({"busy": 80}, WARN, ["analysis_rate_hz"]),
        ({"some_new_reason": 30}, WARN, ["some_new_reason"]),
        ({"disabled": 100}, OK, []),
        ({"not_ready": 100}, OK, []),
    ],
)
def test_levels_follow_the_share_of_frames_that_were_dropped_lately(judged, drops, level, words):
    second = {"received": 100, "used": 100 - sum(drops.values()), "drops": drops, "last_bad_image": "It is cut off."}
    verdict = judged({}, second)
    assert verdict.level == level
    for word in words:
        assert word in verdict.message


@pytest.mark.parametrize(("state", "level"), [(EngineState.LOADING, OK), (EngineState.READY, WARN)])
def test_frames_that_are_missed_while_the_model_loads_are_no_warning(state, level):
    from emo_llama_ros.ros.diagnostics import NodeReport, judge_estimates
    from emo_llama_ros.ros.verdicts import EngineWindow

    window = EngineWindow(10.0)
    window.add(EngineStats(state=state), 100.0)
    stats = EngineStats(state=state, received=100, drops={"busy": 100})
    assert judge_estimates(stats, window.add(stats, 105.0), NodeReport("active", 0), Options()).verdict.level == level


def test_what_has_passed_is_forgotten(judged):
    once = {"received": 300, "used": 200, "drops": {"bad_image": 100}, "last_bad_image": "It is cut off."}
    assert judged(once, {**once, "received": 400, "used": 300}).level == OK


@pytest.mark.parametrize(
    ("clips", "level", "words"),
    [
        ({"due": 20, "labelled": 20}, OK, []),
        ({"due": 20, "late": 8, "stale": 8, "labelled": 4}, WARN, ["max_age_s"]),
        ({"due": 20, "failed": 19}, ERROR, ["could not be read by the model"]),
        ({"due": 20, "flushed": 19}, WARN, ["jumped"]),
        ({}, WARN, ["2 people are in view", "max_gap_s"]),
    ],
)
def test_clips_without_a_label_say_why(judged, clips, level, words):
    verdict = judged({}, {"received": 100, "used": 100, "clips": clips, "people": 2})
    assert verdict.level == level
    for word in words:
        assert word in verdict.message
    silent = judged({}, {"received": 100, "used": 100, "people": 2}, Options(on_demand=True))
    assert silent.level == OK, "silence was asked for"


def test_what_the_engine_remarks_about_the_stream_is_a_warning(judged):
    verdict = judged({}, {"received": 100, "used": 100, "remarks": ("The camera is slow: raise max_gap_s.",)})
    assert (verdict.level, verdict.message) == (WARN, "The camera is slow: raise max_gap_s.")


def test_a_window_begins_anew_with_another_engine():
    from emo_llama_ros.ros.verdicts import EngineWindow

    window = EngineWindow(10.0)
    window.add(EngineStats(received=1000, used=900, drops={"bad_image": 100}), 0.0)
    recent = window.add(EngineStats(received=10, used=10), 1.0)
    assert (recent.received, recent.used, dict(recent.drops)) == (10, 10, {})


@pytest.mark.parametrize(
    ("state", "level"),
    [
        (EngineState.LOADING, OK),
        (EngineState.READY, OK),
        (EngineState.UNRESPONSIVE, WARN),
        (EngineState.RESTARTING, ERROR),
        (EngineState.FAILED, ERROR),
    ],
)
def test_the_model_status_follows_the_engine(state, level):
    from emo_llama_ros.ros.diagnostics import NodeReport, judge_model, status_message
    from emo_llama_ros.ros.verdicts import Recent

    stats = EngineStats(state=state, worker_memory_mb=321.4, restarts=2, converter="builtin. It was asked for.")
    node = NodeReport("active", 0, memory_mb=80.0)
    status = status_message("n: model", judge_model(stats, Recent(), node, Options()))
    values = {pair.key: pair.value for pair in status.values}
    assert status.level == level
    assert values["model state"] == state.value
    assert values["worker memory MB"] == "321"
    assert values["worker restarts"] == "2"
    assert values["node memory MB"] == "80"
    assert values["image converter"] == "builtin. It was asked for."


@pytest.mark.parametrize("state", [EngineState.LOADING, EngineState.READY])
def test_the_reason_of_a_restart_is_not_forgotten_when_the_model_loads_again(state):
    from emo_llama_ros.ros.diagnostics import NodeReport, judge_model
    from emo_llama_ros.ros.verdicts import Recent

    node = NodeReport("active", 0)
    stats = EngineStats(state=state, restarts=1, last_restart="The model process ended (signal 9) and was restarted.")
    verdict = judge_model(stats, Recent(restarts=1), node, Options()).verdict
    assert verdict.level == WARN
    assert "signal 9" in verdict.message
    assert judge_model(stats, Recent(), node, Options()).verdict.level == OK


def test_requests_that_could_not_be_handled_are_a_warning():
    from emo_llama_ros.ros.diagnostics import NodeReport, judge_node

    odd = NodeReport("active", 0, callback_errors=3, last_callback_error="A message on /clock was ignored: ValueError.")
    assert (judge_node(odd).verdict.level, judge_node(odd).verdict.message) == (WARN, odd.last_callback_error)
    assert judge_node(NodeReport("active", 0)).verdict.level == OK


def test_a_disabled_node_says_that_nobody_is_observed():
    from emo_llama_ros.ros.diagnostics import judge_privacy

    assert "dropped undecoded" in judge_privacy(Options(enabled=False)).verdict.message
    assert "observing" in judge_privacy(Options()).verdict.message


class Console:
    def __init__(self):
        self.lines = []

    def info(self, text):
        self.lines.append(("info", text))

    def warning(self, text):
        self.lines.append(("warning", text))

    def error(self, text):
        self.lines.append(("error", text))


def test_each_change_of_a_diagnostic_is_logged_once_with_its_remedy():
    from emo_llama_ros.ros.verdicts import Announcer, Verdict

    console = Console()
    announcer = Announcer(console)
    for verdict in (
        Verdict(OK, "30 frames/s"),
        Verdict(WARN, "no frame for 2 s: start the driver", "silent"),
        Verdict(WARN, "no frame for 3 s: start the driver", "silent"),
        Verdict(WARN, "50 % lost: use the profile", "lost"),
        Verdict(ERROR, "all is lost: use the profile", "lost"),
        Verdict(OK, "30 frames/s"),
        Verdict(OK, "31 frames/s"),
    ):
        announcer.tell("camera", verdict)
    announcer.tell("model", Verdict(OK, "ready"))
    assert console.lines == [
        ("warning", "camera: no frame for 2 s: start the driver"),
        ("warning", "camera: 50 % lost: use the profile"),
        ("error", "camera: all is lost: use the profile"),
        ("info", "camera: fine again: 30 frames/s"),
    ]
