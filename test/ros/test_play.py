"""`emo_llama play` and the cameras that a process brings along: recorded frames as a camera driver publishes them."""

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from patience import PATIENCE_S

from emo_llama_ros.frames import RawFrame
from emo_llama_ros.recordings.bag_writer import BagWriter

pytestmark = pytest.mark.usefixtures("ros")
PERIOD_NS = 20_000_000
START_NS = 5_000_000_000


def frame(number, compressed=False):
    from emo_llama_ros.recordings.media import bgr_frame, jpeg_frame

    raw = bgr_frame(np.full((16, 32, 3), 20 * number, np.uint8), START_NS + number * PERIOD_NS, "eye")
    return jpeg_frame(raw) if compressed else raw


@pytest.fixture(params=[False, True], ids=["raw", "jpeg"])
def bag(request, tmp_path):
    """Five grey images, 20 ms apart, on /t/image_raw or /t/image_raw/compressed."""
    with BagWriter(tmp_path / "bag") as writer:
        for number in range(5):
            writer.write_image("/t/image_raw" + "/compressed" * request.param, frame(number, request.param))
    return tmp_path / "bag"


@pytest.fixture
def heard(corner):
    """Subscribe to both forms of a camera's images, or to one."""
    from rclpy.qos import QoSProfile
    from sensor_msgs.msg import CompressedImage, Image

    def subscribe(raw=True, jpeg=True):
        topic = corner.name("image_raw")
        return (
            corner.hear(Image, topic, QoSProfile(depth=100)) if raw else [],
            corner.hear(CompressedImage, topic + "/compressed", QoSProfile(depth=100)) if jpeg else [],
        )

    return subscribe


def played(corner, path, **how):
    from emo_llama_ros.recordings.playable import recording
    from emo_llama_ros.ros.play import play

    with recording([path]) as source:
        return play(source, corner.name("image_raw"), how.pop("over", threading.Event()), **how)


def stamp(message):
    from emo_llama_ros.ros.conversion import nanoseconds

    return nanoseconds(message.header.stamp)


def test_a_bag_reaches_raw_and_compressed_subscribers_stamped_now(corner, heard, bag):
    raw, jpeg = heard()
    corner.until(lambda: corner.helper.count_subscribers(corner.name("image_raw/compressed")), "both subscriptions")
    before = time.time_ns()
    done, camera = played(corner, bag)
    assert (done.frames, done.seconds) == (5, 0.08)
    assert camera.unusable == 0
    corner.until(lambda: max(len(raw), len(jpeg)) == 5, "the images")
    for messages in (raw, jpeg):
        times = [before, *(stamp(m) for m in messages), time.time_ns()]
        assert times == sorted(times)
        assert {m.header.frame_id for m in messages} == {"eye"}
    assert (raw[-1].encoding, raw[-1].width, raw[-1].height, raw[-1].step) == ("bgr8", 32, 16, 96)
    assert abs(int(raw[-1].data[0]) - 80) <= 2
    assert bytes(jpeg[-1].data[:2]) == b"\xff\xd8"


def test_recorded_stamps_and_the_clock_are_kept_where_that_is_wanted(corner, heard, bag):
    from rclpy.qos import QoSProfile
    from rosgraph_msgs.msg import Clock

    raw, _ = heard(jpeg=False)
    clocks = corner.hear(Clock, "/clock", QoSProfile(depth=100))
    played(corner, bag, clock=True, rate=0.5)
    corner.until(lambda: len(raw) == 5 and len(clocks) > 3, "images and clock")
    assert [stamp(m) for m in raw] == [START_NS + n * PERIOD_NS for n in range(5)]


def test_a_loop_goes_on_in_time_until_it_is_stopped(corner, heard, bag):
    raw, _ = heard(jpeg=False)
    over = threading.Event()
    count = iter(range(1000))
    done, _ = played(corner, bag, over=over, loop=True, clock=True, on_frame=lambda: next(count) == 12 and over.set())
    assert done.frames == 13
    corner.until(lambda: len(raw) >= 12, "the images")
    stamps = [stamp(m) for m in raw]
    assert stamps == [START_NS + n * PERIOD_NS for n in range(len(stamps))], "time goes on from end to start"


def test_a_damaged_image_is_counted_and_the_others_are_played(corner, heard, tmp_path):
    with BagWriter(tmp_path / "bag") as writer:
        for number in range(4):
            good = frame(number, compressed=True)
            broken = RawFrame(good.stamp_ns, "eye", good.data[:40], good.encoding, compressed=True)
            writer.write_image("/t/image_raw/compressed", broken if number == 1 else good)
    raw, _ = heard(jpeg=False)
    done, camera = played(corner, tmp_path / "bag")
    assert (done.frames, camera.published, camera.unusable) == (4, 3, 1)
    corner.until(lambda: len(raw) == 3, "the three good ones")


def test_a_camera_beside_ends_with_its_context_and_says_why_it_ended_by_itself(corner, heard):
    from emo_llama_ros.recordings.playable import Playable
    from emo_llama_ros.ros.play import camera_beside
    from emo_llama_ros.ros.until_interrupted import until_interrupted

    raw, _ = heard(jpeg=False)

    def frames(count):
        for number in range(count):
            yield START_NS + number * PERIOD_NS, frame(number % 10)

    with (
        until_interrupted() as over,
        camera_beside(Playable("long", "", lambda: frames(100_000)), "image_raw", corner.namespace) as camera,
    ):
        corner.until(lambda: len(raw) > 3, "images")
        assert camera.topic == corner.name("image_raw")
        assert not over.is_set()
    assert camera.failure == ""
    with (
        until_interrupted() as over,
        camera_beside(Playable("webcam 0", "", lambda: frames(3)), "image_raw", corner.namespace) as camera,
    ):
        assert over.wait(PATIENCE_S)
    assert camera.failure == "webcam 0 gives no picture any more."


@pytest.mark.parametrize("bag", [True], indirect=True, ids=["jpeg"])
def test_the_command_plays_and_ends_at_ctrl_c(corner, heard, bag, repository):
    raw, _ = heard(jpeg=False)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(repository), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-m", "emo_llama_ros.cli", "play", str(bag), "--loop"]
    process = subprocess.Popen(
        [*command, "--topic", corner.name("image_raw/compressed")],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        corner.until(lambda: len(raw) > 6, "images")
    finally:
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, errors
    first, *remarks = errors.splitlines()
    assert first == f"Playing bag on {corner.name('image_raw')} and {corner.name('image_raw')}/compressed."
    # Where discovery takes longer than the command waits, it says so, and nothing else.
    assert all(remark.startswith("Nobody listens to") for remark in remarks)
    assert out.startswith(f"{corner.name('image_raw')}: ")
