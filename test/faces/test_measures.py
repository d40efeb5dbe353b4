"""The measures: what they leave out, and which action units move them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from emo_llama_ros.faces.measures import NAMES, measure
from emo_llama_ros.faces.pose import frontal


@pytest.fixture(scope="module")
def mesh_of(media):
    """Render a mesh (468, 3) from action units with py-feat's regression, which shares the 468-point layout."""
    model = np.load(media("au_to_mesh_pls_v4.npz"))
    columns = model["input_columns"].tolist()

    def render(**units: float) -> np.ndarray:
        strengths = np.zeros(len(columns))
        for name, strength in units.items():
            strengths[columns.index(name)] = strength
        points = (strengths @ model["coef"] + model["intercept"]).reshape(3, -1).T[:468]
        return (points * [1, -1, -1]).astype(np.float32)  # its y counts upwards and its z towards the camera

    return render


def test_the_measures_ignore_size_place_and_head_pose(mesh_of) -> None:
    mesh = mesh_of(AU12=0.5)
    turned = Rotation.from_euler("zyx", [20, -25, 10], degrees=True).apply(mesh * 2.5) + np.array([300, 200, 50])

    still, moved = measure(frontal(mesh), 0.3), measure(frontal(turned.astype(np.float32)), 0.3)

    assert tuple(still) == NAMES
    assert list(moved.values()) == pytest.approx(list(still.values()), abs=1e-4)


@pytest.mark.parametrize(
    ("unit", "name", "direction"),
    [
        ("AU01", "inner_brow_height", +1),
        ("AU04", "inner_brow_height", -1),
        ("AU04", "brow_gap", -1),
        ("AU06", "cheek_height", +1),
        ("AU12", "lip_corner_lift", +1),
        ("AU12", "lip_corner_height", +1),
        ("AU12", "mouth_width", +1),
        ("AU15", "lip_corner_lift", -1),
        ("AU17", "lower_lip_height", +1),
        ("AU20", "mouth_width", +1),
        ("AU24", "lips_apart", -1),
        ("AU26", "jaw_drop", +1),
        ("AU26", "lips_apart", +1),
        ("AU28", "lower_lip_thickness", -1),
    ],
)
def test_a_unit_moves_its_measure(mesh_of, unit, name, direction) -> None:
    change = measure(frontal(mesh_of(**{unit: 1.0})), 0.3)[name] - measure(frontal(mesh_of()), 0.3)[name]

    assert direction * change > 0.015


def test_the_neutral_stretch_of_a_real_face_is_quiet(faces_of) -> None:
    """The noise that the thresholds of `action_units` rely on."""
    neutral = [faces[0].measures for _, faces in faces_of("single_face.mp4", 1)[:12]]

    for name in NAMES:
        assert np.std([measures[name] for measures in neutral]) < 0.005, name


def test_a_real_blink_closes_the_eyes(faces_of) -> None:
    opening = [faces[0].measures["eye_opening"] for _, faces in faces_of("single_face.mp4", 1)]

    assert min(opening[26:28]) < 0.12
    assert min(opening[:24]) > 0.2
    assert min(opening[32:]) > 0.2
