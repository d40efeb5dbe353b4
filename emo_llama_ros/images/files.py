"""Picture and video files: what a file is, by its content, and its pixels or frames.

A suffix says nothing: `.jfif` holds JPEG, `.jpg` may hold WebP, and files come without any. So one table of the first
bytes decides, for the bag maker and for every data set. Names are never handed to OpenCV, which takes a colon for a
protocol, `%d` for a numbered series, and ends the process at bytes that are not UTF-8.
"""

from __future__ import annotations

import io
import math
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from PIL import Image, ImageOps

from emo_llama_ros.errors import BadRecording
from emo_llama_ros.frames import RgbImage

# OpenCV reads it once, when the first video is opened or written: no codec's chatter reaches the terminal.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

Medium = Literal["picture", "video"]

MAX_MEGAPIXELS = 100.0
"""Larger pictures and videos are refused by their header, before memory is taken for them."""

DEFAULT_FPS = 30.0
"""Rate of a video that states none, or none that can be true."""

# (offset, bytes there, what it is). ISO media ("ftyp"), RIFF and MPEG-TS need a second look and stand in `medium_of`.
_SIGNATURES: tuple[tuple[int, bytes, Medium], ...] = (
    (0, b"\xff\xd8\xff", "picture"),  # JPEG
    (0, b"\x89PNG\r\n\x1a\n", "picture"),
    (0, b"BM", "picture"),  # BMP; checked further below
    (0, b"II*\0", "picture"),  # TIFF, and BigTIFF two lines on
    (0, b"MM\0*", "picture"),
    (0, b"II+\0", "picture"),
    (0, b"MM\0+", "picture"),
    (0, b"\0\0\0\x0cjP  ", "picture"),  # JPEG 2000
    (0, b"\xff\x4f\xff\x51", "picture"),  # JPEG 2000 codestream
    (0, b"\0\0\0\x0cJXL ", "picture"),
    (0, b"\xff\x0a", "picture"),  # JPEG XL codestream
    (0, b"\x59\xa6\x6a\x95", "picture"),  # Sun raster
    (0, b"\x76\x2f\x31\x01", "picture"),  # OpenEXR
    (0, b"#?RADIANCE", "picture"),
    (0, b"#?RGBE", "picture"),
    (0, b"qoif", "picture"),
    (0, b"\x1a\x45\xdf\xa3", "video"),  # Matroska, WebM
    (0, b"FLV\x01", "video"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "video"),  # ASF, WMV
    (0, b"OggS", "video"),
    (0, b".RMF", "video"),
    (0, b"DKIF", "video"),  # IVF
    (0, b"YUV4MPEG2 ", "video"),
    (0, b"\0\0\x01\xba", "video"),  # MPEG program stream
    (0, b"\0\0\x01\xb3", "video"),  # MPEG-1 and MPEG-2 video
    (0, b"\0\0\0\x01\x67", "video"),  # H.264
    (0, b"\0\0\0\x01\x40\x01", "video"),  # H.265
    (4, b"moov", "video"),  # QuickTime before "ftyp" was written
    (4, b"mdat", "video"),
    (4, b"wide", "video"),
    (4, b"free", "video"),
    (4, b"skip", "video"),
)
_PICTURE_BRANDS = frozenset({b"avif", b"avis", b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"})
_SOUND_BRANDS = frozenset({b"M4A ", b"M4B ", b"M4P "})
_HEAD_BYTES = 4096
_LEFTOVER_FOLDER = "__MACOSX"
_NUMBERED_SERIES = frozenset({".mjpg", ".mjpeg"})  # JPEGs in a row: the only content that a first frame cannot tell


def medium_of(path: Path) -> Medium | None:
    """Return what the content of a file is by its first bytes; None for anything else, for folders and empty files.

    A damaged picture is still a picture, so that reading it says what is wrong. An animated GIF is a video. Raises
    BadRecording where the file may not be read.
    """
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise BadRecording(f"{shown(path)} cannot be read: {error.strerror}.") from None
    if head.startswith(b"\xff\xd8\xff") and path.suffix.lower() in _NUMBERED_SERIES:
        return "video"
    return _medium(head)


def _medium(head: bytes) -> Medium | None:
    if head[4:8] == b"ftyp":
        brand = head[8:12]
        if brand in _PICTURE_BRANDS:
            return "picture"
        return None if brand in _SOUND_BRANDS else "video"
    if head[:4] == b"RIFF":
        kinds: dict[bytes, Medium] = {b"WEBP": "picture", b"AVI ": "video"}
        return kinds.get(head[8:12])
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return "video" if b"NETSCAPE2.0" in head else "picture"
    if head[:2] in (b"P1", b"P2", b"P3", b"P4", b"P5", b"P6", b"P7") and head[2:3].isspace():
        return "picture"
    if any(
        len(head) > start + 376 and head[start] == head[start + step] == head[start + 2 * step] == 0x47
        for start, step in ((0, 188), (4, 192))
    ):  # MPEG transport stream, and as Blu-ray stores it
        return "video"
    if head[:2] == b"BM" and (len(head) < 18 or not 12 <= int.from_bytes(head[14:18], "little") <= 124):
        return None  # two letters alone are no bitmap: its second header has one of a few lengths
    return next((medium for at, sign, medium in _SIGNATURES if head[at : at + len(sign)] == sign), None)


def is_hidden(path: Path, root: Path | None = None) -> bool:
    """Return whether a file or folder is none of the user's data: `._a.jpg`, `.ipynb_checkpoints/a.jpg`, `__MACOSX/`.

    With `root`, the folders between it and the file count too; what lies above `root` never does.
    """
    parts = path.relative_to(root).parts if root is not None else (path.name,)
    return any(part.startswith(".") or part == _LEFTOVER_FOLDER for part in parts)


def shown(path: Path) -> str:
    """Return a path as text that any terminal and any UTF-8 file takes: foreign bytes of a name become `�`."""
    return os.fsencode(path).decode("utf-8", "replace")


def read_picture(path: Path, max_megapixels: float = MAX_MEGAPIXELS) -> RgbImage:
    """Return the pixels of a picture file as RGB uint8 (H, W, 3), turned as its EXIF orientation says.

    Of an animation the first frame is taken. Raises BadRecording, naming the file, when it is damaged, of a kind that
    cannot be decoded, or has more than `max_megapixels` million pixels by its header.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadRecording(f"{shown(path)} cannot be read: {error.strerror}.") from None
    if not content:
        raise BadRecording(f"{shown(path)} is empty.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns about sizes and tags; the size is judged here
        try:
            with Image.open(io.BytesIO(content)) as picture:
                width, height = picture.size
        except Image.DecompressionBombError:
            raise BadRecording(f"{shown(path)} has more than the allowed {max_megapixels:g} megapixels.") from None
        except Exception:  # plugins raise what they like at arbitrary bytes
            width = height = 0
        if width * height > max_megapixels * 1e6:
            raise BadRecording(
                f"{shown(path)} has {width}×{height} pixels, more than the allowed {max_megapixels:g} megapixels."
            )
        image = _decoded(content) if width else None
    if image is None:
        raise BadRecording(f"{shown(path)} cannot be read as a picture: it is damaged, or of a kind that is not known.")
    return image


def _decoded(content: bytes) -> RgbImage | None:
    """Decode with OpenCV, which is faster, or with Pillow, which knows more kinds."""
    with quiet_opencv():
        try:
            image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
        except cv2.error:
            image = None
    if image is not None:
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
    try:
        with Image.open(io.BytesIO(content)) as picture:
            return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"), np.uint8)
    except Exception:
        return None


@contextmanager
def open_video(path: Path, max_megapixels: float = MAX_MEGAPIXELS) -> Iterator[cv2.VideoCapture]:
    """Open a video file for reading; raise BadRecording, naming it, where it is none or its frames are too large."""
    with tempfile.TemporaryDirectory(prefix="emo_llama_") as folder:
        link = Path(folder, "video")  # without suffix: FFmpeg judges by content too
        try:
            link.symlink_to(path.resolve())
        except OSError:  # a file system without links
            link = path
        with quiet_opencv():
            with_ffmpeg = cv2.videoio_registry.hasBackend(cv2.CAP_FFMPEG)
            capture = cv2.VideoCapture(str(link), cv2.CAP_FFMPEG if with_ffmpeg else cv2.CAP_ANY)
        try:
            if not capture.isOpened():
                raise BadRecording(
                    f"{shown(path)} cannot be read as a video: it is damaged, or of a kind that is not known."
                )
            width, height = (int(capture.get(p)) for p in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
            if width * height > max_megapixels * 1e6:
                raise BadRecording(
                    f"{shown(path)} has frames of {width}×{height} pixels, more than the allowed "
                    f"{max_megapixels:g} megapixels."
                )
            yield capture
        finally:
            capture.release()


def video_fps(capture: cv2.VideoCapture) -> float:
    """Return the frames per second that an open video states, or DEFAULT_FPS where that cannot be true."""
    fps = capture.get(cv2.CAP_PROP_FPS)
    return fps if math.isfinite(fps) and 0.01 <= fps <= 1000.0 else DEFAULT_FPS


def count_frames(path: Path) -> int:
    """Return how many frames of a video can be read, by reading them: headers state none, or a wrong number."""
    with open_video(path) as video:
        count = 0
        while video.grab():
            count += 1
        return count


@contextmanager
def quiet_opencv() -> Iterator[None]:
    """Keep OpenCV's own warnings away from the terminal; what is wrong is said in our words."""
    logging = getattr(getattr(cv2, "utils", None), "logging", None)
    if logging is None:
        yield
        return
    level = logging.getLogLevel()
    logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        logging.setLogLevel(level)
