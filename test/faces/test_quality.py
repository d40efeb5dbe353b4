"""Quality flaws, on made-up numbers and on real faces made worse."""

from __future__ import annotations

import numpy as np
import pytest

from emo_llama_ros.faces.face import Box, HeadPose, QualityFlaw
from emo_llama_ros.faces.quality import flaws
from emo_llama_ros.faces.reader import to_grey
from emo_llama_ros.options import Options

FRONTAL = HeadPose(0, 0, 0)


@pytest.fixture
def sharp_image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (480, 640)).astype(np.uint8)


def _mesh(x: float = 320, y: float = 240, width: float = 200) -> np.ndarray:
    rng = np.random.default_rng(1)
    mesh = rng.uniform(-0.5, 0.5, (468, 3)) * width
    mesh[[33, 263]] = [(-0.3 * width, -0.1 * width, 0), (0.3 * width, -0.1 * width, 0)]
    return (mesh + np.array([x, y, 0])).astype(np.float32)


def test_a_good_face_has_no_flaw(sharp_image) -> None:
    assert flaws(sharp_image, Box(220, 140, 200, 200), _mesh(), FRONTAL, Options()) == QualityFlaw.NONE


def test_a_narrow_face_is_small(sharp_image) -> None:
    options = Options(min_face_px=60)
    small, large = Box(300, 200, 59, 80), Box(300, 200, 61, 80)

    assert flaws(sharp_image, small, _mesh(width=60), FRONTAL, options) & QualityFlaw.SMALL
    assert not flaws(sharp_image, large, _mesh(width=60), FRONTAL, options) & QualityFlaw.SMALL


@pytest.mark.parametrize(
    ("pose", "turned"),
    [(HeadPose(36, 0, 0), True), (HeadPose(-36, 0, 0), True), (HeadPose(34, 0, 0), False), (HeadPose(0, -36, 0), True),
     (HeadPose(0, 34, 0), False), (HeadPose(0, 0, 80), False)],
)  # fmt: skip
def test_a_face_beyond_the_pose_limits_is_turned(sharp_image, pose, turned) -> None:
    found = flaws(sharp_image, Box(220, 140, 200, 200), _mesh(), pose, Options(max_yaw_deg=35.0, max_pitch_deg=35.0))

    assert bool(found & QualityFlaw.TURNED) is turned


def test_a_face_over_the_border_is_cut_off(sharp_image) -> None:
    assert flaws(sharp_image, Box(540, 140, 200, 200), _mesh(x=600), FRONTAL, Options()) & QualityFlaw.CUT_OFF


def test_a_face_without_mesh_has_no_landmarks(sharp_image) -> None:
    assert flaws(sharp_image, Box(220, 140, 200, 200), None, None, Options()) == QualityFlaw.NO_LANDMARKS


REAL = ("single_face.jpg", "0-f1-su-ph.jpg", "0-f15-hao-ph.jpg", "15-f13-anc-ph.jpg")


@pytest.mark.parametrize("name", REAL)
def test_real_faces_are_good_until_they_are_made_worse(analyzer, picture, name) -> None:
    import cv2

    rgb = picture(name)
    face = analyzer.analyze(rgb)[0]
    blurred = cv2.GaussianBlur(rgb, (0, 0), 0.025 * face.box.width)
    dark = (rgb * 0.06).astype(np.uint8)
    zoom = 30 / face.box.width
    small = cv2.resize(rgb, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA)
    small = cv2.copyMakeBorder(small, 200, 200, 200, 200, cv2.BORDER_REPLICATE)

    assert face.flaws == QualityFlaw.NONE
    if name != "single_face.jpg":  # the last stays above the threshold: a textured face
        assert analyzer.analyze(blurred)[0].flaws & QualityFlaw.BLURRED
    assert analyzer.analyze(dark)[0].flaws & QualityFlaw.DARK
    assert analyzer.analyze(small)[0].flaws & QualityFlaw.SMALL


