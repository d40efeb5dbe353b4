import math
from dataclasses import replace

import numpy as np
import pytest

from emo_llama_ros.backends.expression import ExpressionBackend
from emo_llama_ros.backends.registry import make_backend
from emo_llama_ros.calibration import save_temperature
from emo_llama_ros.errors import BadParameter
from emo_llama_ros.estimate import NAN, Status
from emo_llama_ros.evidence import holds, parse, phases_of
from emo_llama_ros.evidence.action_units import measured_units
from emo_llama_ros.evidence.clip_measures import HALF_LIFE_S, clip_scores
from emo_llama_ros.faces.face import Box, Face, QualityFlaw
from emo_llama_ros.faces.measures import NAMES
from emo_llama_ros.frames import SECOND_NS
from emo_llama_ros.labels import RAF_DB
from emo_llama_ros.options import Options
from emo_llama_ros.perception.clips import Clip

NEUTRAL_FACE = {
    "mouth_width": 0.8,
    "eye_opening": 0.3,
    **{name: 0.5 for name in NAMES if name not in ("mouth_width", "eye_opening", "lips_apart", "lip_corner_lift")},
    "lips_apart": 0.01,
    "lip_corner_lift": 0.0,
}
# Raised cheeks lift the eye corners, from which the height of the brows is measured.
SMILE = NEUTRAL_FACE | {
    "lips_apart": 0.2,
    "lip_corner_lift": 0.1,
    "cheek_height": 0.56,
    "inner_brow_height": 0.46,
    "outer_brow_height": 0.46,
}


def reading(label, probability=0.9):
    rest = (1 - probability) / 6
    return np.array([probability if name == label else rest for name in RAF_DB.labels], np.float32)


def face(label, probability=0.9, measures=NEUTRAL_FACE, flaws=QualityFlaw.NONE):
    crop = np.zeros((224, 224, 3), np.uint8)
    expression = None if label is None else reading(label, probability)
    return Face(Box(0, 0, 100, 100), 1.0, crop, expression=expression, measures=measures, flaws=flaws)


def clip(*faces, step_s=0.25, baseline=NEUTRAL_FACE):
    stamps = tuple(round(i * step_s * SECOND_NS) for i in range(len(faces)))
    return Clip("a", "camera", stamps, faces, baseline)


@pytest.fixture
def backend():
    backend = ExpressionBackend(Options())
    backend.load()
    return backend


def top(answer):
    return RAF_DB.labels[int(np.argmax(answer.probabilities))]


def test_probabilities_are_over_the_common_label_order_and_sum_to_one(backend):
    (answer,) = backend.label([clip(*[face("anger")] * 8)])
    assert top(answer) == "anger"
    assert sum(answer.probabilities) == pytest.approx(1)
    assert backend.info.label_set is RAF_DB


def test_a_steady_reading_keeps_the_confidence_of_the_network(backend):
    (answer,) = backend.label([clip(*[face("sadness", 0.8)] * 8)])
    assert max(answer.probabilities) == pytest.approx(0.8, abs=1e-3)


def test_recent_faces_count_more_than_old_ones(backend):
    old_then_new = clip(*[face("neutral")] * 5, *[face("happiness")] * 3)
    new_then_old = clip(*[face("happiness")] * 5, *[face("neutral")] * 3)
    answers = backend.label([old_then_new, new_then_old])
    assert [top(answer) for answer in answers] == ["happiness", "neutral"]


def test_one_wrong_frame_does_not_change_the_label(backend):
    faces = [face("happiness")] * 8
    faces[5] = face("fear", 1.0)
    assert top(backend.label([clip(*faces)])[0]) == "happiness"


def test_flawed_faces_count_only_where_there_is_no_better_one():
    bad = face("disgust", flaws=QualityFlaw.TURNED)
    assert RAF_DB.labels[int(np.argmax(clip_scores(clip(face("happiness"), bad, bad))))] == "happiness"
    assert RAF_DB.labels[int(np.argmax(clip_scores(clip(bad, bad))))] == "disgust"


def test_a_clip_without_any_reading_is_an_error_not_a_guess(backend):
    (answer,) = backend.label([clip(face(None), face(None))])
    assert answer.status is Status.ERROR
    assert answer.probabilities == ()


def test_valence_and_arousal_are_unknown_where_the_network_gives_none(backend):
    (answer,) = backend.label([clip(*[face("happiness")] * 4)])
    assert math.isnan(answer.valence)
    assert math.isnan(answer.arousal)


def test_valence_and_arousal_are_the_recency_weighted_means_of_the_faces_that_count(backend):
    faces = [
        replace(face("happiness"), valence=-1.0, arousal=0.5),
        replace(face("happiness", flaws=QualityFlaw.DARK), valence=-1.0, arousal=-1.0),
        replace(face("happiness"), valence=0.8, arousal=NAN),
    ]
    (answer,) = backend.label([clip(*faces, step_s=HALF_LIFE_S)])
    assert answer.valence == pytest.approx((0.25 * -1.0 + 0.8) / 1.25)
    assert answer.arousal == pytest.approx(0.5)


def test_valence_and_arousal_stay_within_their_scale(backend):
    (answer,) = backend.label([clip(replace(face("fear"), valence=-1.4, arousal=3.0))])
    assert (answer.valence, answer.arousal) == (-1.0, 1.0)


def test_action_units_are_those_that_were_measured(backend):
    smile = clip(*[face("neutral")] * 4, *[face("happiness", measures=SMILE)] * 4)
    (answer,) = backend.label([smile])
    assert {unit.number for unit in answer.action_units} == {12, 25}
    assert all(0 < unit.intensity <= 1 for unit in answer.action_units)


def test_every_claim_of_the_reasoning_holds(backend):
    smile = clip(*[face("neutral")] * 4, *[face("happiness", measures=SMILE)] * 4)
    (answer,) = backend.label([smile])
    text = "".join(backend.explain(smile, answer))
    ages_s = [(smile.stamp_ns - s) / SECOND_NS for s in smile.stamps_ns]
    phases = phases_of(ages_s, [f.expression for f in smile.faces], RAF_DB.labels)
    claims = parse(text)
    assert len(claims) >= 4
    assert "changed from neutral to happiness" in text
    for claim in claims:
        assert holds(claim, measured_units(smile), answer.probabilities, RAF_DB.labels, phases), claim.sentence


def test_a_question_is_answered_with_the_measurements_and_says_so(backend):
    (answer,) = backend.label([clip(face("happiness"))])
    assert "cannot converse" in "".join(backend.explain(clip(face("happiness")), answer, "Why?"))


def test_a_calibration_file_changes_the_confidence_and_is_named(tmp_path):
    save_temperature(tmp_path / "mild.json", RAF_DB, 2.0)
    backend = ExpressionBackend(Options(calibration_file=str(tmp_path / "mild.json")))
    backend.load()
    (answer,) = backend.label([clip(face("happiness", 0.9))])
    assert max(answer.probabilities) < 0.8
    assert "temperature 2" in backend.info.calibration


def test_a_calibration_file_in_the_home_folder_is_found_by_its_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    save_temperature(tmp_path / "mild.json", RAF_DB, 2.0)
    backend = ExpressionBackend(Options(calibration_file="~/mild.json"))
    backend.load()
    assert "temperature 2" in backend.info.calibration


def test_a_label_set_that_the_network_does_not_know_is_refused():
    with pytest.raises(BadParameter, match="raf-db"):
        make_backend(Options(backend="expression", label_set="mafw"))
