import json
import math
from dataclasses import replace

import numpy as np
import pytest

from emo_llama_ros.backends.backend import LabelAnswer, ModelInfo
from emo_llama_ros.engine.answers import announced, explained, label_estimate, nobody_estimate, printable
from emo_llama_ros.estimate import ActionUnit, RegionOfInterest, Stage, StageTiming, Status
from emo_llama_ros.faces.face import Box, Face, QualityFlaw
from emo_llama_ros.labels import RAF_DB
from emo_llama_ros.perception.clips import Clip

INFO = ModelInfo("test", "test model", RAF_DB)
HAPPY = LabelAnswer((0.05, 0.05, 0.05, 0.7, 0.05, 0.05, 0.05), action_units=(ActionUnit(12, "lip corner puller", 0.8),))


def clip(flaws=QualityFlaw.NONE, box=Box(10.4, -3.0, 50.2, 60.0)):  # noqa: B008
    face = Face(box, 0.9, np.zeros((224, 224, 3), np.uint8), flaws=flaws)
    return Clip("a1", "camera", (100, 200, 300), (face,) * 3)


def test_the_label_is_the_most_probable_one_and_its_probability_the_confidence():
    estimate = label_estimate(clip(), HAPPY, INFO, min_confidence=0.4)
    assert (estimate.status, estimate.label, estimate.confidence) == (Status.OK, "happiness", 0.7)
    assert estimate.labels == RAF_DB.labels
    assert sum(estimate.probabilities) == pytest.approx(1)


def test_an_estimate_tells_what_was_looked_at():
    estimate = label_estimate(clip(), HAPPY, INFO, 0.4)
    assert (estimate.stamp_ns, estimate.clip_start_ns, estimate.frame_count) == (300, 100, 3)
    assert (estimate.face_id, estimate.frame_id, estimate.model) == ("a1", "camera", "test model")


def test_an_estimate_tells_of_the_newest_frames_when_the_model_looked_at_no_others():
    estimate = label_estimate(clip(), replace(HAPPY, frames=2), INFO, 0.4)
    assert (estimate.stamp_ns, estimate.clip_start_ns, estimate.frame_count) == (300, 200, 2)


def test_a_box_over_the_border_is_cut_to_the_image():
    assert label_estimate(clip(), HAPPY, INFO, 0.4).roi == RegionOfInterest(10, 0, 57, 51)


def test_a_label_below_min_confidence_is_marked():
    assert label_estimate(clip(), HAPPY, INFO, min_confidence=0.8).status is Status.LOW_CONFIDENCE


def test_a_flawed_face_is_marked_whatever_the_confidence():
    assert label_estimate(clip(QualityFlaw.TURNED), HAPPY, INFO, 0.4).status is Status.LOW_QUALITY


def test_a_failure_has_no_label_but_a_reason():
    failed = LabelAnswer((), status=Status.ERROR, message="The GPU is full.")
    estimate = label_estimate(clip(), failed, INFO, 0.4)
    assert (estimate.status, estimate.label, estimate.probabilities) == (Status.ERROR, "", ())
    assert math.isnan(estimate.confidence)
    assert estimate.reasoning == "The GPU is full."


def test_label_and_final_share_their_id_and_only_final_reasons():
    estimate = label_estimate(clip(), HAPPY, INFO, 0.4)
    first = announced(estimate)
    last = explained(estimate, "The lip corners are raised.", (StageTiming("reasoning", 5),))
    assert first.estimate_id == last.estimate_id
    assert (first.stage, last.stage) == (Stage.LABEL, Stage.FINAL)
    assert (first.reasoning, last.reasoning) == ("", "The lip corners are raised.")


def test_nobody_in_view_is_no_failure_and_no_label():
    estimate = nobody_estimate(5, "camera", INFO)
    assert (estimate.status, estimate.label, estimate.face_id) == (Status.NO_FACE, "", "")


def test_model_text_is_one_printable_line_of_bounded_length():
    assert printable("a\n\x1b[31mred\x00  b") == "a [31mred b"
    assert len(printable("x" * 10_000)) == 2000


def test_a_record_is_plain_json_with_the_message_field_names():
    record = label_estimate(clip(), HAPPY, INFO, 0.4).record()
    assert record["header"] == {"stamp": 300, "frame_id": "camera"}
    assert record["clip_start"] == 100
    assert record["action_units"] == [{"number": 12, "name": "lip corner puller", "intensity": 0.8}]
    assert record["valence"] is None
    assert json.loads(json.dumps(record, allow_nan=False)) == record


def test_a_record_has_exactly_the_fields_of_the_message(msg_fields):
    record = label_estimate(clip(), HAPPY, INFO, 0.4).record()
    assert set(record) == set(msg_fields("EmotionEstimate"))
    assert set(record["roi"]) == {"x_offset", "y_offset", "height", "width"}
    assert set(record["action_units"][0]) == set(msg_fields("ActionUnit"))
