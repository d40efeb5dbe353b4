"""Videos, still images and webcams as streams of stamped frames."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from emo_llama_ros.errors import BadRecording
from emo_llama_ros.frames import RawFrame
from emo_llama_ros.images.files import medium_of, open_video, quiet_opencv, read_picture, shown, video_fps

SECOND_NS = 1_000_000_000
START_NS = 1_000_000_000 * SECOND_NS
"""Stamp of a file's first frame (9 September 2001). Files carry no reliable date, and a fixed one repeats."""

STILL_FPS = 10.0
JPEG_QUALITY = 90
"""Faces are read as from raw images, at about a tenth of the size."""


def file_frames(
    files: Sequence[Path],
    hold_s: float = 5.0,
    fps: float | None = None,
    gap_s: float = 2.0,
    frame_id: str = "camera",
    start_ns: int = START_NS,
) -> Iterator[RawFrame]:
    """Yield the bgr8 frames of videos and still images, one file after another, `gap_s` seconds between two files.

    Videos keep their own frame times, thinned out to at most `fps` frames per second. Still images are held for
    `hold_s` seconds at `fps` (10 when None). Raises BadRecording naming the first file that cannot be read.
    """
    for file in files:
        if not file.is_file():
            raise BadRecording(f"There is no file {shown(file)}.")
    for file in files:
        if medium_of(file) == "picture":
            frames = _still_frames(file, hold_s, fps or STILL_FPS, frame_id, start_ns)
        else:
            frames = _video_frames(file, fps, frame_id, start_ns)
        for frame in frames:
            yield frame
            start_ns = frame.stamp_ns + round(gap_s * SECOND_NS)


def webcam_frames(
    source: int | str, fps: float | None = None, duration_s: float | None = None, frame_id: str = "camera"
) -> Iterator[RawFrame]:
    """Yield the bgr8 frames of a webcam (index or device path), stamped with the wall clock as they arrive.

    Ends after `duration_s` seconds, or when the camera gives no frame any more. `fps` is asked from the camera and
    kept by leaving frames out. Raises BadRecording when the camera cannot be opened.
    """
    with _opened(source) as camera:
        if fps:
            camera.set(cv2.CAP_PROP_FPS, fps)
        started_ns = time.time_ns()
        thinning = _Thinning(fps, started_ns)
        while camera.grab():
            stamp_ns = time.time_ns()
            if duration_s is not None and stamp_ns - started_ns > duration_s * SECOND_NS:
                return
            if thinning.keeps(stamp_ns):
                taken, image = camera.retrieve()
                if taken:
                    yield bgr_frame(image, stamp_ns, frame_id)


def bgr_frame(image: np.ndarray, stamp_ns: int, frame_id: str) -> RawFrame:
    """Return a BGR uint8 (H, W, 3) image as a bgr8 message without row padding."""
    height, width = image.shape[:2]
    data = np.ascontiguousarray(image).reshape(-1)
    return RawFrame(stamp_ns, frame_id, data, "bgr8", width, height, width * 3)


def jpeg_frame(frame: RawFrame, quality: int = JPEG_QUALITY) -> RawFrame:
    """Return a bgr8 frame without row padding as the JPEG message that compressed_image_transport would make of it."""
    pixels = frame.data.reshape(frame.height, frame.width, 3)
    _, data = cv2.imencode(".jpg", pixels, (cv2.IMWRITE_JPEG_QUALITY, quality))
    encoding = "bgr8; jpeg compressed bgr8"
    return RawFrame(frame.stamp_ns, frame.frame_id, data.reshape(-1), encoding, compressed=True)


class _Thinning:
    """Keeps at most `fps` frames per second: the first one of each period."""

    def __init__(self, fps: float | None, start_ns: int) -> None:
        self._fps, self._start_ns, self._last = fps, start_ns, -1

    def keeps(self, stamp_ns: int) -> bool:
        if self._fps is None:
            return True
        # Stamps are rounded, so that a frame may come a little before its period.
        period = int((stamp_ns - self._start_ns) * self._fps / SECOND_NS + 1e-3)
        kept = period > self._last
        self._last = max(period, self._last)
        return kept


def _still_frames(file: Path, hold_s: float, fps: float, frame_id: str, start_ns: int) -> Iterator[RawFrame]:
    image = read_picture(file)[:, :, ::-1]
    for index in range(max(1, round(hold_s * fps))):
        yield bgr_frame(image, start_ns + round(index * SECOND_NS / fps), frame_id)


def _video_frames(file: Path, fps: float | None, frame_id: str, start_ns: int) -> Iterator[RawFrame]:
    with open_video(file) as video:
        period_ns = round(SECOND_NS / video_fps(video))
        thinning = _Thinning(fps, start_ns)
        stamp_ns = start_ns - period_ns
        while True:
            read, image = video.read()
            if not read:
                break
            position_ms = video.get(cv2.CAP_PROP_POS_MSEC)
            position_ns = start_ns + round(position_ms * 1e6) if math.isfinite(position_ms) else start_ns
            # Damaged files repeat times or go back; every frame gets a later stamp than the one before.
            stamp_ns = position_ns if position_ns > stamp_ns else stamp_ns + period_ns
            if thinning.keeps(stamp_ns):
                yield bgr_frame(image, stamp_ns, frame_id)
        if stamp_ns < start_ns:
            raise BadRecording(f"{shown(file)} holds no frame that can be read.")


@contextmanager
def _opened(source: int | str) -> Iterator[cv2.VideoCapture]:
    with quiet_opencv():
        capture = cv2.VideoCapture(source)
    try:
        if not capture.isOpened():
            raise BadRecording(_why_no_camera(source))
        yield capture
    finally:
        capture.release()


def _why_no_camera(source: int | str) -> str:
    if isinstance(source, str) and not source.startswith("/dev/"):
        return f"There is no camera {source}: nothing answers at that address, or it sends no video."
    device = Path(f"/dev/video{source}" if isinstance(source, int) else source)
    if not device.exists():
        others = sorted(str(path) for path in Path("/dev").glob("video*"))
        there = f"there is {', '.join(others)}" if others else "this machine shows no video device"
        return f"There is no camera {source}: {there} (a container needs --device={device})."
    if not os.access(device, os.R_OK | os.W_OK):
        return f"{device} may not be read: join the group video (`sudo usermod -aG video $USER`) and log in again."
    return f"{device} gives no picture: another program uses it, or it is no camera; many cameras have two devices."
