import importlib.util
import itertools
import threading
import time

import pytest
from patience import PATIENCE_S

from emo_llama_ros.engine.api import EngineState
from emo_llama_ros.errors import MissingDependency
from emo_llama_ros.estimate import Stage
from emo_llama_ros.options import specs


def emotions(corner):
    from emo_llama_ros.msg import EmotionEstimate

    return corner.hear(EmotionEstimate, "emotion")


def see_one(corner, camera, engine, **image):
    """Publish images until the engine has got one more."""
    before = len(engine.frames)

    def arrived():
        camera.publish(corner.image(**image))
        return len(engine.frames) > before

    corner.until(arrived, "a frame")
    return engine.frames[-1]


def test_a_frame_goes_in_and_an_estimate_comes_out_with_the_stamp_of_the_image(corner, scripted, estimate):
    from emo_llama_ros.ros.conversion import nanoseconds

    heard = emotions(corner)
    node = corner.emo_llama_node(scripted)
    camera = corner.camera()
    assert corner.change_state("configure")
    assert corner.change_state("activate")
    (engine,) = scripted.made
    frame = see_one(corner, camera, engine, value=7, encoding="bgr8")
    assert (frame.encoding, frame.width, frame.height, frame.step) == ("bgr8", 64, 48, 192)
    assert set(frame.data.tolist()) == {7}
    assert 0 <= time.monotonic_ns() - frame.received_ns < 5e9

    corner.until(lambda: node.count_subscribers(corner.name("emotion")), "the subscription to emotion")
    engine.on_estimate(estimate(stamp_ns=frame.stamp_ns, frame_id=frame.frame_id))
    corner.until(lambda: heard, "an estimate")
    assert nanoseconds(heard[0].header.stamp) == frame.stamp_ns
    assert heard[0].header.frame_id == "camera_optical_frame"
    assert 0 < nanoseconds(heard[0].age_at_publish) < 5e9


def test_compressed_images_are_read_from_the_compressed_topic(corner, scripted):
    import array

    from sensor_msgs.msg import CompressedImage

    corner.emo_llama_node(scripted, image_transport="compressed", image_topic="front/image_raw")
    camera = corner.camera("front/image_raw/compressed", compressed=True)
    assert corner.change_state("configure")
    assert corner.change_state("activate")
    (engine,) = scripted.made

    def arrived():
        camera.publish(CompressedImage(format="jpeg", data=array.array("B", b"\xff\xd8 pixels")))
        return engine.frames

    corner.until(arrived, "a compressed frame")
    assert engine.frames[0].compressed
    assert engine.frames[0].encoding == "jpeg"
    assert bytes(engine.frames[0].data) == b"\xff\xd8 pixels"


@pytest.mark.parametrize("reliable", [True, False])
def test_both_kinds_of_camera_are_heard_by_default(corner, scripted, reliable):
    corner.emo_llama_node(scripted)
    camera = corner.camera(reliable=reliable)
    corner.change_state("configure")
    corner.change_state("activate")
    see_one(corner, camera, scripted.made[0])


def test_the_camera_may_change_size_and_encoding_and_stop_and_come_back(corner, scripted):
    diagnostics = corner.diagnostics()
    corner.emo_llama_node(scripted, camera_timeout_s=0.3)
    camera = corner.camera()
    corner.change_state("configure")
    corner.change_state("activate")
    (engine,) = scripted.made
    assert see_one(corner, camera, engine).width == 64
    frame = see_one(corner, camera, engine, width=32, height=16, encoding="mono8")
    assert (frame.width, frame.height, frame.encoding, frame.data.size) == (32, 16, "mono8", 512)

    corner.helper.destroy_publisher(camera)
    level, message, _ = corner.until(
        lambda: (seen := diagnostics("camera")) and "no frame" in seen[1] and "0 publishers" in seen[1] and seen,
        "the warning",
    )
    assert level == b"\x01"
    assert corner.name("camera/image_raw") in message

    camera = corner.camera()
    see_one(corner, camera, engine)
    corner.until(lambda: camera.publish(corner.image()) or diagnostics("camera")[0] == b"\x00", "recovery")


