import xml.etree.ElementTree as ElementTree

import pytest

pytestmark = pytest.mark.usefixtures("ros")

FULL_HD_BYTES = 1920 * 1080 * 3


def test_the_shipped_profile_has_room_for_several_full_hd_images(repository):
    root = ElementTree.parse(repository / "config" / "fastdds.xml").getroot()
    sizes = [int(e.text) for e in root.iter() if e.tag.endswith("segment_size")]
    assert sizes
    assert min(sizes) > 4 * FULL_HD_BYTES


@pytest.mark.parametrize(
    ("distribution", "variable"),
    [("humble", "FASTRTPS"), ("jazzy", "FASTRTPS"), ("kilted", "FASTDDS"), ("", "FASTDDS")],
)
def test_the_profile_is_set_by_the_name_this_fast_dds_reads(monkeypatch, distribution, variable):
    from emo_llama_ros.ros.transport import profile_path, use_shipped_profile

    monkeypatch.setenv("ROS_DISTRO", distribution)
    environment = {}
    assert "shared memory" in use_shipped_profile(environment)
    assert environment == {f"{variable}_DEFAULT_PROFILES_FILE": str(profile_path())}
    assert profile_path().is_file()


@pytest.mark.parametrize(
    "chosen", ["FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE", "FASTDDS_BUILTIN_TRANSPORTS"]
)
def test_what_the_user_chose_stays(chosen):
    from emo_llama_ros.ros.transport import use_shipped_profile

    environment = {chosen: "mine"}
    assert f"{chosen}=mine" in use_shipped_profile(environment)
    assert environment == {chosen: "mine"}


def test_another_middleware_is_left_alone():
    from emo_llama_ros.ros.transport import use_shipped_profile

    environment = {"RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"}
    assert "rmw_cyclonedds_cpp" in use_shipped_profile(environment)
    assert list(environment) == ["RMW_IMPLEMENTATION"]


@pytest.mark.parametrize(("width", "height"), [(640, 480), (1920, 1080)])
def test_raw_streams_arrive_whole_with_the_shipped_profile(corner, width, height):
    """Publisher and subscriber of this process both follow the profile; see conftest.py."""
    from rclpy.qos import QoSProfile, ReliabilityPolicy
    from sensor_msgs.msg import Image

    best_effort = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
    heard = corner.hear(Image, "camera/image_raw", best_effort)
    camera = corner.camera()
    corner.until(lambda: camera.get_subscription_count(), "the subscription")
    for number in range(30):
        camera.publish(corner.image(width=width, height=height))
        corner.until(lambda n=number: len(heard) > n, f"image {number}", seconds=2.0)
    assert len(heard) == 30


def test_the_allocator_keeps_image_sized_blocks():
    import sys

    from emo_llama_ros.ros.transport import keep_image_memory

    assert keep_image_memory() or not sys.platform.startswith("linux")
