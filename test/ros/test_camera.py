import subprocess
import sys
import textwrap
import time

import pytest
from patience import PATIENCE_S

from emo_llama_ros.options import Options

pytestmark = pytest.mark.usefixtures("ros")


@pytest.fixture
def camera_on(corner):
    """A Camera on a node of its own, and the frames it hands over."""
    from emo_llama_ros.ros.camera import Camera

    made = []

    def make(**values):
        node = corner.rclpy.create_node("eye", namespace=corner.namespace, use_global_arguments=False)
        frames = []
        camera = Camera(node, Options().with_values(values), frames.append)
        corner.spin(node)
        made.append(camera)
        return camera, frames

    yield make
    for camera in made:
        camera.close()


def test_rates_and_counts_follow_the_frames(corner, camera_on):
    camera, frames = camera_on()
    publisher = corner.camera()
    corner.until(lambda: publisher.get_subscription_count(), "the subscription")
    camera.report()
    for number in range(20):
        publisher.publish(corner.image())
        corner.until(lambda n=number: len(frames) > n, "each frame")
    report = camera.report()
    assert report.received == 20
    assert report.received_hz > 0
    assert report.lost_percent == 0
    assert report.publishers == 1
    assert report.silent_s < PATIENCE_S
    assert 0 <= report.stamp_age_s < PATIENCE_S
    assert not report.stamps_stand_still


def test_rates_are_those_of_a_window_and_silence_ends_them(corner, camera_on, monkeypatch):
    monkeypatch.setattr("emo_llama_ros.ros.camera.WINDOW_S", 0.3)
    camera, frames = camera_on()
    publisher = corner.camera()
    corner.until(lambda: publisher.publish(corner.image()) or len(frames) > 5, "frames")
    assert camera.report().received_hz > 0
    corner.until(lambda: camera.report().received_hz == 0, "the rate to fall")
    assert camera.report().received == len(frames)


@pytest.mark.parametrize("transport", ["raw", "compressed"])
def test_a_message_in_a_foreign_encapsulation_is_counted_and_the_camera_goes_on(corner, camera_on, transport):
    from rclpy.serialization import serialize_message
    from sensor_msgs.msg import CompressedImage

    compressed = transport == "compressed"
    camera, frames = camera_on(image_transport=transport)
    topic = "camera/image_raw" + ("/compressed" if compressed else "")
    publisher = corner.camera(topic, compressed=compressed)
    corner.until(lambda: publisher.get_subscription_count(), "the subscription")
    good = serialize_message(CompressedImage(format="jpeg") if compressed else corner.image())
    foreign = [b"\x00\x03" + good[2:], b"\x00\x0b\x00\x00" + bytes(9), b"\xff" * 50, b"\x00\x01\x00\x00\x07"]
    for number, message in enumerate(foreign):
        publisher.publish(message)
        corner.until(lambda n=number: camera.report().damaged > n, "each foreign message")
    assert camera.report().last_damage.endswith(".")
    publisher.publish(good)
    corner.until(lambda: frames, "a good frame after them")
    assert camera.report().damaged == len(foreign)


def test_a_publisher_with_incompatible_qos_is_named_with_both_ends(corner, camera_on):
    camera, _ = camera_on(input_reliability="reliable")
    corner.camera(reliable=False)
    (sentence,) = corner.until(lambda: camera.report().incompatible, "the event")
    assert f"{corner.namespace}/helper offers best_effort" in sentence
    assert "this node asks for reliable" in sentence


@pytest.mark.parametrize(("offered", "asked"), [(True, "reliable"), (False, "best_effort")])
def test_auto_asks_for_what_the_camera_offers_whoever_was_there_first(corner, camera_on, offered, asked):
    early, early_frames = camera_on()
    assert early.reliability == "best_effort", "hears every camera until one is known"
    publisher = corner.camera(reliable=offered)
    corner.until(lambda: early.follow_publishers() or early.report().publishers == 1, "discovery")
    corner.until(lambda: early.follow_publishers() or early.reliability == asked, "the change")
    late, late_frames = camera_on()
    corner.until(lambda: late.follow_publishers() or late.report().publishers == 1, "discovery")
    corner.until(lambda: late.follow_publishers() or late.reliability == asked, "the change")
    corner.until(lambda: publisher.publish(corner.image()) or (early_frames and late_frames), "frames")
    assert early.report().reliability == asked
    assert early.report().incompatible == ()


