"""Head pose and the frontal mesh, on the template turned by known angles."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from emo_llama_ros.faces.pose import TEMPLATE, UNIT_CM, frontal


def _mesh(yaw: float = 0, pitch: float = 0, roll: float = 0, scale: float = 10, noise: float = 0) -> np.ndarray:
    """Return the template as a mesh in pixels, turned as HeadPose says, the other vertices in the nose tip."""
    shape = np.tile(TEMPLATE[1], (468, 1))
    for vertex, place in TEMPLATE.items():
        shape[vertex] = place
    # Axes: x to the image's right, y down, z away. The head rolls about its nose, is lifted, then turned.
    turn = Rotation.from_euler("YXZ", [-yaw, -pitch, roll], degrees=True)
    mesh = turn.apply(shape) * scale + [320, 240, 0]
    return (mesh + np.random.default_rng(0).normal(0, noise * scale, mesh.shape)).astype(np.float32)


@pytest.mark.parametrize(
    ("yaw", "pitch", "roll"), [(0, 0, 0), (30, 0, 0), (-45, 0, 0), (0, 20, 0), (0, -25, 0), (0, 0, 40), (20, 10, -15)]
)
def test_the_pose_is_the_rotation_of_the_head(yaw, pitch, roll) -> None:
    pose = frontal(_mesh(yaw, pitch, roll)).pose

    assert (pose.yaw, pose.pitch) == pytest.approx((yaw, pitch), abs=0.1)
    assert pose.roll == pytest.approx(roll, abs=0.1)


def test_signs_follow_the_image() -> None:
    """A nose tip right of the eyes is a turn to the image's right, one above is a look up."""
    right, up, clockwise = _mesh(yaw=20), _mesh(pitch=20), _mesh(roll=20)

    assert right[1, 0] > (right[33, 0] + right[263, 0]) / 2
    assert frontal(right).pose.yaw > 0
    assert up[1, 1] - up[168, 1] < _mesh()[1, 1] - _mesh()[168, 1]
    assert frontal(up).pose.pitch > 0
    assert clockwise[263, 1] > clockwise[33, 1]
    assert frontal(clockwise).pose.roll > 0


@pytest.mark.parametrize("scale", [1, 30])
def test_the_frontal_mesh_has_neither_rotation_nor_size_nor_place(scale) -> None:
    still = frontal(_mesh()).points
    turned = frontal(_mesh(25, -10, 30, scale)).points

    assert turned == pytest.approx(still, abs=1e-4)
    assert np.linalg.norm(still[263] - still[33]) == pytest.approx(1.0, abs=1e-5)
    assert pytest.approx(8.9) == UNIT_CM


def test_the_pose_bears_noise() -> None:
    pose = frontal(_mesh(20, 10, 0, noise=0.1)).pose

    assert (pose.yaw, pose.pitch, pose.roll) == pytest.approx((20, 10, 0), abs=3)
