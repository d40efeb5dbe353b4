"""What an expression network says of one face."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from emo_llama_ros.estimate import NAN
from emo_llama_ros.faces.alignment import FaceAxes
from emo_llama_ros.faces.face import Face, FloatArray
from emo_llama_ros.frames import RgbImage


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
    contempt: float = NAN
    """Probability of contempt beside the seven, which share the rest; NaN for a network that does not know it."""
    disagreement: float = NAN
    """How far people would disagree about this face: 0 all choose one display, 1 each as many. NaN where unknown."""
    features: FloatArray | None = None
    """(C, h, w) feature map, as the picture lies; None where the network gives none."""


class ExpressionReader(Protocol):
    """Reads the expression of a face."""

    @property
    def name(self) -> str:
        """Names the network for `FaceAnalyzer.name`."""

    def read(
        self, rgb: RgbImage, grey: npt.NDArray[np.uint8], axes: FaceAxes, movements: FloatArray | None = None
    ) -> Reading:
        """Return the reading of the face that lies at `axes` in an image given as RGB (H, W, 3) and grey (H, W).

        `movements` (32,) are those of `faces.blendshapes`, None where the face has no mesh; a reader may ignore them.
        """


def with_reading(face: Face, reading: Reading) -> Face:
    """Return the face with all that an expression network says about it."""
    return replace(
        face,
        expression=reading.probabilities,
        contempt=reading.contempt,
        disagreement=reading.disagreement,
        valence=reading.valence,
        arousal=reading.arousal,
        embedding=reading.embedding,
        features=reading.features,
    )
