"""Head rotation from the face mesh, and the mesh turned to face the camera.

The rotation is the one that lays a template of points that no expression moves onto the mesh with the least squares
(Kabsch, "A solution for the best rotation to relate two sets of vectors", 1976; scale after Umeyama, 1991). It is
relative to the line of sight to the face, which is what decides how much of the face can be seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from emo_llama_ros.faces.face import FloatArray, HeadPose

# Centimetres, x to the image's right, y down, z away from the camera. Positions of these vertices in the canonical
# face model that MediaPipe publishes (Apache-2.0), rounded to 0.1 mm.
TEMPLATE: dict[int, tuple[float, float, float]] = {
    33: (-4.45, -2.66, -3.17),  # outer eye corner, image left
    263: (4.45, -2.66, -3.17),
    133: (-1.86, -2.59, -3.76),  # inner eye corner
    362: (1.86, -2.59, -3.76),
    168: (0.00, -3.27, -5.24),  # between the eyes
    6: (0.00, -2.47, -5.79),  # bridge of the nose
    1: (0.00, 1.13, -7.48),  # tip of the nose
    127: (-7.74, -2.36, 2.01),  # temple
    356: (7.74, -2.36, 2.01),
    234: (-7.66, -0.67, 2.44),  # before the ear
    454: (7.66, -0.67, 2.44),
    10: (0.00, -8.26, -4.48),  # top of the forehead
    151: (0.00, -6.55, -5.03),  # middle of the forehead
}
_POINTS = list(TEMPLATE)
_SHAPE = np.array(list(TEMPLATE.values()))
_CENTRED = _SHAPE - _SHAPE.mean(0)
UNIT_CM = float(np.linalg.norm(np.subtract(TEMPLATE[263], TEMPLATE[33])))
"""Distance of the template's outer eye corners: the unit of length of a frontal mesh."""


@dataclass(frozen=True, slots=True)
class Frontal:
    """A face mesh without head rotation, distance and place."""

    points: npt.NDArray[np.float64]
    """(478, 3): x to the image's right, y down, z away from the camera; unit is the outer eye corners' distance."""
    pose: HeadPose


def frontal(mesh: FloatArray) -> Frontal:
    """Return the pose of landmarks (N, 3) of the face mesh, N >= 468, and the mesh turned to face the camera."""
    seen = mesh[_POINTS].astype(np.float64)
    origin = seen.mean(0)
    u, spread, vt = np.linalg.svd(_CENTRED.T @ (seen - origin))
    mirror = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = (u * mirror @ vt).T  # template → image
    scale = float((spread * mirror).sum() / (_CENTRED**2).sum())
    points = (mesh - origin) @ rotation / (scale * UNIT_CM)
    return Frontal(points, _pose(rotation))


def _pose(rotation: npt.NDArray[np.float64]) -> HeadPose:
    """Return the angles of a rotation (3, 3) from the template's axes to the image's, in degrees.

    Yaw and pitch say where the nose points in the image's axes, roll how far the head is turned about that direction.
    """
    nose = rotation @ np.array([0.0, 0.0, -1.0])
    yaw = np.arctan2(nose[0], -nose[2])
    pitch = np.arcsin(np.clip(-nose[1], -1.0, 1.0))
    # Columns: the axes of a head without roll whose nose points there.
    right = np.array([np.cos(yaw), 0.0, np.sin(yaw)])
    down = np.cross(-nose, right)
    roll = np.arctan2(rotation[:, 0] @ down, rotation[:, 0] @ right)
    return HeadPose(*(float(np.degrees(angle)) for angle in (yaw, pitch, roll)))
