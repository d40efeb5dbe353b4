"""Real faces where the networks and media were fetched, made-up ones everywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
import pytest

from emo_llama_ros.faces.blendshapes import SCORES
from emo_llama_ros.faces.face import Box, Face, HeadPose, QualityFlaw
from emo_llama_ros.faces.measures import NAMES
from emo_llama_ros.labels import RAF_DB
from emo_llama_ros.options import Options
from emo_llama_ros.perception.baseline import Baselines
from emo_llama_ros.perception.clips import Clip, ClipWindows

NEUTRAL_MEASURES = {
    "lips_apart": 0.0, "jaw_drop": 0.76, "lip_corner_lift": 0.0, "lip_corner_height": -0.85,
    "upper_lip_thickness": 0.08, "lower_lip_thickness": 0.12, "upper_lip_height": -0.77, "lower_lip_height": -0.97,
    "philtrum_length": 0.19, "chin_length": 0.37, "nose_wing_height": -0.55, "inner_brow_height": 0.29,
    "outer_brow_height": 0.26, "cheek_height": -0.46, "mouth_width": 0.60, "nose_width": 0.40, "brow_gap": 0.31,
    "eye_opening": 0.34, "browInnerUp": 0.28, "browOuterUp": 0.13, "browDown": 0.01, "eyeWide": 0.01, "eyeSquint": 0.33,
    "eyeBlink": 0.10, "mouthSmile": 0.0, "mouthLowerDown": 0.0, "mouthStretch": 0.0,
    "jawOpen": 0.02,
}  # fmt: skip


@pytest.fixture(scope="session")
def picture(media) -> Callable[[str], np.ndarray]:
    """Return a still as RGB (H, W, 3)."""
    import cv2

    @cache
    def read(name: str) -> np.ndarray:
        return np.ascontiguousarray(cv2.imread(str(media(name)))[:, :, ::-1])

    return read


@pytest.fixture(scope="session")
def video(media) -> Callable[..., Iterator[tuple[int, np.ndarray]]]:
    """Return every `step`-th frame of a video with its stamp in nanoseconds."""
    import cv2

    def read(name: str, step: int = 1) -> Iterator[tuple[int, np.ndarray]]:
        capture = cv2.VideoCapture(str(media(name)))
        rate = capture.get(cv2.CAP_PROP_FPS)
        number = 0
        while True:
            there, bgr = capture.read()
            if not there:
                return
            if number % step == 0:
                yield round(number / rate * 1e9), np.ascontiguousarray(bgr[:, :, ::-1])
            number += 1

    return read


@pytest.fixture(scope="session")
def faces_of(analyzer, video) -> Callable[..., list[tuple[int, list[Face]]]]:
    """Return stamps and faces of every `step`-th frame of a video; each video is analyzed once in a test run."""

    @cache
    def analyze(name: str, step: int) -> list[tuple[int, list[Face]]]:
        return [(stamp, analyzer.analyze(rgb)) for stamp, rgb in video(name, step)]

    return analyze


@pytest.fixture
def make_face() -> Callable[..., Face]:
    """Return a made-up face: by default neutral, frontal, 100 pixels wide, in the middle of a VGA image."""

    def make(
        x: float = 320, y: float = 240, width: float = 100, colour: tuple[int, int, int] = (180, 140, 120),
        label: str = "neutral", measures: dict[str, float] | None = None, **parts,
    ) -> Face:  # fmt: skip
        probabilities = np.full(7, 0.05, np.float32)
        probabilities[RAF_DB.index(label)] = 0.7
        known = {
            "crop": np.full((224, 224, 3), colour, np.uint8),
            "pose": HeadPose(0, 0, 0),
            "expression": probabilities,
            "measures": NEUTRAL_MEASURES | (measures or {}),
        }
        return Face(Box(x - width / 2, y - width / 2, width, width), 0.9, **(known | parts))

    assert set(NEUTRAL_MEASURES) == {*NAMES, *SCORES}
    return make


@pytest.fixture
def make_clip(make_face) -> Callable[..., Clip]:
    """Return a clip with one frame each quarter of a second; each frame is given by its changed measures or a flaw."""

    def make(*frames: dict[str, float] | QualityFlaw, baseline: dict[str, float] | None = NEUTRAL_MEASURES) -> Clip:
        faces = [
            make_face(flaws=frame) if isinstance(frame, QualityFlaw) else make_face(measures=frame) for frame in frames
        ]
        stamps = tuple(1_000_000_000 + i * 250_000_000 for i in range(len(faces)))
        return Clip("bcd23", "camera", stamps, tuple(faces), baseline)

    return make


@pytest.fixture
def clips_of(faces_of) -> Callable[..., list[Clip]]:
    """Return the clips of the one person in a video, as the perception cuts them."""

    def cut(name: str, step: int) -> list[Clip]:
        windows, baselines = ClipWindows(Options()), Baselines(Options())
        clips = []
        for stamp, faces in faces_of(name, step):
            if not faces:
                continue
            baselines.add("one", stamp, faces[0])
            if windows.add("one", stamp, faces[0]):
                clips.append(windows.cut("one", "camera", baselines.of("one")))
        return [clip for clip in clips if clip]

    return cut
