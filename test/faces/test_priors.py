"""What the language model's face branch reads about a face."""

from __future__ import annotations

import numpy as np
import pytest

from emo_llama_ros.faces import measures
from emo_llama_ros.faces.expression import EMBEDDING_SIZE
from emo_llama_ros.faces.face import Box
from emo_llama_ros.faces.priors import EVIDENCE_NAMES, IBUG_68, crop_coordinates, face_priors


@pytest.fixture
def known_face(make_face):
    mesh = np.random.default_rng(0).normal(0, 20, (468, 3)).astype(np.float32) + np.float32(300)
    return make_face(landmarks=mesh, embedding=np.ones(5, np.float32))


def _named(priors) -> dict[str, float]:
    return dict(zip(EVIDENCE_NAMES, priors.evidence.tolist(), strict=True))


def test_there_are_68_different_landmarks() -> None:
    assert len(IBUG_68) == len(set(IBUG_68)) == 68


@pytest.mark.parametrize("part", ["landmarks", "embedding", "measures"])
def test_a_face_without_a_clue_has_no_priors_instead_of_zeros(known_face, part) -> None:
    from dataclasses import replace

    assert face_priors(known_face) is not None
    assert face_priors(replace(known_face, **{part: {} if part == "measures" else None})) is None


def test_landmarks_of_another_mark_up_are_no_priors(known_face) -> None:
    from dataclasses import replace

    assert face_priors(replace(known_face, landmarks=np.zeros((106, 3), np.float32))) is None


def test_evidence_is_raw_without_a_baseline_and_says_so(known_face) -> None:
    priors = face_priors(known_face)
    evidence = _named(priors)

    assert (priors.evidence.dtype, priors.valid) == (np.float32, True)
    assert evidence["has_baseline"] == 0
    assert evidence["jaw_drop"] == pytest.approx(known_face.measures["jaw_drop"])
    assert np.isnan(evidence["au1"])
    assert evidence["au12"] == 0


def test_evidence_is_relative_to_a_baseline(known_face) -> None:
    baseline = dict(known_face.measures) | {"jaw_drop": 0.66}
    evidence = _named(face_priors(known_face, baseline))

    assert evidence["has_baseline"] == 1
    assert evidence["jaw_drop"] == pytest.approx(0.10)
    assert evidence["au26"] == pytest.approx(1 / 6, abs=1e-5)
    assert [evidence[name] for name in measures.NAMES if name != "jaw_drop"] == pytest.approx(
        [0] * (len(measures.NAMES) - 1)
    )
    assert not np.isnan(list(evidence.values())).any()


def test_crop_coordinates_run_over_the_crop() -> None:
    """A box of 100 pixels has a crop of 150: its corners are at 2/3, the crop's at 1."""
    box = Box(100, 100, 100, 80)
    points = np.array([[100, 140], [150, 140], [225, 215], [75, 65]], np.float32)

    assert crop_coordinates(points, box) == pytest.approx(np.array([[-2 / 3, 0], [0, 0], [1, 1], [-1, -1]]))


def test_a_real_face_has_its_landmarks_in_the_order_of_ibug(analyzer, picture) -> None:
    face = analyzer.analyze(picture("0-f15-hao-ph.jpg"))[0]
    priors = face_priors(face)
    x, y = priors.landmarks.T

    assert priors.landmarks.shape == (68, 2)
    assert priors.embedding.shape == (EMBEDDING_SIZE,)
    assert np.abs(priors.landmarks).max() < 1
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
