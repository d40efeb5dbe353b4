"""Drawn faces with votes, to see that training works where there are no data. Nothing can be learned about people."""

from __future__ import annotations

import cv2
import numpy as np

from emo_llama_ros.data.ferplus import FER2013_NAMES, SIDE, SPLITS, VOTE_NAMES, VotedFaces, majority_of
from emo_llama_ros.faces.blendshapes import MOVEMENTS
from emo_llama_ros.labels import FERPLUS
from emo_llama_ros.training.eyes.framing import Framed

_SHAPES = {  # corners' rise and opening of the mouth, rise of the brows' inner ends, opening of the eyes
    "neutral": (0.0, 0.1, 0.0, 0.5),
    "happiness": (1.0, 0.3, 0.0, 0.4),
    "surprise": (0.0, 1.0, 0.6, 1.0),
    "sadness": (-1.0, 0.1, 0.8, 0.4),
    "anger": (-0.4, 0.1, -1.0, 0.6),
    "disgust": (-0.6, 0.5, -0.5, 0.2),
    "fear": (-0.3, 0.7, 1.0, 1.0),
    "contempt": (0.4, 0.0, -0.2, 0.4),
}


def made_up_faces(count: int, seed: int) -> VotedFaces:
    """Return `count` drawn faces with the votes of ten imagined people; every fifth lies in the validation split."""
    random = np.random.default_rng(seed)
    displays = random.integers(0, len(FERPLUS.labels), count)
    images = np.stack([_draw(FERPLUS.labels[display], random) for display in displays])
    votes = np.zeros((count, len(VOTE_NAMES)), np.uint8)
    for row, display in enumerate(displays):
        agreeing = int(random.integers(6, 11))
        votes[row, display] = agreeing
        votes[row, random.integers(0, len(FERPLUS.labels))] += 10 - agreeing
    fer2013 = [FER2013_NAMES.index(name) if (name := FERPLUS.labels[d]) in FER2013_NAMES else 6 for d in displays]
    split = (np.arange(count) % 5 == 4).astype(np.uint8)
    assert SPLITS[:2] == ("train", "validation")
    return VotedFaces(
        images,
        votes,
        majority_of(votes),
        np.array(fer2013, np.uint8),
        split,
        np.arange(count, dtype=np.int32),
        tuple(f"made_up_{number}.png" for number in range(count)),
    )


def made_up_framing(faces: VotedFaces) -> Framed:
    """Return drawn faces as the node would see them, were they real: every tenth not found, a smile where one is."""
    random = np.random.default_rng(len(faces))
    movements = random.uniform(0, 0.2, (len(faces), len(MOVEMENTS))).astype(np.float32)
    movements[faces.majority == FERPLUS.labels.index("happiness"), MOVEMENTS.index("mouthSmile")] += 0.6
    movements[::10] = np.nan
    return Framed(faces.images, movements)


def _draw(display: str, random: np.random.Generator) -> np.ndarray:
    rise, opening, brows, eyes = (value + random.normal(0, 0.12) for value in _SHAPES[display])
    skin, dark = int(random.integers(110, 220)), int(random.integers(10, 60))
    picture = np.full((SIDE * 4, SIDE * 4), int(random.integers(0, 255)), np.uint8)
    cv2.ellipse(picture, (96, 96), (80, 94), 0, 0, 360, skin, -1)
    for side in (-1, 1):
        x = 96 + side * 34
        cv2.ellipse(picture, (x, 80), (15, max(2, round(10 * eyes))), 0, 0, 360, 245, -1)
        cv2.circle(picture, (x, 80), max(2, round(6 * eyes)), dark, -1)
        cv2.line(picture, (x - side * 16, round(58 - 10 * brows)), (x + side * 18, 58), dark, 5)
    corners = round(148 - 14 * rise)
    points = np.array([[62, corners], [96, 150 + round(8 * opening)], [130, corners], [96, 150 - round(10 * opening)]])
    cv2.polylines(picture, [points.astype(np.int32)], True, dark, 6)
    small = cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return np.clip(small + random.normal(0, 6, small.shape), 0, 255).astype(np.uint8)
