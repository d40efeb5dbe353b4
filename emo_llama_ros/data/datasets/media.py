"""Pixels of a sample: frames spread evenly over an image, a video or a folder of frames."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from emo_llama_ros.data.datasets.sample import Sample
from emo_llama_ros.errors import BadData, BadRecording
from emo_llama_ros.frames import SECOND_NS, Frame
from emo_llama_ros.images.files import count_frames, is_hidden, medium_of, open_video, read_picture, shown, video_fps

FRAME_FOLDER_FPS = 25.0
"""Assumed rate of frame folders: none of the datasets states one, and film has 24 to 30."""


def sample_frames(sample: Sample, count: int) -> list[Frame]:
    """Return the frames of a sample, as `read_frames` does of a path."""
    return [Frame(0, "", sample.picture)] if sample.picture is not None else read_frames(sample.path, count)


def read_frames(path: Path, count: int) -> list[Frame]:
    """Return at most `count` frames, RGB uint8 (H, W, 3), oldest first; a still image gives one.

    What a file is tells its content. Frames are the centres of `count` equal segments; stamps count from the first
    frame of the file. Damaged frames are left out. Raises BadData that names what cannot be read at all.
    """
    try:
        if path.is_dir():
            return _read_folder(path, count)
        if not path.exists():
            raise BadData(f"There is no file {shown(path)}.")
        medium = medium_of(path)
        if medium is None:
            raise BadData(f"{shown(path)} is {'no' if path.stat().st_size else 'empty, and no'} picture or video.")
        return [Frame(0, "", read_picture(path))] if medium == "picture" else _read_video(path, count)
    except BadRecording as error:
        raise BadData(str(error)) from None


def frame_files(folder: Path) -> list[Path]:
    """Return the images of a folder in the order of the numbers in their names; raise BadData when there are none."""
    files = [p for p in folder.iterdir() if not is_hidden(p) and medium_of(p) == "picture"]
    if not files:
        raise BadData(f"The clip folder {shown(folder)} holds no images.")
    return sorted(files, key=lambda p: ([int(n) for n in re.findall(r"\d+", p.stem)], p.name))


def segment_centres(length: int, count: int) -> list[int]:
    """Return the indices at the centres of `count` equal segments of `length` frames, each index once."""
    centres = ((np.arange(count) + 0.5) * length / count).astype(int)
    return sorted(set(centres.tolist()))


def _read_folder(folder: Path, count: int) -> list[Frame]:
    files = frame_files(folder)
    frames, fault = [], None
    for i in segment_centres(len(files), count):
        try:
            frames.append(Frame(round(i / FRAME_FOLDER_FPS * SECOND_NS), "", read_picture(files[i])))
        except BadRecording as error:
            fault = fault or error
    if fault is not None and not frames:
        raise fault
    return frames


def _read_video(path: Path, count: int) -> list[Frame]:
    with open_video(path) as video:
        import cv2

        stated = video.get(cv2.CAP_PROP_FRAME_COUNT)
    # Headers of streams state no length, and those of cut or damaged files a wrong one.
    length = int(stated) if 1 <= stated <= 1e7 else count_frames(path)
    frames, ended = _frames_at(path, segment_centres(length, count))
    if ended is not None:
        frames, _ = _frames_at(path, segment_centres(ended, count))
    if not frames:
        raise BadRecording(f"{shown(path)} holds no frame that can be read.")
    return frames


def _frames_at(path: Path, wanted: list[int]) -> tuple[list[Frame], int | None]:
    """Return the frames with these numbers, and the true length of a video that ends before the last of them."""
    import cv2

    frames: list[Frame] = []
    with open_video(path) as video:
        fps = video_fps(video)
        # Reading in order is exact for every codec; seeking is not.
        for i in range(max(wanted, default=-1) + 1):
            if not video.grab():
                return frames, i
            if i in wanted:
                decoded, image = video.retrieve()
                if decoded:
                    rgb = cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)
                    frames.append(Frame(round(i / fps * SECOND_NS), "", rgb))
    return frames, None