def test_a_real_face_half_out_of_the_image_is_cut_off(analyzer, picture) -> None:
    rgb = picture("0-f15-hao-ph.jpg")
    box = analyzer.analyze(rgb)[0].box
    half = np.ascontiguousarray(rgb[:, : int(box.x + 0.7 * box.width)])

    (face,) = analyzer.analyze(half)

    assert face.flaws & QualityFlaw.CUT_OFF


def test_the_image_border_does_not_hide_blur(analyzer, picture) -> None:
    """A face that fills its picture: what lies beyond the border is no edge of the face."""
    import cv2

    rgb = picture("0-f15-hao-ph.jpg")
    (face,) = analyzer.analyze(rgb)
    grey = cv2.GaussianBlur(to_grey(rgb), (0, 0), 0.04 * face.box.width)
    x0, y0 = int(face.box.x), int(face.box.y)
    close = np.ascontiguousarray(grey[y0 : int(y0 + face.box.height), x0 : int(x0 + face.box.width)])
    mesh = face.landmarks - np.array([x0, y0, 0], np.float32)

    assert flaws(grey, face.box, face.landmarks, face.pose, Options()) & QualityFlaw.BLURRED
    assert flaws(close, face.box, mesh, face.pose, Options()) & QualityFlaw.BLURRED


def test_a_face_that_looks_far_up_or_down_is_turned_sooner_than_one_to_the_side(sharp_image) -> None:
    """Held-out faces of FER+ are read right in .68 beyond 25 degrees of pitch, in .80 beyond 25 degrees of yaw."""
    box = Box(220, 140, 200, 200)

    def turned(yaw: float, pitch: float) -> bool:
        return bool(flaws(sharp_image, box, _mesh(), HeadPose(yaw, pitch, 0), Options()) & QualityFlaw.TURNED)

    assert [turned(0, 30), turned(0, -30), turned(30, 0), turned(-30, 0)] == [True, True, False, False]
    assert turned(40, 0)


def test_the_photograph_taken_at_45_degrees_is_turned(analyzer, picture) -> None:
    face = analyzer.analyze(picture("45-m7-di-ph.jpg"))[0]

    assert face.flaws & QualityFlaw.TURNED
    assert face.pose.yaw < -35


def _covered(rgb, face, points, shade):
    plane = face.landmarks[list(points), :2]
    more = 0.1 * face.box.width
    (x0, y0), (x1, y1) = (plane.min(0) - more).astype(int), (plane.max(0) + more).astype(int)
    picture = rgb.copy()
    noise = np.random.default_rng(0).normal(0, 3, (y1 - y0, x1 - x0, 1))
    picture[y0:y1, x0:x1] = np.clip(shade + noise, 0, 255).astype(np.uint8)
    return picture


@pytest.mark.parametrize("shade", [30, 120, 210])
@pytest.mark.parametrize("points", [(33, 133, 362, 263, 159, 145), (61, 291, 0, 17)], ids=["eyes", "mouth"])
@pytest.mark.parametrize("name", REAL[:3])
def test_a_real_face_with_covered_eyes_or_mouth_is_occluded(analyzer, picture, name, points, shade) -> None:
    rgb = picture(name)
    (face,) = analyzer.analyze(rgb)
    grey = to_grey(_covered(rgb, face, points, shade))

    assert not face.flaws & QualityFlaw.OCCLUDED
    assert flaws(grey, face.box, face.landmarks, face.pose, Options()) & QualityFlaw.OCCLUDED


def test_of_the_group_only_who_wears_sunglasses_is_occluded(analyzer, picture) -> None:
    faces = analyzer.analyze(picture("multi_face.jpg"))

    assert [bool(face.flaws & QualityFlaw.OCCLUDED) for face in faces].count(True) == 1


@pytest.mark.parametrize("name", REAL)
def test_a_real_face_in_glaring_light_is_overexposed(analyzer, picture, name) -> None:
    rgb = picture(name)
    (face,) = analyzer.analyze(rgb)
    bright = to_grey(np.clip(rgb * 3.0, 0, 255).astype(np.uint8))

    assert not face.flaws & QualityFlaw.OVEREXPOSED
    assert flaws(bright, face.box, face.landmarks, face.pose, Options()) & QualityFlaw.OVEREXPOSED