def test_several_cameras_live_beside_each_other_in_namespaces(ros, until, corner, scripted, estimate):
    """A second corner is a second robot head: same relative names, another namespace."""
    other = type(corner)(ros, until)
    try:
        heard = []
        for place in (corner, other):
            place.emo_llama_node(scripted)
            heard.append(emotions(place))
            assert place.change_state("configure")
            assert place.change_state("activate")
        left, right = scripted.made
        see_one(corner, corner.camera(), left, value=1)
        see_one(other, other.camera(), right, value=2)
        assert [{frame.data[0] for frame in engine.frames} for engine in (left, right)] == [{1}, {2}]

        def both_spoke():
            left.on_estimate(estimate(face_id="left"))
            right.on_estimate(estimate(face_id="right"))
            return all(heard)

        corner.until(both_spoke, "both estimates")
        assert [{message.face_id for message in messages} for messages in heard] == [{"left"}, {"right"}]
    finally:
        other.close()


def test_every_lifecycle_service_answers_at_once_however_slow_the_model_is(corner, scripted):
    may_start, may_stop = threading.Event(), threading.Event()
    scripted.settings = {"may_start": may_start, "may_stop": may_stop}
    corner.emo_llama_node(scripted)
    try:
        for transition in ("configure", "activate", "deactivate", "activate", "deactivate", "cleanup"):
            assert corner.change_state(transition), transition
        assert not any(engine.stopped.is_set() for engine in scripted.made), "all answered before any engine was done"
    finally:
        may_start.set()
        may_stop.set()


def test_ten_rounds_through_all_states_and_the_diagnostics_live_on(corner, scripted, estimate):
    heard = emotions(corner)
    diagnostics = corner.diagnostics()
    node = corner.emo_llama_node(scripted)
    camera = corner.camera()
    before = len(list(node.publishers)), len(list(node.timers)), len(list(node.subscriptions))
    for round_number in range(10):
        for transition in ("configure", "activate"):
            assert corner.change_state(transition), (round_number, transition)
        engine = scripted.made[-1]
        see_one(corner, camera, engine)
        corner.until(lambda: node.count_subscribers(corner.name("emotion")), "the subscription")
        said = f"{round_number}"

        def heard_it(engine=engine, said=said):
            engine.on_estimate(estimate(estimate_id=said))
            return any(message.estimate_id == said for message in heard)

        corner.until(heard_it, "an estimate in every round")
        for transition in ("deactivate", "cleanup"):
            assert corner.change_state(transition), (round_number, transition)
        assert engine.stopped.wait(PATIENCE_S), "deactivate frees the model"
    assert (len(list(node.publishers)), len(list(node.timers)), len(list(node.subscriptions))) == before
    corner.until(lambda: (s := diagnostics("model")) and s[2]["lifecycle"] == "unconfigured", "diagnostics")


