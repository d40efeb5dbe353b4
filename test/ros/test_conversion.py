import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emo_llama_ros.backends.backend import ModelInfo
from emo_llama_ros.estimate import ActionUnit, RegionOfInterest, Stage, StageTiming, Status
from emo_llama_ros.labels import RAF_DB

pytestmark = pytest.mark.usefixtures("ros")


def test_an_estimate_survives_the_message(estimate):
    from emo_llama_ros.ros.conversion import estimate_message, estimate_of

    said = estimate(
        stage=Stage.LABEL,
        status=Status.LOW_CONFIDENCE,
        roi=RegionOfInterest(1, 2, 3, 4),
        label="happiness",
        confidence=0.5,
        label_set=RAF_DB.name,
        labels=RAF_DB.labels,
        probabilities=(0.0, 0.0, 0.0, 0.5, 0.25, 0.25, 0.0),
        reasoning="The lip corners are pulled – 笑.",
        action_units=(ActionUnit(12, "lip corner puller", 0.75),),
        valence=0.5,
        arousal=-0.25,
        age_at_publish_ns=-3,
        timings=(StageTiming("wait", 5), StageTiming("label", 7_000_000_001)),
    )
    assert estimate_of(estimate_message(said, age_ns=-3)) == said


def test_unknown_stays_nan(estimate):
    from emo_llama_ros.ros.conversion import estimate_message

    message = estimate_message(estimate(action_units=(ActionUnit(12, "lip corner puller"),)))
    for value in (message.confidence, message.valence, message.arousal, message.action_units[0].intensity):
        assert math.isnan(value)


def test_the_message_has_exactly_the_fields_of_the_estimate(estimate, msg_fields):
    assert sorted(estimate().record()) == sorted(msg_fields("EmotionEstimate"))


@given(st.integers(-(2**31) * 10**9, (2**31 - 1) * 10**9))
def test_nanoseconds_survive_time_and_duration(value):
    from emo_llama_ros.ros.conversion import duration_message, nanoseconds, time_message

    assert nanoseconds(duration_message(value)) == value
    assert nanoseconds(time_message(value)) == value
    assert 0 <= time_message(value).nanosec < 10**9


@pytest.mark.parametrize("years", [100, -100])
def test_a_span_that_no_duration_can_hold_is_the_longest_one(ros, years):
    from emo_llama_ros.ros.conversion import duration_message, nanoseconds

    longest = 2**31 * 10**9 - 1 if years > 0 else -(2**31) * 10**9
    assert nanoseconds(duration_message(years * 31_557_600 * 10**9)) == longest


def test_the_model_description_survives_the_message():
    from emo_llama_ros.ros.conversion import model_info_message, nanoseconds

    info = ModelInfo("expression", "m", RAF_DB, "file", "abc", "int8", "cpu", "float32", "hash", "temperature 1.5")
    message = model_info_message(info, 5_000_000_007)
    assert nanoseconds(message.stamp) == 5_000_000_007
    assert message.labels == list(RAF_DB.labels)
    assert message.label_set == RAF_DB.name
    for name in ("backend", "model", "checkpoint", "checksum", "quantization", "device", "dtype", "prompt_hash"):
        assert getattr(message, name) == getattr(info, name)
    assert message.calibration == info.calibration
