"""From frames of one person to the clip that a backend reads, and what is measured in it."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

import numpy as np

from emo_llama_ros.data.datasets.sample import Dataset
from emo_llama_ros.errors import BadParameter
from emo_llama_ros.faces.alignment import PADDING_RGB, FaceAxes, margin_crop
from emo_llama_ros.faces.emo_eyes import FER_DROP, FER_SCALE
from emo_llama_ros.faces.expression import ExpressionReader, with_reading
from emo_llama_ros.faces.face import Box, Face, FaceAnalyzer
from emo_llama_ros.faces.make import make_analyzer
from emo_llama_ros.faces.reader import make_expression_reader, to_grey
from emo_llama_ros.frames import Frame, RgbImage
from emo_llama_ros.options import Options
from emo_llama_ros.perception.baseline import Baselines
from emo_llama_ros.perception.clips import Clip

BORDER = 0.5
"""Added on each side of a tight face crop, as a share of its size, so that a detector finds the face."""


class Faces(str, Enum):
    """Where the face is in a picture."""

    AUTO = "auto"
    """WHOLE for datasets cut like FER2013 where no mesh is wanted, PAD for other face crops, DETECT for all others."""
    DETECT = "detect"
    """Wherever the analyzer finds it; the largest one counts."""
    PAD = "pad"
    """As DETECT, after a border was put around the picture."""
    WHOLE = "whole"
    """The picture is the face, upright and cut like FER2013: its expression is read, nothing else is measured."""

    def resolve(self, dataset: Dataset, mesh: bool = False) -> Faces:
        """Return what AUTO means for `dataset`, with a `mesh` for each face if wanted, and anything else as it is."""
        if self is not Faces.AUTO:
            return self
        if dataset.aligned and not mesh:
            return Faces.WHOLE
        return Faces.PAD if dataset.cropped else Faces.DETECT


class WholePicture:
    """Takes every picture for one upright face; its expression is read where there is a reader."""

    name = "whole picture"

    def __init__(self, expression: ExpressionReader | None = None) -> None:
        self._expression = expression

    def find(self, rgb: RgbImage, known: Sequence[Face] = (), everywhere: bool = True) -> list[Face]:
        """Return the one face, which is the picture (H, W, 3), whatever is known."""
        height, width = rgb.shape[:2]
        return [Face(Box(0, 0, width, height), 1.0, margin_crop(rgb, _inner_box(width, height)))]

    def read(self, rgb: RgbImage, faces: Sequence[Face]) -> list[Face]:
        """Return the face with its expression."""
        if self._expression is None:
            return list(faces)
        reading = self._expression.read(rgb, to_grey(rgb), whole_axes(*rgb.shape[:2]))
        return [with_reading(face, reading) for face in faces]

    def analyze(self, rgb: RgbImage) -> list[Face]:
        """Return the face, read."""
        return self.read(rgb, self.find(rgb))


def whole_axes(height: int, width: int) -> FaceAxes:
    """Return the axes of the face in a picture that is cut like FER2013."""
    unit = min(height, width) / FER_SCALE
    return FaceAxes((width - 1) / 2, (height - 1) / 2 - FER_DROP * unit, unit, 0.0)


def face_finder(faces: Faces, options: Options) -> FaceAnalyzer:
    """Return what finds and reads the faces of pictures; raises as `faces.make.make_analyzer`."""
    if faces is Faces.WHOLE:
        return WholePicture(make_expression_reader(options))
    return make_analyzer(options)


def clip_of(
    frames: Sequence[Frame], name: str, faces: Faces, analyzer: FaceAnalyzer | None, options: Options
) -> Clip | None:
    """Return the clip of the largest face in each frame; None when no frame shows one.

    Frames without a face are left out. The clip has a baseline where its own frames show enough of a neutral face.
    `faces` is not AUTO; `analyzer` is that of `face_finder`, and may be None for WHOLE, where nothing is read then.
    """
    found = [(frame.stamp_ns, face) for frame in frames if (face := _face(frame, faces, analyzer)) is not None]
    if not found:
        return None
    baselines = Baselines(options)
    for stamp_ns, face in found:
        baselines.add(name, stamp_ns, face)
    return Clip(
        face_id=name,
        frame_id="",
        stamps_ns=tuple(stamp for stamp, _ in found),
        faces=tuple(face for _, face in found),
        baseline=baselines.of(name),
    )


def _face(frame: Frame, faces: Faces, analyzer: FaceAnalyzer | None) -> Face | None:
    if faces is Faces.WHOLE:
        whole = analyzer if isinstance(analyzer, WholePicture) else WholePicture()
        return whole.analyze(frame.rgb)[0]
    if analyzer is None:
        raise BadParameter("Finding faces needs an analyzer; choose faces = whole to do without.")
    found = analyzer.analyze(pad(frame.rgb) if faces is Faces.PAD else frame.rgb)
    return found[0] if found else None


def _inner_box(width: int, height: int) -> Box:
    # The crop adds 25 % of the box per side: the box that gives the whole picture is 1 / 1.5 as large.
    return Box(width / 6, height / 6, width / 1.5, height / 1.5)


def pad(rgb: RgbImage) -> RgbImage:
    """Return a picture (H, W, 3) with a plain border of `BORDER` of its size on each side."""
    height, width = rgb.shape[:2]
    above, left = round(height * BORDER), round(width * BORDER)
    padded = np.empty((height + 2 * above, width + 2 * left, 3), np.uint8)
    padded[:] = PADDING_RGB
    padded[above : above + height, left : left + width] = rgb
    return padded
