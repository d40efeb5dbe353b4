"""The face mesh and iris networks that landmarks and lids came from before, for benchmarks that compare with them."""

from __future__ import annotations

import numpy as np

from emo_llama_ros.faces.alignment import Roi, angle_between, cut
from emo_llama_ros.faces.blazeface import Detection
from emo_llama_ros.faces.face import FloatArray
from emo_llama_ros.faces.face_mesh import roi_of
from emo_llama_ros.faces.litert import LiteRtNetwork
from emo_llama_ros.faces.measures import measure
from emo_llama_ros.faces.pose import frontal
from emo_llama_ros.frames import RgbImage
from emo_llama_ros.install.fetch import earlier_file

POINTS = 468
MIN_PRESENCE = 0.9
MESH_SCALE, EYE_SCALE = 1.5, 2.3
_CORNERS = ((33, 133), (263, 362))
"""Outer and inner corner of each eye in the face mesh, image left first."""
_OUTLINE_POINTS = 71
_UPPER_LID, _LOWER_LID = [11, 12, 13], [3, 4, 5]
"""Middle of the lids in the network's outline of an eye."""


class EarlierLandmarks:
    """Kartynnik's mesh of 468 points in two passes, and Ablavatski's iris network on each eye."""

    def __init__(self) -> None:
        self._mesh = LiteRtNetwork(earlier_file("face_landmark.tflite"))
        self._iris = LiteRtNetwork(earlier_file("iris_landmark.tflite"))

    def measures(self, rgb: RgbImage, detection: Detection) -> dict[str, float] | None:
        """Return the measures of `measures.NAMES`, None where the mesh finds no face."""
        mesh = self.locate(rgb, detection)
        return None if mesh is None else measure(frontal(mesh), self.opening(rgb, mesh))

    def locate(self, rgb: RgbImage, detection: Detection) -> FloatArray | None:
        """Return the mesh (468, 3) in pixels of the image, or None."""
        box = detection.box
        side = MESH_SCALE * max(box.width, box.height)
        angle = angle_between(detection.points[0], detection.points[1])
        mesh, presence = self._locate(rgb, Roi(box.x + box.width / 2, box.y + box.height / 2, side, angle))
        if presence < MIN_PRESENCE:
            return None
        mesh, presence = self._locate(rgb, roi_of(mesh))
        return mesh if presence >= MIN_PRESENCE else None

    def opening(self, rgb: RgbImage, mesh: FloatArray) -> float:
        """Return the gap between the lids relative to the eye's width, mean of both eyes."""
        return float(np.mean([self._gap(rgb, mesh, *corners, mirror=n == 1) for n, corners in enumerate(_CORNERS)]))

    def _locate(self, rgb: RgbImage, roi: Roi) -> tuple[FloatArray, float]:
        size = self._mesh.input_shape[1]
        picture = cut(rgb, roi, size)[None].astype(np.float32) / np.float32(255)
        points, logit = self._mesh(picture)
        points = points.reshape(POINTS, 3)
        matrix = roi.matrix(size)
        xy = (points[:, :2] - 0.5 - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
        presence = 1 / (1 + np.exp(-np.clip(float(logit.ravel()[0]), -80, 80)))
        return np.column_stack([xy, points[:, 2] * (roi.side / size)]).astype(np.float32), float(presence)

    def _gap(self, rgb: RgbImage, mesh: FloatArray, outer: int, inner: int, mirror: bool) -> float:
        left, right = (mesh[inner], mesh[outer]) if mirror else (mesh[outer], mesh[inner])
        x, y = ((left + right) / 2)[:2].tolist()
        roi = Roi(x, y, max(EYE_SCALE * float(np.linalg.norm((right - left)[:2])), 1.0), angle_between(left, right))
        size = self._iris.input_shape[1]
        picture = cut(rgb, roi, size)
        if mirror:  # the network knows the eye on the image's left
            picture = picture[:, ::-1]
        outline = self._iris(picture[None].astype(np.float32) / np.float32(255))[0].reshape(_OUTLINE_POINTS, 3)
        gap = float(outline[_LOWER_LID, 1].mean() - outline[_UPPER_LID, 1].mean()) * roi.side / size
        return gap / max(float(np.linalg.norm(right - left)), 1.0)
