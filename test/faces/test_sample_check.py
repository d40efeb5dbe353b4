"""A network whose labels stand in another order than its outputs is noticed on faces that everybody reads alike."""

from __future__ import annotations

import numpy as np
import pytest

from emo_llama_ros.faces.face import Box, Face
from emo_llama_ros.faces.sample_check import SAMPLES, label_disagreement
from emo_llama_ros.labels import RAF_DB


class _Scripted:
    """Reads one face in each picture, in the order of SAMPLES, as the given labels."""

    name = "scripted"

    def __init__(self, *read: str | None) -> None:
        self._read = iter(read)

    def analyze(self, rgb: np.ndarray) -> list[Face]:
        label = next(self._read)
        if label is None:
            return []
        expression = np.full(7, 0.02, np.float32)
        expression[RAF_DB.index(label)] = 0.88
        return [Face(Box(0, 0, 9, 9), 1.0, rgb, expression=expression)]


@pytest.fixture(autouse=True)
def _fetched(media) -> None:
    for name in SAMPLES:
        media(name)


def test_the_embedded_network_agrees_with_the_sample_faces(analyzer) -> None:
    assert label_disagreement(analyzer) == ""


@pytest.mark.parametrize(
    "read",
    [
        ("surprise", "happiness", "sadness", "anger"),
        ("fear", "happiness", "anger", "anger"),
        ("surprise", "happiness", None, "anger"),
    ],
)
def test_a_network_that_is_right_on_most_sample_faces_is_not_doubted(read) -> None:
    assert label_disagreement(_Scripted(*read)) == ""


@pytest.mark.parametrize(
    ("read", "named"),
    [
        (("surprise", "sadness", "anger", "disgust"), "happiness as sadness"),
        (("fear", "happiness", "sadness", "anger"), "surprise as fear, anger as sadness, disgust as anger"),
    ],
)
def test_a_network_that_misreads_them_is_doubted_with_what_it_reads(read, named) -> None:
    assert f"sample faces that show {named}: check the order of the labels" in label_disagreement(_Scripted(*read))


def test_labels_that_the_network_does_not_have_are_not_asked_for() -> None:
    class TwoLabels(_Scripted):
        def analyze(self, rgb: np.ndarray) -> list[Face]:
            (face,) = super().analyze(rgb)
            two = np.zeros(7, np.float32)
            two[[RAF_DB.index("happiness"), RAF_DB.index("sadness")]] = face.expression[[3, 4]]
            return [Face(face.box, 1.0, rgb, expression=two / two.sum())]

    assert label_disagreement(TwoLabels("sadness", "happiness", "sadness", "sadness")) == ""
    assert "happiness as sadness" in label_disagreement(TwoLabels("sadness", "sadness", "sadness", "sadness"))
