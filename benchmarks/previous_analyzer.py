"""The face analyzer as it was before emo-eyes, kept to be measured beside today's.

BlazeFace's back network over the whole image for every frame, two passes of the 468-point mesh, the iris network on
each eye, and mini-Xception on two views. What cost next to nothing (measures, pose) is left out, so comparisons with it
are a little too hard on today's analyzer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from emo_llama_ros.faces.alignment import Roi, angle_between, cut, face_roi, margin_crop
from emo_llama_ros.faces.blazeface import FAR_NETWORK_FILE, Detection, _blend, _Searcher
from emo_llama_ros.faces.face import Box, Face, FloatArray
from emo_llama_ros.faces.litert import LiteRtNetwork
from emo_llama_ros.frames import RgbImage
from emo_llama_ros.install.fetch import earlier_file, model_file

MIN_PRESENCE = 0.9
VIEWS = ((1.6, 0.3), (2.0, 0.45))
RAF_DB_ORDER = (5, 2, 1, 3, 4, 0, 6)
"""surprise, fear, disgust, happiness, sadness, anger, neutral among the network's outputs."""


class PreviousAnalyzer:
    """Finds and reads every face afresh in every image; a `FaceAnalyzer`."""

    name = "previous"

    def __init__(self, threads: int = 1) -> None:
        self._detector = _Searcher(model_file(FAR_NETWORK_FILE), threads, fill=1.0)
        self._mesh = LiteRtNetwork(earlier_file("face_landmark.tflite"), threads)
        self._eye = LiteRtNetwork(earlier_file("iris_landmark.tflite"), threads)
        self._expression = LiteRtNetwork(
            earlier_file("emotion_model_quantized.tflite"), threads, inner_shape=(1, 4, 4, 128)
        )

    def find(self, rgb: RgbImage, known: Sequence[Face] = (), everywhere: bool = True) -> list[Face]:
        """Return the faces of an image of at most 1300 pixels' length (no tiles), the largest first."""
        faces = [
            Face(box := _box_of(mesh), detection.score, margin_crop(rgb, box), landmarks=mesh)
            for detection in _blend(self._detector.search(rgb, 0, 0, 1))
            if (mesh := self._locate(rgb, detection)) is not None
        ]
        return sorted(faces, key=lambda face: -face.box.width * face.box.height)

    def read(self, rgb: RgbImage, faces: Sequence[Face]) -> list[Face]:
        """Return the faces with pose and expression; eyes and quality are measured, to cost what they cost."""
        import cv2

        from emo_llama_ros.faces.pose import frontal

        if not faces:
            return []
        grey = np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.uint8)
        read = []
        for face in faces:
            assert face.landmarks is not None
            for corners in ((33, 133), (263, 362)):
                self._look_at_eye(rgb, face.landmarks, *corners)
            picture = cut(grey, face_roi(face.landmarks, 1.6, 0.3), 64).astype(np.float32)
            cv2.Laplacian(picture, cv2.CV_32F).var()
            views = [self._look(grey, face_roi(face.landmarks, *view)) for view in VIEWS]
            probabilities = np.mean(views, axis=0)[list(RAF_DB_ORDER)]
            read.append(
                replace(
                    face,
                    pose=frontal(face.landmarks).pose,
                    expression=(probabilities / probabilities.sum()).astype(np.float32),
                )
            )
        return read

    def analyze(self, rgb: RgbImage) -> list[Face]:
        """Return all faces of an image, read."""
        return self.read(rgb, self.find(rgb))

    def _locate(self, rgb: RgbImage, detection: Detection) -> FloatArray | None:
        box = detection.box
        angle = angle_between(detection.points[0], detection.points[1])
        centre = (box.x + box.width / 2, box.y + box.height / 2)
        mesh, presence = self._run(rgb, Roi(*centre, 1.5 * max(box.width, box.height), angle))
        if presence < MIN_PRESENCE:
            return None
        mesh, presence = self._run(rgb, _roi_of(mesh))
        return mesh if presence >= MIN_PRESENCE else None

    def _run(self, rgb: RgbImage, roi: Roi) -> tuple[FloatArray, float]:
        size = self._mesh.input_shape[1]
        points, logit = self._mesh(cut(rgb, roi, size)[None].astype(np.float32) / np.float32(255))
        points, matrix = points.reshape(468, 3), roi.matrix(size)
        plane = (points[:, :2] - 0.5 - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
        presence = 1 / (1 + np.exp(-np.clip(float(logit.ravel()[0]), -80, 80)))
        return np.column_stack([plane, points[:, 2] * (roi.side / size)]).astype(np.float32), float(presence)

    def _look_at_eye(self, rgb: RgbImage, mesh: FloatArray, outer: int, inner: int) -> None:
        x, y = ((mesh[outer] + mesh[inner]) / 2)[:2].tolist()
        side = 2.3 * float(np.linalg.norm((mesh[inner] - mesh[outer])[:2]))
        picture = cut(rgb, Roi(x, y, max(side, 1.0), angle_between(mesh[outer], mesh[inner])), 64)
        self._eye(picture[None].astype(np.float32) / np.float32(255))

    def _look(self, grey: npt.NDArray[np.uint8], view: Roi) -> FloatArray:
        values = cut(grey, view, 64).astype(np.float32)
        even = np.clip((values - values.mean()) * (48.0 / max(float(values.std()), 1.0)) + 118.0, 0, 255)
        return self._expression((even / np.float32(127.5) - np.float32(1))[None, :, :, None])[0]


def _box_of(points: FloatArray) -> Box:
    (x0, y0), (x1, y1) = points[:, :2].min(0).tolist(), points[:, :2].max(0).tolist()
    return Box(x0, y0, x1 - x0, y1 - y0)


def _roi_of(mesh: FloatArray) -> Roi:
    angle = angle_between(mesh[33], mesh[263])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    upright = mesh[:, :2] @ turn
    low, high = upright.min(0), upright.max(0)
    x, y = turn @ ((low + high) / 2)
    return Roi(float(x), float(y), 1.5 * float((high - low).max()), angle)
