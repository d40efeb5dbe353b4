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
    ("libraries", "variable"),
    [
        (["libfastrtps.so.2.14"], "FASTRTPS"),
        (["libfastdds.so.3.2"], "FASTDDS"),
        (["libfastdds.so", "libfastcdr.so.2"], "FASTDDS"),
        (["libfastrtps.so"], "FASTRTPS"),
    ],
)
@pytest.mark.parametrize("where", ["lib", "lib/x86_64-linux-gnu"])
@pytest.mark.parametrize("distribution", ["humble", "kilted", ""])
def test_the_profile_is_set_by_the_name_that_the_library_reads_whatever_the_distribution(
    monkeypatch, tmp_path, libraries, variable, where, distribution
):
    from emo_llama_ros.ros.transport import profile_path, use_shipped_profile

    monkeypatch.setenv("ROS_DISTRO", distribution)
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))
    monkeypatch.setenv("LD_LIBRARY_PATH", "")
    folder = tmp_path / where
    folder.mkdir(parents=True)
    for library in libraries:
        (folder / library).touch()
    environment = {}
    assert "shared memory" in use_shipped_profile(environment)
    assert environment == {f"{variable}_DEFAULT_PROFILES_FILE": str(profile_path())}
    assert profile_path().is_file()


def test_the_first_library_on_the_search_path_counts(monkeypatch, tmp_path):
    from emo_llama_ros.ros.transport import profile_variable

    for name, library in (("new", "libfastdds.so"), ("old", "libfastrtps.so")):
        (tmp_path / name / "lib").mkdir(parents=True)
        (tmp_path / name / "lib" / library).touch()
    monkeypatch.setenv("LD_LIBRARY_PATH", "")
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"{tmp_path / 'old'}:{tmp_path / 'new'}")
    assert profile_variable() == "FASTRTPS_DEFAULT_PROFILES_FILE"
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path / "new" / "lib"))
    assert profile_variable() == "FASTDDS_DEFAULT_PROFILES_FILE"


def test_the_variable_is_that_of_the_library_which_this_process_has_loaded(ros):
    from pathlib import Path

    from emo_llama_ros.ros.transport import profile_variable

    loaded = Path("/proc/self/maps").read_text()
    if "libfastdds.so" not in loaded and "libfastrtps.so" not in loaded:
        pytest.skip("another middleware is in use")
    assert profile_variable() == ("FASTDDS" if "libfastdds.so" in loaded else "FASTRTPS") + "_DEFAULT_PROFILES_FILE"


@pytest.mark.parametrize(
    ("wanted", "words"),
    [("", ""), ("rmw_fastrtps_cpp", ""), ("rmw_none_cpp", "rmw_none_cpp, which is not installed")],
)
def test_a_middleware_that_is_not_installed_is_named_with_those_that_are(monkeypatch, wanted, words):
    from emo_llama_ros.ros.transport import missing_middleware

    monkeypatch.setenv("RMW_IMPLEMENTATION", wanted)
    assert words in missing_middleware()
    assert bool(missing_middleware()) == bool(words)


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
        corner.until(lambda n=number: len(heard) > n, f"image {number}")
    assert len(heard) == 30


def test_the_allocator_keeps_image_sized_blocks():
    import sys

    from emo_llama_ros.ros.transport import keep_image_memory

    assert keep_image_memory() or not sys.platform.startswith("linux")
