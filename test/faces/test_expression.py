"""The embedded expression network: order of labels, embedding, and what must not change its mind."""

from __future__ import annotations

import numpy as np
import pytest

from emo_llama_ros.faces import expression
from emo_llama_ros.faces.expression import EMBEDDING_SIZE, NETWORK_LABELS, EmbeddedExpression, eye_views, face_views
from emo_llama_ros.install.fetch import model_file
from emo_llama_ros.labels import RAF_DB

STILLS = {
    "0-f1-su-ph.jpg": "surprise",
    "0-f15-hao-ph.jpg": "happiness",
    "15-f13-anc-ph.jpg": "anger",
    "single_face.jpg": "happiness",
}
CLEAR = [name for name, label in STILLS.items() if label != "anger"]
"""The frown is a close call, which small changes may turn."""


def _label(face) -> str:
    return RAF_DB.labels[int(face.expression.argmax())]


def test_posed_expressions_are_read_as_they_are_labelled(analyzer, picture) -> None:
    assert {name: _label(analyzer.analyze(picture(name))[0]) for name in STILLS} == STILLS


def test_probabilities_are_those_of_the_network_in_the_order_of_raf_db(analyzer, picture) -> None:
    """The embedding keeps the network's own order: both must tell the same."""
    face = analyzer.analyze(picture("15-f13-anc-ph.jpg"))[0]

    views = np.exp(face.embedding[:14]).reshape(2, 7)
    own_order = dict(zip(NETWORK_LABELS, views.mean(0), strict=True))

    assert face.expression.sum() == pytest.approx(1.0, abs=1e-5)
    assert [own_order[label] for label in RAF_DB.labels] == pytest.approx(face.expression.tolist(), abs=1e-4)


def test_the_embedding_is_finite_and_differs_between_expressions(analyzer, picture) -> None:
    embeddings = [analyzer.analyze(picture(name))[0].embedding for name in STILLS]

    assert all(e.shape == (EMBEDDING_SIZE,) and e.dtype == np.float32 and np.isfinite(e).all() for e in embeddings)
    features = np.stack(embeddings)[:, 14:]
    assert features.std(0).mean() > 0.05


@pytest.mark.parametrize("name", CLEAR)
@pytest.mark.parametrize(
    "change",
    [
        lambda rgb: (rgb * 0.2).astype(np.uint8),
        lambda rgb: (rgb * 0.4 + 100).astype(np.uint8),
        lambda rgb: np.repeat(rgb.mean(2, keepdims=True), 3, 2).astype(np.uint8),
    ],
    ids=["dim", "hazy", "grey"],
)
def test_light_does_not_change_the_label(analyzer, picture, name, change) -> None:
    assert _label(analyzer.analyze(change(picture(name)))[0]) == STILLS[name]


@pytest.mark.parametrize("name", STILLS)
@pytest.mark.parametrize("degrees", [-45, 30])
def test_a_tilted_head_does_not_change_the_label(analyzer, picture, name, degrees) -> None:
    import cv2

    rgb = picture(name)
    height, width = rgb.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 0.7)

    assert _label(analyzer.analyze(cv2.warpAffine(rgb, turn, (width, height)))[0]) == STILLS[name]


def test_views_from_the_eyes_alone_are_close_to_those_from_the_mesh(analyzer, picture) -> None:
    mesh = analyzer.analyze(picture("0-f15-hao-ph.jpg"))[0].landmarks
    eyes = [mesh[[outer, inner], :2].mean(0) for outer, inner in ((33, 133), (263, 362))]

    for coarse, fine in zip(eye_views(*eyes), face_views(mesh), strict=True):
        assert coarse.side == pytest.approx(fine.side, rel=0.1)
        assert (coarse.x, coarse.y) == pytest.approx((fine.x, fine.y), abs=0.1 * fine.side)


def test_the_network_has_seven_outputs(analyzer) -> None:
    network = EmbeddedExpression(model_file(expression.NETWORK_FILE))

    reading = network.read(
        np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64), np.uint8), face_views(np.ones((468, 3), np.float32))
    )

    assert reading.probabilities.shape == (7,)
    assert np.isfinite(reading.embedding).all()
