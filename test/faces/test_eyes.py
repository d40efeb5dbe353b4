"""The opening of real eyes: wide, narrow, shut, whichever way the picture is turned."""

from __future__ import annotations

import numpy as np
import pytest

from emo_llama_ros.faces import eyes
from emo_llama_ros.faces.eyes import Eyes
from emo_llama_ros.install.fetch import model_file


@pytest.fixture(scope="module")
def lids(analyzer) -> Eyes:
    return Eyes(model_file(eyes.NETWORK_FILE))


def test_eyes_shut_in_tears_are_closed_and_open_ones_are_not(faces_of) -> None:
    """WolfgangLanger_Pexels.mp4 at 24 fps: shut from frame 32 to 92, open from 160 to 220."""
    opening = [faces[0].measures["eye_opening"] for _, faces in faces_of("WolfgangLanger_Pexels.mp4", 4)]

    assert max(opening[8:23]) < 0.12
    assert min(opening[40:55]) > 0.25


def test_surprised_eyes_are_wider_than_frowning_ones(analyzer, picture) -> None:
    surprise, frown = (
        analyzer.analyze(picture(n))[0].measures["eye_opening"] for n in ("0-f1-su-ph.jpg", "15-f13-anc-ph.jpg")
    )

    assert surprise > frown + 0.08


@pytest.mark.parametrize("name", ["0-f1-su-ph.jpg", "0-f15-hao-ph.jpg"])
def test_both_eyes_of_a_symmetric_face_are_equally_open(analyzer, lids, picture, name) -> None:
    rgb = picture(name)
    mesh = analyzer.analyze(rgb)[0].landmarks

    left = lids._gap(rgb, mesh, 33, 133, mirror=False)
    right = lids._gap(rgb, mesh, 263, 362, mirror=True)

    assert left == pytest.approx(right, abs=0.05)


def test_a_mirrored_picture_has_the_same_opening(analyzer, picture) -> None:
    rgb = picture("0-f1-su-ph.jpg")
    mirrored = np.ascontiguousarray(rgb[:, ::-1])

    one, other = (analyzer.analyze(image)[0].measures["eye_opening"] for image in (rgb, mirrored))

    assert one == pytest.approx(other, abs=0.03)


def test_a_mesh_without_extent_is_no_crash(lids) -> None:
    assert np.isfinite(lids.opening(np.zeros((50, 50, 3), np.uint8), np.full((468, 3), 10, np.float32)))
