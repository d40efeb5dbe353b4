"""Pixels of a sample: frames spread evenly over an image, a video or a folder of frames."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from emo_llama_ros.data.datasets.sample import IMAGE_SUFFIXES
from emo_llama_ros.errors import BadData
from emo_llama_ros.frames import Frame, RgbImage
from emo_llama_ros.perception.clips import SECOND_NS

FRAME_FOLDER_FPS = 25.0
"""Assumed rate of frame folders: none of the datasets states one, and film has 24 to 30."""


def read_frames(path: Path, count: int) -> list[Frame]:
    """Return at most `count` frames, RGB uint8 (H, W, 3), oldest first; a still image gives one.

    Frames are the centres of `count` equal segments; stamps count from the first frame of the file. Raises BadData
    that names what cannot be read.
    """
    if path.is_dir():
        files = frame_files(path)
        chosen = segment_centres(len(files), count)
        return [Frame(round(i / FRAME_FOLDER_FPS * SECOND_NS), "", _read_image(files[i])) for i in chosen]
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return [Frame(0, "", _read_image(path))]
    return _read_video(path, count)


def frame_files(folder: Path) -> list[Path]:
    """Return the images of a folder in the order of the numbers in their names; raise BadData when there are none."""
    files = [p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES]
    if not files:
        raise BadData(f"The clip folder {folder} holds no images.")
    return sorted(files, key=lambda p: ([int(n) for n in re.findall(r"\d+", p.stem)], p.name))


def segment_centres(length: int, count: int) -> list[int]:
    """Return the indices at the centres of `count` equal segments of `length` frames, each index once."""
    centres = ((np.arange(count) + 0.5) * length / count).astype(int)
    return sorted(set(centres.tolist()))


def _read_image(path: Path) -> RgbImage:
    import cv2

    # OpenCV reports an unreadable file by returning None, and cannot open non-ASCII paths on every platform.
    image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR) if path.stat().st_size else None
    if image is None:
        raise BadData(f"The image {path} is damaged or not an image.")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)


def _read_video(path: Path, count: int) -> list[Frame]:
    import cv2

    video = cv2.VideoCapture(str(path))
    try:
        length = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
        fps = video.get(cv2.CAP_PROP_FPS) or FRAME_FOLDER_FPS
        if not video.isOpened() or length < 1:
            raise BadData(f"The video {path} is damaged or of an unknown format.")
        wanted = set(segment_centres(length, count))
        frames = []
        # Reading in order is exact for every codec; seeking is not.
        for i in range(max(wanted) + 1):
            if not video.grab():
                break
            if i in wanted:
                decoded, image = video.retrieve()
                if decoded:
                    rgb = cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)
                    frames.append(Frame(round(i / fps * SECOND_NS), "", rgb))
    finally:
        video.release()
    if not frames:
        raise BadData(f"No frame of the video {path} can be decoded.")
    return frames