def test_nothing_is_published_after_deactivate_even_while_estimates_pour_in(corner, scripted, estimate):
    heard = emotions(corner)
    node = corner.emo_llama_node(scripted)
    corner.change_state("configure")
    corner.change_state("activate")
    (engine,) = scripted.made
    corner.until(lambda: node.count_subscribers(corner.name("emotion")), "the subscription")
    over, poured = threading.Event(), itertools.count()

    def pour():
        while not over.is_set():
            engine.on_estimate(estimate(estimate_id="poured"))
            next(poured)
            time.sleep(0.0005)

    threads = [threading.Thread(target=pour) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        corner.until(lambda: len(heard) > 20, "estimates")
        published = node._published
        assert corner.change_state("deactivate")
        at_deactivate = node._published
        assert at_deactivate >= published
        # A new engine is at work, the old one still pours: its estimates belong to nobody.
        assert corner.change_state("activate")
        later = next(poured) + 200
        corner.until(lambda: next(poured) > later, "estimates of the old engine")
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert node._published == at_deactivate
    assert len(heard) <= at_deactivate
    scripted.made[-1].on_estimate(estimate(estimate_id="new"))
    corner.until(lambda: heard[-1].estimate_id == "new", "the new engine's estimate")
    assert len(heard) == at_deactivate + 1


def test_one_publisher_serves_as_long_as_the_node_is_configured(corner, scripted, estimate, monkeypatch):
    made = []
    node = corner.emo_llama_node(scripted)
    create = node.create_publisher
    monkeypatch.setattr(node, "create_publisher", lambda *a, **k: made.append(a[1]) or create(*a, **k))
    corner.change_state("configure")
    corner.change_state("activate")
    for number in range(100):
        scripted.made[0].on_estimate(estimate(face_id=f"person {number}"))
    assert sorted(made) == ["emotion", "~/model_info", "~/overlay", "~/overlay/compressed"]


def test_the_model_is_announced_once_it_is_ready_also_to_late_listeners(corner, scripted):
    from emo_llama_ros.msg import ModelInfo
    from rclpy.qos import DurabilityPolicy, QoSProfile

    may_start = threading.Event()
    scripted.settings = {"may_start": may_start}
    node = corner.emo_llama_node(scripted)
    corner.change_state("configure")
    early = corner.hear(ModelInfo, "emo_llama_node/model_info")
    corner.until(lambda: node.count_subscribers(corner.name("emo_llama_node/model_info")), "the listener")
    assert not early
    may_start.set()
    corner.until(lambda: early, "the announcement")
    late = corner.hear(
        ModelInfo, "emo_llama_node/model_info", QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    )
    corner.until(lambda: late, "the latched announcement")
    assert late[0].model == "scripted"
    assert late[0].stamp.sec > 0
    assert len(early) == 1


@pytest.mark.parametrize("states", [[], ["configure"], ["configure", "activate"]], ids=lambda s: "-".join(s) or "new")
def test_shutdown_from_every_state_ends_the_engine(corner, scripted, states):
    node = corner.emo_llama_node(scripted)
    finished = threading.Event()
    node.on_finished = finished.set
    for transition in states:
        assert corner.change_state(transition)
    name = {0: "unconfigured_shutdown", 1: "inactive_shutdown", 2: "active_shutdown"}[len(states)]
    assert corner.change_state(name)
    assert finished.wait(PATIENCE_S)
    assert all(engine.stopped.wait(PATIENCE_S) for engine in scripted.made)
    assert corner.state() == "finalized"


@pytest.mark.parametrize("context", ["workplace", "education"])
def test_work_and_education_need_a_reason(corner, scripted, context):
    diagnostics = corner.diagnostics()
    corner.emo_llama_node(scripted, deployment_context=context)
    assert not corner.change_state("configure")
    assert corner.state() == "unconfigured"
    corner.until(lambda: (s := diagnostics("model")) and "medical_or_safety_reason" in s[1] and s[0] == b"\x02", "why")
    assert not scripted.made

    assert corner.set_parameter("medical_or_safety_reason", "fatigue watch of crane drivers").successful
    assert corner.change_state("configure")
    corner.until(
        lambda: diagnostics("privacy")[2]["medical or safety reason"] == "fatigue watch of crane drivers", "the reason"
    )


def test_a_missing_model_file_fails_configure_with_one_line(corner, tmp_path):
    diagnostics = corner.diagnostics()
    corner.emo_llama_node(models_folder=str(tmp_path / "nowhere"))
    assert not corner.change_state("configure")
    status = corner.until(lambda: (s := diagnostics("model")) and s[0] == b"\x02" and s, "the error")
    assert "emo_llama fetch" in status[1]
    assert "\n" not in status[1]
    assert corner.state() == "unconfigured"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("image_topic", "/cam-1/image_raw", "no topic name"),
        ("image_topic", "", "image_topic is empty"),
        ("image_topic", "~", "image_topic is empty"),
        ("image_converter", "cv_bridge", "set image_converter to auto"),
        ("models_folder", "/nowhere", "emo_llama fetch"),
        ("calibration_file", "/etc/hostname", "JSON"),
        ("calibration_file", "x" * 5000, "calibration_file cannot be a path"),
        ("expression_model", "~nosuchuser/x.onnx", "expression_model cannot be a path"),
        ("deployment_context", "workplace", "medical_or_safety_reason"),
    ],
)
def test_what_configure_can_find_wrong_is_one_sentence_and_leaves_the_node_as_it_was(corner, name, value, words):
    if value == "cv_bridge" and importlib.util.find_spec("cv_bridge"):
        pytest.skip("cv_bridge is installed here")
    diagnostics = corner.diagnostics()
    node = corner.emo_llama_node(**{name: value})
    before = len(list(node.publishers)), len(list(node.timers)), len(list(node.subscriptions))
    for _ in range(2):
        assert not corner.change_state("configure")
        assert corner.state() == "unconfigured"
        assert (len(list(node.publishers)), len(list(node.timers)), len(list(node.subscriptions))) == before
    status = corner.until(lambda: (s := diagnostics("model")) and s[0] == b"\x02" and s, "the error")
    assert words in status[1]
    assert len(status[1].splitlines()) == 1
    assert corner.set_parameter(name, specs()[name].default).successful


