import time

import pytest

pytestmark = pytest.mark.usefixtures("ros")


@pytest.fixture
def small_bag(tmp_path):
    """Ten small images, 20 ms apart."""
    import numpy as np

    from emo_llama_ros.frames import RawFrame
    from emo_llama_ros.recordings.bag_writer import BagWriter

    stamps = [5_000_000_000 + n * 20_000_000 for n in range(10)]
    with BagWriter(tmp_path / "bag") as writer:
        for number, stamp in enumerate(stamps):
            pixels = np.full(4 * 2 * 3, number, np.uint8)
            writer.write_image("/camera/image_raw", RawFrame(stamp, "camera", pixels, "rgb8", 4, 2, 12))
    return tmp_path / "bag", stamps


def test_a_bag_is_played_in_order_in_time_and_with_its_clock(corner, small_bag):
    from rclpy.qos import QoSProfile
    from rosgraph_msgs.msg import Clock
    from sensor_msgs.msg import Image

    from emo_llama_ros.recordings.bags import ImageBag
    from emo_llama_ros.ros.conversion import nanoseconds
    from emo_llama_ros.ros.player import BagPlayer

    path, stamps = small_bag
    images = corner.hear(Image, "/camera/image_raw", QoSProfile(depth=50))
    clocks = corner.hear(Clock, "/clock", QoSProfile(depth=200))
    node = corner.rclpy.create_node("player", namespace=corner.namespace, use_global_arguments=False)
    corner.spin(node)
    published = []
    with ImageBag(path) as bag:
        player = BagPlayer(node, bag.choose())
        corner.until(lambda: player.has_listener, "the listener")
        corner.until(lambda: node.count_subscribers("/clock"), "the listener of the clock")
        started = time.monotonic()
        played = player.play(bag, rate=0.5, on_frame=published.append)
        took = time.monotonic() - started
    corner.until(lambda: len(images) == 10, "all images")
    assert [nanoseconds(image.header.stamp) for image in images] == stamps == published
    assert [image.data[0] for image in images] == list(range(10))
    assert (played.frames, played.seconds) == (10, 0.18)
    assert took >= 0.36, "half the pace"
    times = [nanoseconds(clock.clock) for clock in clocks]
    assert times == sorted(times)
    corner.until(lambda: nanoseconds(clocks[-1].clock) == stamps[-1], "the last tick")


def test_an_empty_topic_is_played_in_no_time(corner, small_bag):
    from emo_llama_ros.recordings.bags import ImageBag, ImageTopic
    from emo_llama_ros.ros.player import BagPlayer

    node = corner.rclpy.create_node("player", namespace=corner.namespace, use_global_arguments=False)
    corner.spin(node)
    with ImageBag(small_bag[0]) as bag:
        assert BagPlayer(node, ImageTopic("/nothing", False, 0)).play(bag).frames == 0
