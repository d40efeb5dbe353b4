"""The note holds every measured fact once, in few words, and nothing else."""

from dataclasses import replace

import pytest

from emo_llama_ros.evidence import ClipFacts, Evidence, Phase, Trend, answer_note, evidence_note
from emo_llama_ros.evidence.vocabulary import CERTAINTY, SECOND_READING

FACTS = ClipFacts(
    readings=(("happiness", 0.7), ("neutral", 0.2), ("fear", 0.06), ("anger", 0.04)),
    evidences=(
        Evidence(12, 0.784, Trend.RISING, 1.23),
        Evidence(25, 0.5, Trend.FALLING, 1.5, 0.4),
        Evidence(6, 1.0),
        Evidence(4, 0.2, offset_s=0.1),
    ),
    unknown=frozenset(),
    readable=True,
    labels=("anger", "happiness", "neutral", "sadness"),
    probabilities=(0.004, 0.81, 0.12, 0.066),
    phases=(Phase("neutral", 2.0, 1.2), Phase("happiness", 1.2)),
    span_s=2.0,
)
STILL = replace(FACTS, evidences=(Evidence(12, 0.7),), span_s=0.0)


def test_a_clip():
    assert evidence_note(FACTS) == (
        "Measured over 2.0 s: read as happiness 70%, neutral 20%, fear 06%; first neutral, then happiness since 1.2 s; "
        "AU12 78% rising since 1.2 s; AU25 50% falling since 1.5 s until 0.4 s; AU6 99%; AU4 20% until 0.1 s."
    )


def test_a_single_image_has_no_times():
    assert evidence_note(STILL) == ("Measured in one image: read as happiness 70%, neutral 20%, fear 06%; AU12 70%.")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"evidences": ()}, "; no movement."),
        ({"unknown": frozenset({4})}, "; no neutral reference."),
        ({"unknown": frozenset({4, 12}), "readable": False}, "; face not readable."),
        ({"phases": ()}, "; course unknown;"),
        ({"readings": ()}, "Measured over 2.0 s: first neutral,"),
    ],
)
def test_what_is_not_known_is_said(changes, said):
    assert said in evidence_note(replace(FACTS, **changes))


def test_what_is_measured_can_be_noted_before_any_answer():
    assert evidence_note(replace(FACTS, probabilities=())) == evidence_note(FACTS)


def test_the_published_answer():
    assert answer_note(FACTS.labels, FACTS.probabilities) == "Published: happiness 81%, neutral 12%, sadness 06%."


@pytest.mark.parametrize("bound", [*(low for low, _ in CERTAINTY.values() if low), SECOND_READING])
def test_a_percentage_never_stands_for_two_words(bound):
    below = answer_note(("happiness",), (bound - 0.001,))
    assert below != answer_note(("happiness",), (bound,))


def test_a_single_image_has_no_course():
    assert (FACTS.course, STILL.course) == (FACTS.phases, ())


def test_a_reader_is_told_of_the_units_that_it_knows_only():
    facts = replace(FACTS, evidences=(*FACTS.evidences, Evidence(16, 0.9)))

    assert "AU16" in evidence_note(facts)
    assert evidence_note(facts.of_units({12, 25, 6, 4})) == evidence_note(FACTS)
