"""Picture and video files are known by their content, and read or refused with one sentence."""

import contextlib
import os
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from emo_llama_ros.errors import BadRecording
from emo_llama_ros.images.files import count_frames, is_hidden, medium_of, open_video, read_picture, video_fps

FACE = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)


def save(path, form, **options):
    Image.fromarray(FACE).save(path, form, **options)
    return path


def write_video(path, fourcc, frames=20, size=(64, 48)):
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*fourcc), 10, size)
    for i in range(frames):
        writer.write(np.full((size[1], size[0], 3), i * 12, np.uint8))
    writer.release()
    return path


def huge_png(width=40000, height=40000):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF"])
@pytest.mark.parametrize("name", ["face.jpg", "face.jfif", "face", "face.mp4"])
def test_a_picture_is_known_by_its_content_and_not_by_its_name(tmp_path, form, name):
    if form == "AVIF" and ".avif" not in Image.registered_extensions():
        pytest.skip("this Pillow writes no AVIF")
    path = save(tmp_path / name, form)
    assert medium_of(path) == "picture"
    pixels = read_picture(path)
    assert (pixels.shape, pixels.dtype) == ((24, 32, 3), np.uint8)
    if form in ("PNG", "BMP", "TIFF", "PPM"):
        assert np.array_equal(pixels, FACE)


@pytest.mark.parametrize(("suffix", "fourcc"), [("avi", "MJPG"), ("mp4", "mp4v"), ("mkv", "mp4v"), ("webm", "VP80")])
@pytest.mark.parametrize("renamed", ["clip.jpg", "clip"])
def test_a_video_is_known_by_its_content_and_not_by_its_name(tmp_path, suffix, fourcc, renamed):
    path = write_video(tmp_path / f"clip.{suffix}", fourcc)
    if not path.exists() or path.stat().st_size < 1000:
        pytest.skip(f"this OpenCV writes no {suffix}")
    path = path.rename(tmp_path / renamed)
    assert medium_of(path) == "video"
    assert count_frames(path) == 20


def test_an_animated_gif_is_a_video(tmp_path):
    frames = [Image.fromarray(np.full((24, 32, 3), 40 * i, np.uint8)) for i in range(5)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], loop=0, duration=100)
    assert medium_of(tmp_path / "a.gif") == "video"
    assert count_frames(tmp_path / "a.gif") >= 5


@pytest.mark.parametrize(
    "content",
    [b"", b"words", b"BM, a note", b"path,label\n", b"{}", b"P1anning", b"RIFF\0\0\0\0WAVE", b"\0\0\0\x20ftypM4A ",
     b"\0\5\x16\7\0\2\0\0Mac OS X        " + bytes(40), b"PK\x03\x04", b"%PDF-1.7"],
)  # fmt: skip
def test_other_files_are_neither(tmp_path, content):
    (tmp_path / "x.jpg").write_bytes(content)
    assert medium_of(tmp_path / "x.jpg") is None
    assert medium_of(tmp_path) is None


@pytest.mark.parametrize("name", ["2024-01-01T12:30:05", "take#1?%20", "frame_%03d", "café", b"caf\xe9", "a b'\"$"])
def test_any_name_is_read(tmp_path, name):
    stem = os.fsdecode(name)
    picture = save(tmp_path / f"{stem}.png", "PNG")
    video = write_video(tmp_path / "v.avi", "MJPG").rename(tmp_path / f"{stem}.avi")
    assert np.array_equal(read_picture(picture), FACE)
    assert count_frames(video) == 20
    for path in (picture, video):
        path.write_bytes(path.read_bytes()[:20])
        with pytest.raises(BadRecording) as caught:
            read_picture(path) if path == picture else count_frames(path)
        str(caught.value).encode()  # fit for every terminal and file


def test_a_relative_name_with_a_colon_is_read(tmp_path, monkeypatch):
    write_video(tmp_path / "v.avi", "MJPG").rename(tmp_path / "rtsp:clip.avi")
    monkeypatch.chdir(tmp_path)
    assert count_frames(type(tmp_path)("rtsp:clip.avi")) == 20


def test_a_huge_picture_is_refused_before_it_is_decoded(tmp_path):
    (tmp_path / "huge.png").write_bytes(huge_png())
    with pytest.raises(BadRecording, match=r"huge\.png has (40000×40000 pixels, )?more than the allowed 100 megapix"):
        read_picture(tmp_path / "huge.png")
    (tmp_path / "large.png").write_bytes(huge_png(11000, 11000))
    with pytest.raises(BadRecording, match=r"11000×11000 pixels, more than the allowed 100 megapixels\.$"):
        read_picture(tmp_path / "large.png")
    assert read_picture(save(tmp_path / "small.png", "PNG"), max_megapixels=0.001).shape == (24, 32, 3)
    with pytest.raises(BadRecording, match="32×24 pixels"):
        read_picture(tmp_path / "small.png", max_megapixels=0.0001)


def test_a_huge_video_is_refused(tmp_path):
    path = write_video(tmp_path / "v.avi", "MJPG")
    with pytest.raises(BadRecording, match=r"frames of 64×48 pixels"), open_video(path, max_megapixels=0.001):
        pass


@pytest.mark.parametrize("content", [b"\xff\xd8\xff\xe0 cut", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"II*\0"])
def test_a_damaged_picture_is_a_picture_that_cannot_be_read(tmp_path, content):
    path = tmp_path / "broken"
    path.write_bytes(content)
    assert medium_of(path) == "picture"
    with pytest.raises(BadRecording, match=r"broken cannot be read as a picture: .*\.$"):
        read_picture(path)


def test_nothing_of_the_libraries_reaches_the_terminal(tmp_path, capfd):
    (tmp_path / "words_001.mp4").write_text("words")
    (tmp_path / "cut.avi").write_bytes(write_video(tmp_path / "v.avi", "MJPG").read_bytes()[:300])
    for name in ("words_001.mp4", "cut.avi"):
        with contextlib.suppress(BadRecording):
            count_frames(tmp_path / name)
    assert capfd.readouterr() == ("", "")


def test_turned_pictures_stand_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    assert read_picture(save(tmp_path / "a.jpg", "JPEG", exif=exif)).shape == (32, 24, 3)


def test_the_rate_of_a_video_is_believed_only_where_it_can_be_true(tmp_path):
    class States:
        def __init__(self, fps):
            self.fps = fps

        def get(self, _):
            return self.fps

    with open_video(write_video(tmp_path / "v.avi", "MJPG")) as video:
        assert video_fps(video) == 10
    assert [video_fps(States(fps)) for fps in (0.0, float("nan"), float("inf"), -1.0, 90000.0)] == [30.0] * 5


@pytest.mark.parametrize(
    ("name", "hidden"),
    [("._a.jpg", True), (".ipynb_checkpoints/a.jpg", True), ("__MACOSX/a.jpg", True), ("sad/a.jpg", False)],
)
def test_leftovers_of_other_programs_are_hidden(tmp_path, name, hidden):
    root = tmp_path / ".cache" / "set"
    assert is_hidden(root / name, root) is hidden
    assert is_hidden(root / name) is name.startswith("._")
