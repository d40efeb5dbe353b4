import numpy as np
import pytest

from emo_llama_ros.errors import BadRecording
from emo_llama_ros.recordings.bag_writer import BagWriter
from emo_llama_ros.recordings.media import bgr_frame
from emo_llama_ros.recordings.playable import TOPIC, looped, recording, webcam

PERIOD_NS = 20_000_000


def frames(count, start_ns=1000):
    for number in range(count):
        stamp_ns = start_ns + number * PERIOD_NS
        yield stamp_ns + 5, bgr_frame(np.zeros((2, 4, 3), np.uint8), stamp_ns, "camera")


def test_a_loop_goes_on_one_period_after_its_end():
    endless = looped(lambda: frames(3))
    times, stamps = zip(*((time, frame.stamp_ns) for time, frame in (next(endless) for _ in range(8))), strict=True)
    assert list(np.diff(times)) == list(np.diff(stamps)) == [PERIOD_NS] * 7


def test_a_single_picture_can_be_repeated_and_nothing_ends_at_once():
    endless = looped(lambda: frames(1))
    first, second = next(endless)[0], next(endless)[0]
    assert 0 < second - first <= 1_000_000_000
    assert list(looped(lambda: frames(0))) == []


def test_a_bag_is_played_where_it_was_recorded_in_the_times_of_recording(tmp_path):
    with BagWriter(tmp_path / "bag") as writer:
        for _, frame in frames(2):
            writer.write_image("/eye/image", frame)
    with recording([tmp_path / "bag"]) as source:
        assert (source.name, source.topic, source.live) == ("bag", "/eye/image", False)
        assert [time for time, _ in source.open()] == [1000, 1000 + PERIOD_NS]
        assert len(list(source.open())) == 2, "again, from the start"


def test_pictures_and_videos_follow_one_another(media):
    with recording([media("single_face.jpg"), media("single_face.mp4")]) as source:
        assert source.topic == TOPIC
        times = [time for time, _ in source.open()]
        assert len(times) == 50 + 72
        assert times == sorted(times)


def test_what_cannot_be_played_is_named(tmp_path, media):
    (tmp_path / "bag").mkdir()
    picture = media("single_face.jpg")
    for paths, reason in (
        ([tmp_path / "gone"], "gone"),
        ([picture, tmp_path / "bag"], "bag can only be played alone"),
        ([picture, tmp_path / "gone.mp4"], r"gone\.mp4 is not there"),
    ):
        with pytest.raises(BadRecording, match=reason), recording(paths):
            pass


@pytest.mark.parametrize("source", ["0", "/dev/video3", "rtsp://camera/stream"])
def test_cameras_are_told_from_files_by_their_names_and_opened_only_when_wanted(source):
    found = webcam(source)
    assert found.live
    assert found.name == f"webcam {source}"


def test_what_is_neither_a_camera_nor_a_file_is_refused():
    with pytest.raises(BadRecording, match=r"no camera or video somewhere\.mp4: name a camera by its number"):
        webcam("somewhere.mp4")
