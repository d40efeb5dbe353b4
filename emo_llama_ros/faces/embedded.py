"""From an image to the faces in it, with everything that is measured on each."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from emo_llama_ros.errors import BadParameter
from emo_llama_ros.faces import blazeface, blendshapes, expression, face_mesh
from emo_llama_ros.faces.alignment import margin_crop
from emo_llama_ros.faces.blazeface import BlazeFace, Detection
from emo_llama_ros.faces.blendshapes import Blendshapes
from emo_llama_ros.faces.expression import EmbeddedExpression, ExpressionReader, face_views
from emo_llama_ros.faces.face import Box, Face, FaceAnalyzer, FloatArray
from emo_llama_ros.faces.face_mesh import FaceMesh
from emo_llama_ros.faces.measures import eye_opening, measure
from emo_llama_ros.faces.pose import frontal
from emo_llama_ros.faces.quality import flaws
from emo_llama_ros.frames import RgbImage
from emo_llama_ros.install.fetch import model_file
from emo_llama_ros.options import Options

logger = logging.getLogger(__name__)

SAME_PLACE = 0.45
"""Intersection over union from which two boxes are one face. People cheek to cheek share less than 0.2."""
INSIDE = 0.75
"""Share of a box inside another from which it is a part of that face."""
MESH_ZOOMS = (1.0, 1.25)
"""Where a detection gives no mesh, the mesh is tried once more in a larger region: detectors take a face that reaches
over the border for smaller than it is. On 500 FER+ faces that brings back a quarter of those without a mesh."""


def make_analyzer(options: Options) -> FaceAnalyzer:
    """Return the analyzer that `options.analyzer` names.

    Warns when a user's expression network disagrees with the sample faces, where those were fetched. Raises
    MissingModel or MissingDependency when a file or package that it needs is not there.
    """
    analyzer = build_analyzer(options)
    if options.expression_model:
        from emo_llama_ros.faces.sample_check import label_disagreement

        doubt = label_disagreement(analyzer)
        if doubt:
            logger.warning(doubt)
    return analyzer


def build_analyzer(options: Options) -> FaceAnalyzer:
    """Return the analyzer as `make_analyzer` does, without a look at the sample faces."""
    if options.analyzer == "insightface":
        from emo_llama_ros.faces.insightface import InsightFaceAnalyzer

        return InsightFaceAnalyzer(options)
    return EmbeddedAnalyzer(options)


class FaceReader:
    """Measures everything there is to measure on a face whose mesh is known."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._blendshapes = Blendshapes(model_file(blendshapes.NETWORK_FILE, options.models_folder))
        self.expression = make_expression_reader(options)

    def read(self, rgb: RgbImage, grey: npt.NDArray[np.uint8], face: Face) -> Face:
        """Return a face that has a mesh (478, 3), read, in an image given as RGB (H, W, 3) and grey (H, W)."""
        mesh = face.landmarks
        assert mesh is not None
        upright = frontal(mesh)
        reading = self.expression.read(rgb, grey, face_views(mesh))
        return replace(
            face,
            pose=upright.pose,
            expression=reading.probabilities,
            valence=reading.valence,
            arousal=reading.arousal,
            measures=measure(upright, eye_opening(upright)) | self._blendshapes.scores(mesh),
            embedding=reading.embedding,
            flaws=flaws(grey, face.box, mesh, upright.pose, self._options),
        )


