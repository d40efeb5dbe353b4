"""The blendshape scores of real faces: what the network's inputs and outputs are, and what the scores tell."""

from __future__ import annotations

import numpy as np
import pytest

from emo_llama_ros.faces import blendshapes
from emo_llama_ros.faces.blendshapes import INPUT_POINTS, OUTPUTS, SCORES, Blendshapes
from emo_llama_ros.install.fetch import model_file


@pytest.fixture(scope="module")
def network(analyzer) -> Blendshapes:
    return Blendshapes(model_file(blendshapes.NETWORK_FILE))


def test_there_are_146_different_points_and_52_different_scores() -> None:
    assert len(set(INPUT_POINTS)) == 146
    assert len(set(OUTPUTS)) == 52
    assert max(INPUT_POINTS) < 478


def test_scores_are_the_mean_of_both_sides(network, analyzer, picture) -> None:
    landmarks = analyzer.analyze(picture("0-f15-hao-ph.jpg"))[0].landmarks
    raw = dict(zip(OUTPUTS, network.raw(landmarks).tolist(), strict=True))
    scores = network.scores(landmarks)

    assert tuple(scores) == SCORES
    assert scores["jawOpen"] == pytest.approx(raw["jawOpen"])
    assert scores["mouthSmile"] == pytest.approx((raw["mouthSmileLeft"] + raw["mouthSmileRight"]) / 2)


def test_scores_do_not_depend_on_place_and_size(network, analyzer, picture) -> None:
    landmarks = analyzer.analyze(picture("0-f1-su-ph.jpg"))[0].landmarks
    scores = network.scores(landmarks)

    assert network.scores(landmarks * np.float32(2.5) + np.float32(70)) == pytest.approx(scores, abs=0.005)


def test_a_smile_a_dropped_jaw_and_a_frown_score_highest_where_they_are_posed(analyzer, picture) -> None:
    smile, surprise, frown = (
        analyzer.analyze(picture(name))[0].measures
        for name in ("0-f15-hao-ph.jpg", "0-f1-su-ph.jpg", "15-f13-anc-ph.jpg")
    )

    assert smile["mouthSmile"] > 0.7 > 0.1 > max(surprise["mouthSmile"], frown["mouthSmile"])
    assert surprise["jawOpen"] > 0.4 > 0.1 > max(smile["jawOpen"], frown["jawOpen"])
    assert frown["browDown"] > 0.2 > 0.1 > max(smile["browDown"], surprise["browDown"])


def test_eyes_shut_in_tears_are_closed_and_open_ones_are_not(faces_of) -> None:
    """WolfgangLanger_Pexels.mp4 at 24 fps: shut from frame 32 to 92, open from 160 to 220."""
    measures = [faces[0].measures for _, faces in faces_of("WolfgangLanger_Pexels.mp4", 4)]
    shut, open_ = measures[8:23], measures[40:55]

    assert max(m["eye_opening"] for m in shut) < 0.12 < 0.25 < min(m["eye_opening"] for m in open_)
    assert min(m["eyeBlink"] for m in shut) > 0.6 > 0.2 > max(m["eyeBlink"] for m in open_)


@pytest.mark.parametrize("name", ["0-f1-su-ph.jpg", "0-f15-hao-ph.jpg", "15-f13-anc-ph.jpg", "single_face.jpg"])
def test_a_mirrored_picture_has_the_same_scores_and_opening(analyzer, picture, name) -> None:
    """As far as the network is steady: another crop of the same face moves a single score by up to 0.1, all of them by
    0.01 to 0.02 on average. Two faces with the same display are 0.05 apart on average, with different ones 0.15 and
    more.
    """
    rgb = picture(name)

    one, other = (analyzer.analyze(image)[0].measures for image in (rgb, np.ascontiguousarray(rgb[:, ::-1])))
    apart = [abs(one[score] - other[score]) for score in (*SCORES, "eye_opening")]

    assert np.mean(apart) < 0.03
    assert max(apart) < 0.15
