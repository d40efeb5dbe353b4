"""Videos, pictures and webcams become stamped frames."""

import itertools
import time

import cv2
import numpy as np
import pytest

from emo_llama_ros.errors import BadRecording
from emo_llama_ros.images.decode import decode
from emo_llama_ros.recordings.media import START_NS, file_frames, jpeg_frame, webcam_frames

MS = 1_000_000


def picture(path, value=0):
    assert cv2.imwrite(str(path), np.full((24, 32, 3), (value, 50, 200), np.uint8))
    return path


@pytest.fixture
def video(tmp_path):
    """A video of 20 frames at 10 frames per second, each brighter than the one before."""
    path = tmp_path / "video.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    for i in range(20):
        writer.write(np.full((48, 64, 3), i * 12, np.uint8))
    writer.release()
    return path


def elapsed_ms(frames):
    return [round((frame.stamp_ns - START_NS) / MS) for frame in frames]


def test_a_video_keeps_its_own_times_and_pictures(video):
    frames = list(file_frames([video]))
    assert elapsed_ms(frames) == [100 * i for i in range(20)]
    assert {(f.encoding, f.width, f.height, f.step, f.frame_id) for f in frames} == {("bgr8", 64, 48, 192, "camera")}
    brightness = [decode(f, 1).rgb.mean() for f in frames]
    assert np.abs(np.array(brightness) - np.arange(20) * 12).max() < 3


@pytest.mark.parametrize(("fps", "expected"), [(10, 20), (5, 10), (4, 8), (60, 20)])
def test_fps_leaves_frames_out_but_invents_none(video, fps, expected):
    assert len(list(file_frames([video], fps=fps))) == expected


def test_a_real_video_is_read_to_its_last_frame(media):
    frames = list(file_frames([media("single_face.mp4")]))
    assert len(frames) == 72
    assert np.diff([f.stamp_ns for f in frames]) == pytest.approx(1e9 / 30, abs=2)


def test_a_picture_is_held(tmp_path):
    frames = list(file_frames([picture(tmp_path / "a.png")], hold_s=0.5, fps=4))
    assert elapsed_ms(frames) == [0, 250]
    assert decode(frames[1], 1).rgb[0, 0].tolist() == [200, 50, 0]
    assert len(list(file_frames([picture(tmp_path / "b.png")], hold_s=2))) == 20
    assert len(list(file_frames([picture(tmp_path / "b.png")], hold_s=0))) == 1


def test_files_follow_one_another_with_a_gap(tmp_path, video):
    files = [picture(tmp_path / "a.png"), video]
    assert elapsed_ms(file_frames(files, hold_s=0.2, gap_s=3))[:4] == [0, 100, 3100, 3200]


def test_the_same_files_give_the_same_frames(tmp_path, video):
    one, other = (list(file_frames([video])) for _ in range(2))
    assert [f.stamp_ns for f in one] == [f.stamp_ns for f in other]
    assert all(np.array_equal(a.data, b.data) for a, b in zip(one, other, strict=True))


def test_a_jpeg_frame_looks_like_the_original(video):
    frame = next(file_frames([video]))
    compressed = jpeg_frame(frame)
    assert compressed.compressed
    assert compressed.stamp_ns == frame.stamp_ns
    assert np.abs(decode(compressed, 1).rgb.astype(int) - decode(frame, 1).rgb).max() <= 3


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("missing.mp4", None, "There is no file"),
        ("words.mp4", b"not a video", "cannot be read as a video"),
        ("words.png", b"not a picture", "cannot be read as a video"),
        ("half.mp4", b"\x89PNG\r\n\x1a\n", "cannot be read as a picture"),
        ("empty.avi", b"", "cannot be read as a video"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, name, content, reason):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(BadRecording, match=rf"{name}.*|{reason}") as caught:
        list(file_frames([tmp_path / name]))
    assert reason in str(caught.value)
    assert name in str(caught.value)


def test_every_file_is_looked_for_before_the_first_is_read(tmp_path, video):
    with pytest.raises(BadRecording, match="gone"):
        next(file_frames([video, tmp_path / "gone.mp4"]))


def test_a_camera_that_is_not_there_is_named():
    with pytest.raises(BadRecording, match="no camera 97"):
        next(webcam_frames(97))


def test_camera_frames_are_stamped_when_they_arrive(video):
    # A video file stands for the camera: OpenCV reads both through the same interface.
    before = time.time_ns()
    frames = list(webcam_frames(str(video)))
    assert len(frames) == 20
    stamps = [before, *(f.stamp_ns for f in frames), time.time_ns()]
    assert stamps == sorted(stamps)


def test_a_camera_recording_ends_after_its_duration(video):
    frames = webcam_frames(str(video), duration_s=0.05)
    taken = list(itertools.takewhile(lambda _: time.sleep(0.02) is None, frames))
    assert 1 <= len(taken) <= 4
