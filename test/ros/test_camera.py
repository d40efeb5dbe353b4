import subprocess
import sys
import textwrap
import time

import pytest

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
    assert report.silent_s < 1.0
    assert 0 <= report.stamp_age_s < 1.0
    assert not report.stamps_stand_still
    assert camera.report().received_hz == 0


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
    assert 0 <= first.silent_s <= second.silent_s < 5
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
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True, timeout=30)
    report = camera.report()
    if len(frames) == 40:
        pytest.skip("this middleware loses nothing by default")
    assert report.received == len(frames)
    # The very last ones leave no trace: a loss is only seen when something comes after it.
    assert 30 <= report.received + report.lost <= 40
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
