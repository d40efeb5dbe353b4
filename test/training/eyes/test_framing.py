"""FER's faces are cut anew where the node finds them, and their movements scored."""

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the 'model' extra")

from emo_llama_ros.faces.alignment import mesh_axes
from emo_llama_ros.faces.blendshapes import MOVEMENTS
from emo_llama_ros.faces.emo_eyes import FER_DROP, FER_SCALE
from emo_llama_ros.training.eyes.framing import Framer, enlarged, found_mesh, framed_on_all_cores


@pytest.fixture(scope="module")
def framer(media):
    return Framer()


@pytest.fixture(scope="module")
def askew(media, framer):
    """A smiling face as a picture of 48 x 48 in which it lies turned and off the middle."""
    grey = cv2.imread(str(media("0-f15-hao-ph.jpg")), cv2.IMREAD_GRAYSCALE)
    roi = mesh_axes(found_mesh(grey, framer.finder)).roi(FER_SCALE * 1.25, FER_DROP)
    turn = cv2.getRotationMatrix2D((roi.x + 0.08 * roi.side, roi.y), 15, 48 / roi.side)
    turn[:, 2] += np.array([24 - roi.x - 0.08 * roi.side, 24 - roi.y])
    return cv2.warpAffine(grey, turn, (48, 48), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE)


def test_a_face_is_cut_upright_and_by_its_own_measure(askew, framer):
    made = framer.framed(askew[None]).pictures[0]
    before, after = (mesh_axes(found_mesh(enlarged(image), framer.finder)) for image in (askew, made))

    assert abs(np.degrees(before.angle)) > 10
    assert abs(np.degrees(after.angle)) < 4
    assert after.unit == pytest.approx(240 / FER_SCALE, rel=0.1)
    assert after.x == pytest.approx(119.5, abs=8)


def test_a_smile_is_among_the_movements(askew, framer):
    movements = dict(zip(MOVEMENTS, framer.framed(askew[None]).movements[0].tolist(), strict=True))
    assert movements["mouthSmile"] > 0.5 > movements["eyeWide"]


def test_a_picture_without_a_face_stays_as_it_is_and_has_no_movements(framer):
    noise = np.random.default_rng(0).integers(0, 255, (1, 48, 48), np.uint8)
    seen = framer.framed(noise)
    assert np.array_equal(seen.pictures, noise)
    assert np.isnan(seen.movements).all()


def test_all_cores_give_what_one_gives_and_a_second_run_reads_it(askew, framer, tmp_path):
    images = np.stack([askew, askew[:, ::-1]])
    made, expected = framed_on_all_cores(images, tmp_path), framer.framed(images)
    assert np.array_equal(made.pictures, expected.pictures)
    assert np.array_equal(made.movements, expected.movements)

    (kept,) = tmp_path.glob("*.npz")
    np.savez(kept, pictures=np.zeros_like(images), movements=made.movements)
    assert not framed_on_all_cores(images, tmp_path).pictures.any(), "what was cut before is not cut again"