class EmbeddedAnalyzer:
    """Finds and measures faces with the networks of `emo_llama fetch`: BlazeFace, landmarks, blendshapes, expression.

    Every face has landmarks, pose, measures, expression and embedding: a find without a face mesh is no face. The box
    is the one around the mesh.
    """

    def __init__(self, options: Options) -> None:
        folder = options.models_folder
        self._detector = BlazeFace(
            model_file(blazeface.FAR_NETWORK_FILE, folder), model_file(blazeface.NEAR_NETWORK_FILE, folder)
        )
        self._mesh = FaceMesh(model_file(face_mesh.NETWORK_FILE, folder))
        self._reader = FaceReader(options)

    @property
    def name(self) -> str:
        """Names the networks in use."""
        return f"blazeface+facemesh+{self._reader.expression.name}"

    def find(self, rgb: RgbImage, known: Sequence[Face] = (), everywhere: bool = True) -> list[Face]:
        """Return the faces of an RGB uint8 image (H, W, 3), the largest first: box, score, crop and mesh.

        The last mesh of a known face says where to look for the next one. Only when one of them is no longer there, or
        `everywhere` is asked for, the detector searches the image; what it finds where a known face is needs no other
        mesh.
        """
        followed = distinct([face for old in known if (face := self._follow(rgb, old)) is not None])
        if known and not everywhere and len(followed) == len(known):
            return _largest_first(followed)
        found = [
            face
            for detection in self._detector.detect(rgb)
            if not any(overlap(detection.box, face.box) >= SAME_PLACE for face in followed)
            and (face := self._locate(rgb, detection)) is not None
        ]
        # What was found afresh comes first: where both claim a place, a followed mesh may have slipped.
        return _largest_first(distinct([*sorted(found, key=lambda face: -face.score), *followed]))

    def read(self, rgb: RgbImage, faces: Sequence[Face]) -> list[Face]:
        """Return faces that were found in this image with everything that is measured on them."""
        if not faces:
            return []
        grey = to_grey(rgb)
        return [self._reader.read(rgb, grey, face) for face in faces]

    def analyze(self, rgb: RgbImage) -> list[Face]:
        """Return all faces of an image, read."""
        return self.read(rgb, self.find(rgb))

    def _follow(self, rgb: RgbImage, old: Face) -> Face | None:
        if old.landmarks is None:
            return None
        mesh = self._mesh.follow(rgb, old.landmarks)
        return None if mesh is None else located(rgb, old.score, mesh)

    def _locate(self, rgb: RgbImage, detection: Detection) -> Face | None:
        for zoom in MESH_ZOOMS:
            mesh = self._mesh.locate(rgb, replace(detection, box=_zoomed(detection.box, zoom)))
            if mesh is not None:
                return located(rgb, detection.score, mesh)
        return None


def distinct(faces: Sequence[Face]) -> list[Face]:
    """Return the faces without those that lie on an earlier one: two meshes that slipped onto the same face."""
    kept: list[Face] = []
    for face in faces:
        if not any(_same(face.box, other.box) for other in kept):
            kept.append(face)
    return kept


def _same(first: Box, second: Box) -> bool:
    shared = _shared(first, second)
    smaller = min(first.width * first.height, second.width * second.height)
    return overlap(first, second) >= SAME_PLACE or shared >= INSIDE * max(smaller, 1e-6)


def overlap(first: Box, second: Box) -> float:
    """Return the intersection over union of two boxes, in [0, 1]."""
    shared = _shared(first, second)
    return shared / max(first.width * first.height + second.width * second.height - shared, 1e-6)


def _shared(first: Box, second: Box) -> float:
    wide = min(first.x + first.width, second.x + second.width) - max(first.x, second.x)
    high = min(first.y + first.height, second.y + second.height) - max(first.y, second.y)
    return max(wide, 0.0) * max(high, 0.0)


def _zoomed(box: Box, zoom: float) -> Box:
    wide, high = box.width * zoom, box.height * zoom
    return Box(box.x + (box.width - wide) / 2, box.y + (box.height - high) / 2, wide, high)


def _largest_first(faces: Sequence[Face]) -> list[Face]:
    return sorted(faces, key=lambda face: -face.box.width * face.box.height)


def make_expression_reader(options: Options) -> ExpressionReader:
    """Return the embedded expression network, or the user's ONNX classifier where `expression_model` names one."""
    embedded = EmbeddedExpression(model_file(expression.NETWORK_FILE, options.models_folder))
    if not options.expression_model:
        return embedded
    if not options.expression_labels:
        raise BadParameter("The parameter expression_model needs expression_labels: a text file with one label a line.")
    from emo_llama_ros.faces.onnx_expression import OnnxExpression

    return OnnxExpression(
        Path(options.expression_model).expanduser(), Path(options.expression_labels).expanduser(), embedded
    )


def located(rgb: RgbImage, score: float, mesh: FloatArray) -> Face:
    """Return the face with this mesh (478, 3), not yet read."""
    box = box_of(mesh)
    return Face(box=box, score=score, crop=margin_crop(rgb, box), landmarks=mesh)


def box_of(points: FloatArray) -> Box:
    """Return the box around points (N, 2 or more)."""
    (x0, y0), (x1, y1) = points[:, :2].min(0).tolist(), points[:, :2].max(0).tolist()
    return Box(x0, y0, x1 - x0, y1 - y0)


def to_grey(rgb: RgbImage) -> npt.NDArray[np.uint8]:
    """Return the luma (H, W) of an RGB image."""
    import cv2

    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.uint8)
