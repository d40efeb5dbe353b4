"""Upright pictures and margin crops."""

from __future__ import annotations

import math

import numpy as np
import pytest

from emo_llama_ros.faces.alignment import (
    PADDING_RGB,
    Roi,
    cut,
    even_light,
    eye_axes,
    face_roi,
    margin_crop,
    mesh_axes,
)
from emo_llama_ros.faces.face import Box


def test_a_roi_maps_its_centre_and_corners_onto_the_picture() -> None:
    roi = Roi(100, 50, 40, math.radians(30))
    matrix = roi.matrix(64)

    centre = matrix @ [100, 50, 1]
    right_edge = matrix @ [100 + 20 * math.cos(math.radians(30)), 50 + 20 * math.sin(math.radians(30)), 1]

    assert centre == pytest.approx([31.5, 31.5])
    assert right_edge == pytest.approx([63.5, 31.5])


@pytest.mark.parametrize("side", [20, 64, 300])
def test_a_cut_turns_a_tilted_line_upright(side) -> None:
    import cv2

    image = np.zeros((400, 400), np.uint8)
    tilt = math.radians(40)
    ends = [(round(200 + r * math.cos(tilt)), round(200 + r * math.sin(tilt))) for r in (-190, 190)]
    cv2.line(image, *ends, 255, max(3, side // 10))

    picture = cut(image, Roi(200, 200, side, tilt), 64)

    rows = picture.astype(float).mean(1)
    assert abs(float((rows * np.arange(64)).sum() / rows.sum()) - 31.5) < 1
    assert rows[:16].max() < 1
    assert rows[-16:].max() < 1


def test_a_cut_beyond_the_border_is_black_there() -> None:
    picture = cut(np.full((50, 50, 3), 200, np.uint8), Roi(0, 0, 40), 64)

    assert picture.shape == (64, 64, 3)
    assert picture[:30].max() == 0
    assert picture[40:, 40:].min() == 200


def test_a_cut_beyond_the_border_may_repeat_its_pixels() -> None:
    assert cut(np.full((50, 50), 200, np.uint8), Roi(0, 0, 40), 64, repeat_edge=True).min() == 200


def test_axes_from_the_eyes_alone_are_close_to_those_from_the_mesh(analyzer, picture) -> None:
    mesh = analyzer.analyze(picture("0-f15-hao-ph.jpg"))[0].landmarks
    eyes = [mesh[[outer, inner], :2].mean(0) for outer, inner in ((33, 133), (263, 362))]
    coarse, fine = eye_axes(*eyes).roi(2.0, 0.45), mesh_axes(mesh).roi(2.0, 0.45)

    assert coarse.side == pytest.approx(fine.side, rel=0.1)
    assert (coarse.x, coarse.y) == pytest.approx((fine.x, fine.y), abs=0.1 * fine.side)


def test_even_light_takes_brightness_and_contrast_out() -> None:
    bright = np.random.default_rng(0).normal(120, 30, (64, 64)).clip(0, 255).astype(np.uint8)
    dim = (bright // 4 + 10).astype(np.uint8)

    assert np.abs(even_light(bright) - even_light(dim)).mean() < 4
    assert even_light(np.zeros((64, 64), np.uint8)).std() == 0


def test_the_face_roi_does_not_move_with_mouth_and_chin() -> None:
    mesh = np.zeros((468, 3), np.float32)
    mesh[[33, 263, 168, 2]] = [(-50, 0, 0), (50, 0, 0), (0, 0, 0), (0, 45, 0)]
    closed = face_roi(mesh, 2.0, 0.45)
    mesh[[13, 14, 152]] += 30

    assert face_roi(mesh, 2.0, 0.45) == closed
    assert (closed.side, closed.y) == (200, 45)


def test_a_margin_crop_shows_a_quarter_more_on_each_side() -> None:
    image = np.zeros((400, 400, 3), np.uint8)
    image[100:300, 100:300] = 255

    crop = margin_crop(image, Box(100, 100, 200, 200))

    assert crop.shape == (224, 224, 3)
    bright = np.flatnonzero(crop[112, :, 0] > 127)
    assert (bright[0], bright[-1]) == (37, 186)


def test_a_margin_crop_pads_to_a_square_with_the_mean_colour() -> None:
    crop = margin_crop(np.full((400, 400, 3), 10, np.uint8), Box(150, 100, 100, 200))

    assert tuple(crop[112, 2]) == PADDING_RGB
    assert tuple(crop[112, 112]) == (10, 10, 10)
    assert (np.flatnonzero((crop[112] == 10).all(-1))[[0, -1]] == [56, 167]).all()


@pytest.mark.parametrize(
    ("box", "inside"),
    [(Box(-30, -30, 60, 60), (220, 220)), (Box(80, 80, 60, 60), (3, 3)), (Box(500, 500, 60, 60), None)],
)
def test_a_margin_crop_is_padding_beyond_the_border(box, inside) -> None:
    crop = margin_crop(np.full((100, 100, 3), 10, np.uint8), box)

    if inside is None:
        assert (crop == PADDING_RGB).all()
    else:
        assert tuple(crop[inside]) == (10, 10, 10)
        assert tuple(crop[223 - inside[0], 223 - inside[1]]) == PADDING_RGB


def test_a_box_of_a_fraction_of_a_pixel_still_gives_a_crop() -> None:
    assert margin_crop(np.full((100, 100, 3), 10, np.uint8), Box(1, 1, 0.1, 0.1)).shape == (224, 224, 3)