def test_an_engine_that_cannot_be_made_or_started_is_one_sentence_and_another_try_works(corner, scripted):
    """The model side may raise whatever it likes, whether at once or in its own thread."""
    trouble = [MissingDependency("cv_bridge gives wrong pixels."), RuntimeError("two\nlines")]

    def make(options, on_estimate):
        if trouble:
            raise trouble.pop(0)
        return scripted(options, on_estimate)

    diagnostics = corner.diagnostics()
    node = corner.emo_llama_node(make)
    for words in ("cv_bridge gives wrong pixels.", "two lines"):
        assert not corner.change_state("configure")
        assert corner.state() == "unconfigured"
        assert node._emotion is None
        status = corner.until(lambda w=words: (s := diagnostics("model")) and w in s[1] and s, "the reason")
        assert len(status[1].splitlines()) == 1
    assert corner.set_parameter("clip_s", 3.0).successful, "an unconfigured node can be changed"
    assert corner.change_state("configure")

    def broken():
        raise RuntimeError("no more threads")

    engine = scripted.made[-1]
    assert corner.change_state("cleanup")
    assert engine.stopped.wait(PATIENCE_S)
    scripted.settings = {"start": broken}
    assert corner.change_state("configure")
    corner.until(lambda: (s := diagnostics("model")) and "no more threads" in s[1] and s[0] == b"\x02", "the reason")
    assert corner.change_state("cleanup")


def test_a_topic_that_cannot_be_subscribed_to_leaves_the_node_inactive(corner, scripted):
    """emotion is the node's own topic, of another type."""
    diagnostics = corner.diagnostics()
    node = corner.emo_llama_node(scripted, image_topic="emotion")
    assert corner.change_state("configure")
    assert not corner.change_state("activate")
    assert corner.state() == "inactive"
    assert node._camera is None
    corner.until(lambda: (s := diagnostics("model")) and "cannot be subscribed to" in s[1], "the reason")
    assert corner.change_state("cleanup")


def test_no_question_is_taken_while_the_privacy_switch_is_off(corner, scripted):
    from emo_llama_ros.action import AskEmotion
    from rclpy.action import ActionClient

    corner.emo_llama_node(scripted)
    corner.change_state("configure")
    corner.change_state("activate")
    client = ActionClient(corner.helper, AskEmotion, corner.name("emo_llama_node/ask"))
    assert client.wait_for_server(PATIENCE_S)
    assert corner.set_parameter("enabled", False).successful
    future = client.send_goal_async(AskEmotion.Goal(question="Who is there?"))
    corner.until(future.done, "the answer")
    assert not future.result().accepted
    assert not scripted.made[0].questions
    client.destroy()


def test_an_unexpected_exception_in_configure_is_said_and_survived(corner, scripted, monkeypatch):
    diagnostics = corner.diagnostics()
    corner.emo_llama_node(scripted)

    def broken(options):
        raise RuntimeError("disk on fire")

    monkeypatch.setattr("emo_llama_ros.ros.node.check_ready", broken)
    assert not corner.change_state("configure")
    corner.until(lambda: (s := diagnostics("model")) and "disk on fire" in s[1], "the reason")
    monkeypatch.setattr("emo_llama_ros.ros.node.check_ready", lambda options: None)
    assert corner.change_state("configure")


def test_an_engine_that_gave_up_makes_the_node_inactive_and_activate_is_another_try(corner, scripted):
    diagnostics = corner.diagnostics()
    corner.emo_llama_node(scripted)
    corner.change_state("configure")
    corner.change_state("activate")
    (engine,) = scripted.made
    engine.message = "The model process ended 4 times within a minute."
    engine.state = EngineState.FAILED
    status = corner.until(lambda: (s := diagnostics("model")) and s[0] == b"\x02" and s, "the error")
    assert status[1] == engine.message
    corner.until(lambda: corner.state() == "inactive", "the node to go inactive")
    assert engine.stopped.wait(PATIENCE_S)

    assert corner.change_state("activate")
    corner.until(lambda: diagnostics("model")[0] == b"\x00", "recovery")
    assert len(scripted.made) == 2