def test_auto_subscribes_anew_when_the_publishers_change(corner, camera_on):
    camera, frames = camera_on()
    reliable = corner.camera()
    corner.until(lambda: camera.follow_publishers() or camera.reliability == "reliable", "the reliable camera")
    corner.until(lambda: reliable.publish(corner.image()) or frames, "its frames")
    received = camera.report().received

    unreliable = corner.camera(reliable=False)
    corner.until(lambda: camera.follow_publishers() or camera.reliability == "best_effort", "one best-effort camera")
    before = len(frames)
    corner.until(lambda: unreliable.publish(corner.image()) or len(frames) > before, "its frames")
    assert camera.report().received > received, "counters go on"

    corner.helper.destroy_publisher(unreliable)
    corner.until(lambda: camera.follow_publishers() or camera.reliability == "reliable", "the reliable one alone")
    corner.helper.destroy_publisher(reliable)
    corner.until(lambda: camera.report().publishers == 0, "nobody")
    assert not camera.follow_publishers(), "with nobody there is nothing to follow"


@pytest.mark.parametrize("asked", ["reliable", "best_effort"])
def test_a_fixed_reliability_stays(corner, camera_on, asked):
    camera, _ = camera_on(input_reliability=asked)
    corner.camera(reliable=asked == "best_effort")
    corner.until(lambda: camera.report().publishers, "discovery")
    assert not camera.follow_publishers()
    assert camera.report().reliability == asked


@pytest.mark.parametrize(
    ("topic", "transport", "remaps", "read"),
    [
        ("front/image", "raw", [], "/head/front/image"),
        ("/front/image", "raw", [], "/front/image"),
        ("~/image", "raw", [], "/head/eye/image"),
        ("front/image", "compressed", [], "/head/front/image/compressed"),
        ("front/image/compressed", "compressed", [], "/head/front/image/compressed"),
        ("front/image/compressed", "raw", [], "/head/front/image/compressed"),
        ("camera/image_raw", "compressed", ["camera/image_raw:=/usb/image"], "/usb/image/compressed"),
        ("camera/image_raw", "raw", ["camera/image_raw:=/usb/image"], "/usb/image"),
        (
            "camera/image_raw",
            "compressed",
            ["/head/camera/image_raw/compressed:=/usb/small"],
            "/usb/small",
        ),
    ],
)
def test_the_base_topic_is_resolved_and_remapped_and_then_the_transport_is_added(ros, topic, transport, remaps, read):
    from emo_llama_ros.ros.camera import Camera

    arguments = [part for remap in remaps for part in ("-r", remap)]
    node = ros.create_node(
        "eye", namespace="/head", use_global_arguments=False, cli_args=["--ros-args", *arguments] if arguments else []
    )
    camera = Camera(node, Options(image_topic=topic, image_transport=transport), lambda frame: None)
    try:
        assert camera.topic == read
    finally:
        camera.close()
        node.destroy_node()


@pytest.mark.parametrize(
    "topic", ["", "  ", "/cam-1/image_raw", "a//b", "1/2", "{nobody}/image", "cam era", "a/\n", "ü"]
)
def test_what_is_no_topic_name_is_refused_in_one_sentence(ros, topic):
    from emo_llama_ros.errors import BadParameter
    from emo_llama_ros.ros.camera import Camera

    node = ros.create_node("eye", use_global_arguments=False)
    try:
        for transport in ("raw", "compressed"):
            with pytest.raises(BadParameter, match="image_topic is") as refusal:
                Camera(node, Options(image_topic=topic, image_transport=transport), lambda frame: None)
            assert len(str(refusal.value).splitlines()) == 1
    finally:
        node.destroy_node()


@pytest.fixture
def stranger(ros, corner):
    """A node in another participant: within one, Fast DDS refuses two types on one topic."""
    context = ros.Context()
    ros.init(context=context)
    node = ros.create_node("stranger", namespace=corner.namespace, context=context, use_global_arguments=False)
    yield node
    node.destroy_node()
    ros.shutdown(context=context)


def test_a_publisher_of_another_type_is_not_counted_but_named(corner, camera_on, stranger):
    from sensor_msgs.msg import CompressedImage

    camera, _ = camera_on()
    stranger.create_publisher(CompressedImage, corner.name("camera/image_raw"), 5)
    corner.until(lambda: camera.report().other_types, "discovery")
    report = camera.report()
    assert report.other_types == ("sensor_msgs/msg/CompressedImage",)
    assert report.publishers == 0
    assert not camera.follow_publishers()
    assert camera.reliability == "best_effort", "what cannot be read is not followed"


def test_a_topic_that_the_process_itself_uses_otherwise_is_refused_in_one_sentence(corner, camera_on):
    from emo_llama_ros.errors import BadParameter

    corner.camera(compressed=True)
    with pytest.raises(BadParameter, match=r"cannot be subscribed to as sensor_msgs/msg/Image"):
        camera_on()


