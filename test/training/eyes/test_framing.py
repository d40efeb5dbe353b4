"""FER's pictures are cut anew where the node finds the face."""

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the 'model' extra")

from emo_llama_ros.faces.alignment import mesh_axes
from emo_llama_ros.faces.emo_eyes import FER_DROP, FER_SCALE
from emo_llama_ros.faces.make import make_analyzer
from emo_llama_ros.options import Options
from emo_llama_ros.training.eyes.framing import enlarged, found_axes, framed, framed_on_all_cores


@pytest.fixture(scope="module")
def analyzer():
    return make_analyzer(Options())


@pytest.fixture(scope="module")
def askew(media, analyzer):
    """A real face as a picture of 48 x 48 in which it lies turned and off the middle."""
    grey = cv2.imread(str(media("single_face.jpg")), cv2.IMREAD_GRAYSCALE)
    axes = found_axes(grey, analyzer)
    roi = axes.roi(FER_SCALE * 1.25, FER_DROP)
    turn = cv2.getRotationMatrix2D((roi.x + 0.08 * roi.side, roi.y), 15, 48 / roi.side)
    turn[:, 2] += np.array([24 - roi.x - 0.08 * roi.side, 24 - roi.y])
    return cv2.warpAffine(grey, turn, (48, 48), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE)


def test_a_face_is_cut_upright_and_by_its_own_measure(askew, analyzer):
    before = found_axes(enlarged(askew), analyzer)
    after = found_axes(enlarged(framed(askew[None], analyzer)[0]), analyzer)

    assert abs(np.degrees(before.angle)) > 10
    assert abs(np.degrees(after.angle)) < 4
    assert after.unit == pytest.approx(240 / FER_SCALE, rel=0.1)
    assert after.x == pytest.approx(119.5, abs=8)


def test_a_picture_without_a_face_stays_as_it_is(analyzer):
    noise = np.random.default_rng(0).integers(0, 255, (1, 48, 48), np.uint8)
    assert np.array_equal(framed(noise, analyzer), noise)


def test_all_cores_give_what_one_gives_and_a_second_run_reads_it(askew, analyzer, tmp_path):
    images = np.stack([askew, askew[:, ::-1]])
    made = framed_on_all_cores(images, tmp_path)
    assert np.array_equal(made, framed(images, analyzer))

    (kept,) = tmp_path.glob("*.npy")
    np.save(kept, np.zeros_like(images))
    assert not framed_on_all_cores(images, tmp_path).any(), "what was cut before is not cut again"


def test_the_largest_face_counts(media, analyzer):
    grey = cv2.imread(str(media("multi_face.jpg")), cv2.IMREAD_GRAYSCALE)
    rgb = np.ascontiguousarray(np.repeat(grey[:, :, None], 3, axis=2))
    assert found_axes(grey, analyzer) == mesh_axes(analyzer.find(rgb)[0].landmarks)
