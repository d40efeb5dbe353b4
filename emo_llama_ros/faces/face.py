"""What is known about one face in one frame, and what can find it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntFlag
from typing import Protocol

import numpy as np
import numpy.typing as npt

from emo_llama_ros.estimate import NAN
from emo_llama_ros.frames import RgbImage
from emo_llama_ros.options import Options

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Box:
    """An axis-aligned box in pixels of the full image: top-left corner, width, height. May reach over the border."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class HeadPose:
    """Head rotation in degrees: yaw > 0 turns to the image's right, pitch > 0 looks up, roll > 0 is clockwise."""

    yaw: float
    pitch: float
    roll: float


class QualityFlaw(IntFlag):
    """Why a face cannot be read reliably; NONE is a good face."""

    NONE = 0
    SMALL = 1
    TURNED = 2
    BLURRED = 4
    DARK = 8
    CUT_OFF = 16
    NO_LANDMARKS = 32
    OVEREXPOSED = 64
    OCCLUDED = 128
    """Eyes or mouth are covered."""


@dataclass(frozen=True, slots=True)
class Face:
    """One face in one frame. What the analyzer does not measure is None (numbers: NaN), never zero."""

    box: Box
    score: float
    """Detector confidence in [0, 1]."""
    crop: RgbImage
    """RGB uint8 (224, 224, 3): the box with 25 % margin per side, padded to a square with (122, 116, 104)."""
    landmarks: FloatArray | None = None
    """(N, 3) float32: x and y in pixels of the full image, z in the same scale; N = 478 for the mesh with irises."""
    pose: HeadPose | None = None
    expression: FloatArray | None = None
    """(7,) float32 probabilities in the order of `labels.RAF_DB`, as the network gives them."""
    contempt: float = NAN
    """Probability of contempt beside the seven, which share the rest; NaN where the network does not know it."""
    disagreement: float = NAN
    """How far people would disagree about this face, 0 .. 1, see `faces.expression.Reading`; NaN where unknown."""
    valence: float = NAN
    """Displeasure -1 .. pleasure 1 as the expression network gave it; NaN where it gives none."""
    arousal: float = NAN
    """Calm -1 .. excited 1 as the expression network gave it; NaN where it gives none."""
    measures: Mapping[str, float] = field(default_factory=dict)
    """Scale-free measures of the landmarks, see `faces.measures`, and blendshape scores, see `faces.blendshapes`; empty
    without landmarks."""
    embedding: FloatArray | None = None
    """(E,) float32 feature vector of the face for the language model's face branch. Never published or stored."""
    features: FloatArray | None = None
    """(C, h, w) float32 feature map of the face for the language model's face branch. Never published or stored."""
    flaws: QualityFlaw = QualityFlaw.NONE
    apparent_age: float | None = None
    """Years, as a network guesses them. Read only when the option agr_prompt is on; never published."""
    apparent_gender: str = ""
    """"man" or "woman", as a network guesses it; empty where nobody asked. Never published."""


class FaceAnalyzer(Protocol):
    """Finds every face in an image, and reads those that are wanted: reading costs about as much as finding.

    Stateless between images: following people is the tracker's work.
    """

    @property
    def name(self) -> str:
        """Names the networks in use, for diagnostics and `Estimate.model`."""

    def find(self, rgb: RgbImage, known: Sequence[Face] = (), everywhere: bool = True) -> list[Face]:
        """Return the faces of an RGB uint8 image (H, W, 3), the largest first, with box, score, crop and landmarks.

        The other parts may be missing. `known` are the faces of an image taken a moment ago: they are also looked for
        where they were, which costs little. Without `everywhere` an analyzer may look nowhere else, as long as all of
        them are still there.
        """

    def read(self, rgb: RgbImage, faces: Sequence[Face]) -> list[Face]:
        """Return faces that were found in this image, in order, with everything that is measured on them."""

    def analyze(self, rgb: RgbImage) -> list[Face]:
        """Return all faces of an image, read."""


@dataclass(frozen=True, slots=True)
class AnalyzerDeclaration:
    """What an analyzer says of itself before any of its packages is imported or its files are read.

    Each choice of the option `analyzer` is a module of this folder with a `DECLARATION` of that name.
    """

    name: str
    make: Callable[[Options], FaceAnalyzer]
    """Returns it; raises MissingModel or MissingDependency when a file or package that it needs is not there."""
    networks: tuple[str, ...]
    """Files of `emo_llama fetch` that it reads."""
    folder: str = ""
    """The option that names a folder which it needs, "" where none is needed."""
    extra: str = ""
    """The extra of this package that brings its packages, "" where none is needed."""
