"""The analyzer of the embedded networks: from an image to the faces in it, and where they are followed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from emo_llama_ros.faces import blazeface, face_mesh
from emo_llama_ros.faces.blazeface import BlazeFace, Detection
from emo_llama_ros.faces.face import AnalyzerDeclaration, Box, Face
from emo_llama_ros.faces.face_mesh import FaceMesh
from emo_llama_ros.faces.reader import MESH_NETWORKS, FaceReader, located, to_grey
from emo_llama_ros.frames import RgbImage
from emo_llama_ros.install.fetch import model_file
from emo_llama_ros.options import Options

SAME_PLACE = 0.45
"""Intersection over union from which two boxes are one face. People cheek to cheek share less than 0.2."""
INSIDE = 0.75
"""Share of a box inside another from which it is a part of that face."""
MESH_ZOOMS = (1.0, 1.25)
"""Where a detection gives no mesh, the mesh is tried once more in a larger region: detectors take a face that reaches
over the border for smaller than it is. On 500 FER+ faces that brought back 5 of the 22 without a mesh."""


class FaceFinder:
    """Finds faces and their meshes with BlazeFace and the landmark networks; a find without a mesh is no face."""

    def __init__(self, models_folder: str = "") -> None:
        self._detector = BlazeFace(
            model_file(blazeface.FAR_NETWORK_FILE, models_folder),
            model_file(blazeface.NEAR_NETWORK_FILE, models_folder),
        )
        self._mesh = FaceMesh(
            model_file(face_mesh.NETWORK_FILE, models_folder), model_file(face_mesh.WITNESS_FILE, models_folder)
        )

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


class EmbeddedAnalyzer:
    """Finds and measures faces with the networks of `emo_llama fetch`: BlazeFace, landmarks, blendshapes, expression.

    Every face has landmarks, pose, measures, expression and embedding. The box is the one around the mesh.
    """

    def __init__(self, options: Options) -> None:
        self._finder = FaceFinder(options.models_folder)
        self._reader = FaceReader(options)

    @property
    def name(self) -> str:
        """Names the networks in use."""
        return f"blazeface+facemesh+{self._reader.expression.name}"

    def find(self, rgb: RgbImage, known: Sequence[Face] = (), everywhere: bool = True) -> list[Face]:
        """Return the faces of an RGB uint8 image (H, W, 3); see `FaceFinder.find`."""
        return self._finder.find(rgb, known, everywhere)

    def read(self, rgb: RgbImage, faces: Sequence[Face]) -> list[Face]:
        """Return faces that were found in this image with everything that is measured on them."""
        if not faces:
            return []
        grey = to_grey(rgb)
        return [self._reader.read(rgb, grey, face) for face in faces]

    def analyze(self, rgb: RgbImage) -> list[Face]:
        """Return all faces of an image, read."""
        return self.read(rgb, self.find(rgb))


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


DECLARATION = AnalyzerDeclaration(
    name="embedded",
    make=EmbeddedAnalyzer,
    networks=(blazeface.FAR_NETWORK_FILE, blazeface.NEAR_NETWORK_FILE, *MESH_NETWORKS),
)
