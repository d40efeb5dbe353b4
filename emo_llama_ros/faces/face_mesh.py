"""The 478 landmarks of one found face: a mesh of 468 points and the irises.

Source: Kartynnik et al., "Real-time Facial Surface Geometry from Monocular Video on Mobile GPUs", 2019, and Grishchenko
et al., "Attention Mesh: High-fidelity Face Mesh Prediction in Real-time", 2020; this is the network of MediaPipe's Face
Landmarker. The first 468 points are those of the older face mesh. The region of interest is the one MediaPipe publishes
(`mediapipe/modules/face_landmark`): turned upright, 1.5 times the box.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from emo_llama_ros.faces.alignment import (
    EYE_CORNERS_TO_CENTRES,
    LEFT_EYE,
    RIGHT_EYE,
    Roi,
    angle_between,
    cut,
    mesh_axes,
)
from emo_llama_ros.faces.blazeface import Detection
from emo_llama_ros.faces.face import FloatArray
from emo_llama_ros.faces.litert import LiteRtNetwork
from emo_llama_ros.frames import RgbImage

NETWORK_FILE = "face_landmarks_detector.tflite"
WITNESS_FILE = "face_landmark.tflite"
"""The 468-point mesh that came before. Its points are coarser, and it knows better what is no face."""
POINTS = 478
MESH_POINTS = 468
"""Points of the face mesh, which come first; the five of each iris follow, the image's left eye first."""
ROI_SCALE = 1.5
MIN_PRESENCE = 0.5
MIN_WITNESS = 0.9
"""The older mesh turned away over 200 false finds of the detector below it, in pictures of things, texture and text."""
MOST_APART = 0.27
"""Largest distance between the detector's eyes and the mesh's, in distances of the eyes. Of 120 pictures of FER+
95 % lie below 0.21; the nine things in the sample videos that the network takes for faces lie at 0.29 and more."""
_EYES = ((33, 133), (263, 362))
"""Outer and inner corner of each eye, image left first."""
LEAST_HINT = 0.2
"""Presence at the detector's box below which no second look is taken."""


class FaceMesh:
    """Locate the landmarks of a face, or find that it is none."""

    def __init__(self, path: Path, witness: Path, threads: int = 1) -> None:
        self._network = LiteRtNetwork(path, threads)
        self._witness = LiteRtNetwork(witness, threads)

    def locate(self, rgb: RgbImage, detection: Detection) -> FloatArray | None:
        """Return the landmarks (478, 3) float32 of a detected face, or None where there is no face.

        x and y are pixels of the full image, z is in the same scale, smaller is nearer to the camera. The network
        runs twice, the second time on the region that the first landmarks give: that halves the error that comes from
        the detector's box. Where the second look is no face, the first counts: that is so for faces that the image's
        border cuts. Detector and landmarks must agree where the eyes are, which they do not on things. Where that
        fails, the older mesh is asked, whose word on whether there is a face is better.
        """
        box = detection.box
        side = ROI_SCALE * max(box.width, box.height)
        angle = angle_between(detection.points[0], detection.points[1])
        first, presence = self._run(rgb, Roi(box.x + box.width / 2, box.y + box.height / 2, side, angle))
        second = self.follow(rgb, first) if presence >= LEAST_HINT else None
        mesh = first if second is None and presence >= MIN_PRESENCE else second
        if mesh is not None and _eyes_apart(mesh, detection) <= MOST_APART:
            return mesh
        return self._attested(rgb, Roi(box.x + box.width / 2, box.y + box.height / 2, side, angle))

    def follow(self, rgb: RgbImage, landmarks: FloatArray) -> FloatArray | None:
        """Return the landmarks of a face that a moment ago had these (478, 3), or None where it is no longer there.

        The network runs once.
        """
        mesh, presence = self._run(rgb, roi_of(landmarks))
        return mesh if presence >= MIN_PRESENCE else None

    def _attested(self, rgb: RgbImage, roi: Roi) -> FloatArray | None:
        """Return the landmarks where the older mesh sees a face in `roi` (and again in its own), or None."""
        for _ in range(2):
            mesh, presence = _look(self._witness, MESH_POINTS, rgb, roi)
            if presence < MIN_WITNESS:
                return None
            roi = roi_of(mesh)
        landmarks, _ = self._run(rgb, roi)
        return (
            landmarks
            if float(np.linalg.norm(_eyes(landmarks) - _eyes(mesh), axis=1).mean())
            <= (MOST_APART * _eye_distance(mesh))
            else None
        )

    def _run(self, rgb: RgbImage, roi: Roi) -> tuple[FloatArray, float]:
        return _look(self._network, POINTS, rgb, roi)


def _look(network: LiteRtNetwork, count: int, rgb: RgbImage, roi: Roi) -> tuple[FloatArray, float]:
    """Return a network's `count` points (count, 3) in the image, and how sure it is that `roi` holds a face, 0 .. 1."""
    size = network.input_shape[1]
    picture = cut(rgb, roi, size)[None].astype(np.float32) / np.float32(255)  # (1, S, S, 3)
    points, logit = network(picture)[:2]
    presence = 1 / (1 + np.exp(-np.clip(float(logit.ravel()[0]), -80, 80)))
    points = points.reshape(count, 3)  # pixels of the picture, whole numbers are pixel edges
    matrix = roi.matrix(size)
    xy = (points[:, :2] - 0.5 - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
    z = points[:, 2] * (roi.side / size)
    return np.column_stack([xy, z]).astype(np.float32), float(presence)


def _eyes(mesh: FloatArray) -> FloatArray:
    """Return the middles of both eyes (2, 2), image left first."""
    return np.stack([mesh[list(corners), :2].mean(0) for corners in _EYES])


def _eye_distance(mesh: FloatArray) -> float:
    """Return the distance between the middles of the eyes in 3-D, in pixels."""
    return max(mesh_axes(mesh).unit / EYE_CORNERS_TO_CENTRES, 1e-6)


def _eyes_apart(mesh: FloatArray, detection: Detection) -> float:
    """Return how far the eyes of mesh and detection are apart, in distances between the eyes of a frontal face."""
    found = np.stack([np.asarray(point)[:2] for point in detection.points[:2]])
    return float(np.linalg.norm(_eyes(mesh) - found, axis=1).mean()) / _eye_distance(mesh)


def roi_of(mesh: FloatArray) -> Roi:
    """Return the region of a mesh: the upright square around all its points, enlarged."""
    angle = angle_between(mesh[LEFT_EYE], mesh[RIGHT_EYE])
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.array([[cos, -sin], [sin, cos]])  # face axes → image axes
    upright = mesh[:, :2] @ turn
    low, high = upright.min(0), upright.max(0)
    x, y = turn @ ((low + high) / 2)
    return Roi(float(x), float(y), ROI_SCALE * float((high - low).max()), angle)