def test_a_restarting_model_is_an_error_until_it_is_ready_again(corner, scripted):
    diagnostics = corner.diagnostics()
    corner.emo_llama_node(scripted)
    corner.change_state("configure")
    corner.change_state("activate")
    (engine,) = scripted.made
    engine.message, engine.state = "The model did not answer for 30 s and was restarted.", EngineState.RESTARTING
    corner.until(lambda: (s := diagnostics("model")) and s[:2] == (b"\x02", engine.message), "the error")
    engine.message, engine.state = "", EngineState.READY
    corner.until(lambda: diagnostics("model")[0] == b"\x00", "recovery")


def test_an_enabled_switch_reaches_the_engine_and_the_diagnostics(corner, scripted):
    diagnostics = corner.diagnostics()
    corner.emo_llama_node(scripted)
    corner.change_state("configure")
    corner.change_state("activate")
    assert corner.set_parameter("enabled", False).successful
    assert scripted.made[0].live == {"enabled": False}
    corner.until(lambda: (s := diagnostics("privacy")) and s[2]["enabled"] == "false", "the switch")


def test_a_clock_that_jumps_flushes_the_engine_once(corner, scripted):
    from rosgraph_msgs.msg import Clock

    from emo_llama_ros.ros.conversion import time_message

    node = corner.emo_llama_node(scripted)
    corner.change_state("configure")
    corner.change_state("activate")
    (engine,) = scripted.made
    clock = corner.helper.create_publisher(Clock, "/clock", 10)

    def tick_until(seconds):
        def arrived():
            clock.publish(Clock(clock=time_message(round(seconds * 1e9))))
            return node.get_clock().now().nanoseconds == round(seconds * 1e9)

        corner.until(arrived, f"the clock to say {seconds}")

    assert corner.set_parameter("use_sim_time", True).successful
    tick_until(100.0)
    flushes = engine.flushes
    for tick in range(1, 6):
        tick_until(100.0 + tick * 0.5)
    assert engine.flushes == flushes, "a clock that ticks is no jump"
    tick_until(50.0)
    assert engine.flushes == flushes + 1, "back by 52 s"
    tick_until(3650.0)
    assert engine.flushes == flushes + 2, "forward by an hour"
    diagnostics = corner.diagnostics()
    corner.until(lambda: (s := diagnostics("estimates")) and s[2]["clock jumps"] == str(engine.flushes), "the count")
    assert corner.set_parameter("use_sim_time", False).successful
    corner.helper.destroy_publisher(clock)


def test_diagnostics_go_on_while_the_clock_of_a_paused_bag_stands_still(corner, scripted):
    from diagnostic_msgs.msg import DiagnosticArray

    corner.emo_llama_node(scripted, use_sim_time=True)
    heard = corner.hear(DiagnosticArray, "/diagnostics")
    corner.until(lambda: len(heard) >= 2, "two diagnostics with no clock at all")


def test_label_and_final_are_both_published_in_order(corner, scripted, estimate):
    heard = emotions(corner)
    node = corner.emo_llama_node(scripted)
    corner.change_state("configure")
    corner.change_state("activate")
    corner.until(lambda: node.count_subscribers(corner.name("emotion")), "the subscription")
    scripted.made[0].on_estimate(estimate(stage=Stage.LABEL))
    scripted.made[0].on_estimate(estimate(stage=Stage.FINAL, reasoning="Because."))
    corner.until(lambda: len(heard) == 2, "two messages")
    assert [(m.stage, m.reasoning) for m in heard] == [(0, ""), (1, "Because.")]
    assert heard[0].estimate_id == heard[1].estimate_id


def test_the_output_reaches_reliable_subscribers_with_a_queue_of_one(corner, scripted):
    node = corner.emo_llama_node(scripted)
    corner.change_state("configure")
    (info,) = corner.until(lambda: node.get_publishers_info_by_topic(corner.name("emotion")), "the publisher")
    assert info.qos_profile.reliability.name == "RELIABLE"
    assert info.qos_profile.durability.name == "VOLATILE"
