"""What the language model's face branch reads about a face."""

from __future__ import annotations

import numpy as np
import pytest

from emo_llama_ros.evidence.priors import EVIDENCE_NAMES, IBUG_68, crop_coordinates, evidence_vector
from emo_llama_ros.faces import measures
from emo_llama_ros.faces.emo_eyes import EMBEDDING_SIZE
from emo_llama_ros.faces.face import Box


@pytest.fixture
def known_face(make_face):
    mesh = np.random.default_rng(0).normal(0, 20, (468, 3)).astype(np.float32) + np.float32(300)
    return make_face(landmarks=mesh, embedding=np.ones(5, np.float32))


def _named(evidence) -> dict[str, float]:
    return dict(zip(EVIDENCE_NAMES, evidence.tolist(), strict=True))


def test_there_are_68_different_landmarks() -> None:
    assert len(IBUG_68) == len(set(IBUG_68)) == 68


def test_evidence_is_raw_without_a_baseline_and_says_so(known_face) -> None:
    vector = evidence_vector(known_face.measures, None)
    evidence = _named(vector)

    assert vector.dtype == np.float32
    assert evidence["has_baseline"] == 0
    assert evidence["jaw_drop"] == pytest.approx(known_face.measures["jaw_drop"])
    assert np.isnan(evidence["au1"])
    assert evidence["au12"] == 0


def test_evidence_is_relative_to_a_baseline(known_face) -> None:
    baseline = dict(known_face.measures) | {"jaw_drop": 0.66}
    evidence = _named(evidence_vector(known_face.measures, baseline))

    assert evidence["has_baseline"] == 1
    assert evidence["jaw_drop"] == pytest.approx(0.10)
    assert [evidence[name] for name in measures.NAMES if name != "jaw_drop"] == pytest.approx(
        [0] * (len(measures.NAMES) - 1)
    )
    assert evidence["au1"] == evidence["au26"] == 0
    assert {name for name, value in evidence.items() if np.isnan(value)} == {"au6", "au15", "au17", "au24", "au27"}


def test_crop_coordinates_run_over_the_crop() -> None:
    """A box of 100 pixels has a crop of 150: its corners are at 2/3, the crop's at 1."""
    box = Box(100, 100, 100, 80)
    points = np.array([[100, 140], [150, 140], [225, 215], [75, 65]], np.float32)

    assert crop_coordinates(points, box) == pytest.approx(np.array([[-2 / 3, 0], [0, 0], [1, 1], [-1, -1]]))


def test_a_real_face_has_its_landmarks_in_the_order_of_ibug(analyzer, picture) -> None:
    face = analyzer.analyze(picture("0-f15-hao-ph.jpg"))[0]
    x, y = crop_coordinates(face.landmarks[list(IBUG_68)], face.box).T

    assert x.shape == (68,)
    assert face.embedding.shape == (EMBEDDING_SIZE,)
    assert max(np.abs(x).max(), np.abs(y).max()) < 1
    assert (np.diff(x[0:17]) > -0.02).all()  # jaw from left to right
    assert y[8] == y.max()  # chin
    assert (np.diff(x[17:27]) > 0).all()  # brows
    assert (np.diff(y[27:31]) > 0).all()  # bridge of the nose
    assert (np.diff(x[31:36]) > 0).all()  # base of the nose
    assert x[36] < x[39] < x[42] < x[45]  # eye corners
    assert y[37] < y[41]  # upper and lower lid
    assert y[43] < y[47]
    assert x[48] == x[48:60].min()  # lip corners
    assert x[54] == x[48:60].max()
    assert y[51] < y[62] < y[66] < y[57]  # lips from top to bottom