def test_two_publishers_whose_clocks_differ_are_noticed_and_named(corner, camera_on):
    camera, frames = camera_on()
    publisher = corner.camera()
    corner.until(lambda: publisher.get_subscription_count(), "the subscription")
    now = time.time_ns()
    for number in range(20):
        hour_ahead = (number % 2) * 3_600_000_000_000
        publisher.publish(corner.image(stamp_ns=now + number * 33_000_000 + hour_ahead))
        corner.until(lambda n=number: len(frames) > n, "each frame")
    report = camera.report()
    assert report.clock_jumps_percent > 30
    assert report.publisher_names == (f"{corner.namespace}/helper",)


def test_a_recording_that_starts_again_is_no_trouble_with_clocks(corner, camera_on):
    camera, frames = camera_on()
    publisher = corner.camera()
    corner.until(lambda: publisher.get_subscription_count(), "the subscription")
    for number in range(40):
        publisher.publish(corner.image(stamp_ns=(number % 20) * 330_000_000))
        corner.until(lambda n=number: len(frames) > n, "each frame")
    assert camera.report().clock_jumps_percent == 0


def test_stamps_that_stand_still_and_old_stamps_are_noticed(corner, camera_on):
    camera, frames = camera_on()
    publisher = corner.camera()
    corner.until(lambda: publisher.get_subscription_count(), "the subscription")
    camera.report()
    for number in range(3):
        publisher.publish(corner.image(stamp_ns=0))
        corner.until(lambda n=number: len(frames) > n, "each frame")
    report = camera.report()
    assert report.stamps_stand_still
    assert report.stamp_age_s > 1e9


def test_silence_is_measured_from_the_subscription_on(camera_on):
    camera, _ = camera_on()
    first = camera.report()
    second = camera.report()
    assert 0 <= first.silent_s <= second.silent_s < PATIENCE_S
    assert first.stamp_age_s is None


def test_frames_lost_on_the_way_are_counted(corner, camera_on, monkeypatch):
    """A raw VGA stream of a camera without the shipped profile loses nearly every frame in Fast DDS."""
    camera, frames = camera_on()
    if not camera._counts_losses:
        pytest.skip("this middleware does not report lost messages")
    program = f"""
        import array, time, rclpy
        from sensor_msgs.msg import Image
        rclpy.init()
        node = rclpy.create_node("camera", namespace="{corner.namespace}")
        publisher = node.create_publisher(Image, "camera/image_raw", 5)
        while not publisher.get_subscription_count(): time.sleep(0.01)
        time.sleep(0.3)
        image = Image(width=640, height=480, step=1920, encoding="rgb8", data=array.array("B", bytes(921600)))
        for number in range(40):
            image.header.stamp = node.get_clock().now().to_msg()
            publisher.publish(image)
            time.sleep(0.01)
        time.sleep(0.5)
    """
    for name in ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"):
        monkeypatch.delenv(name, raising=False)
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True, timeout=PATIENCE_S)
    if len(frames) == 40:
        pytest.skip("this middleware loses nothing by default")

    def told():
        report = camera.report()
        return report if report.received + report.lost >= 30 else None

    # The very last ones leave no trace: a loss is only seen when something comes after it.
    report = corner.until(told, "the frames that came and those that were lost")
    assert report.received + report.lost <= 40
    assert report.received == len(frames)
    assert report.lost_percent > 0
    assert report.published_hz > report.received_hz


def test_losses_are_estimated_from_the_stamps_where_the_middleware_is_silent(corner, camera_on):
    camera, frames = camera_on()
    camera._counts_losses = False
    publisher = corner.camera()
    corner.until(lambda: publisher.get_subscription_count(), "the subscription")
    start = time.time_ns()
    published = [n for n in range(60) if n < 20 or n % 3 == 0]
    for count, number in enumerate(published):
        publisher.publish(corner.image(stamp_ns=start + number * 33_333_333))
        corner.until(lambda n=count: len(frames) > n, "each frame")
    report = camera.report()
    assert report.received == len(published)
    assert abs(report.lost - (60 - len(published))) <= 2


def test_nothing_is_handed_over_after_close(corner, camera_on):
    camera, frames = camera_on()
    publisher = corner.camera()
    corner.until(lambda: publisher.publish(corner.image()) or frames, "a frame")
    camera.close()
    corner.until(lambda: publisher.get_subscription_count() == 0, "the subscription to end")
    before = len(frames)
    publisher.publish(corner.image())
    camera.close()
    assert len(frames) == before
