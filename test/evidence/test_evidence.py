"""What is said about a face is measured, and what is said can be checked."""

from dataclasses import replace

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from emo_llama_ros.evidence import (
    TYPICAL,
    UNITS,
    About,
    Evidence,
    Phase,
    Trend,
    describe,
    describe_changes,
    holds,
    parse,
    sentences,
)
from emo_llama_ros.labels import MAFW, RAF_DB

SMILE = Evidence(12, 0.9, Trend.RISING, onset_s=0.8)
BROWS = Evidence(4, 0.2)
LABELS = RAF_DB.labels
HAPPY = (0.02, 0.02, 0.02, 0.86, 0.04, 0.02, 0.02)
PHASES = (Phase("neutral", 2.0, 0.9), Phase("happiness", 0.9))


def checks(text, evidences=(SMILE, BROWS), probabilities=HAPPY, phases=PHASES):
    return [(c.about, holds(c, evidences, probabilities, LABELS, phases)) for c in parse(text)]


def truths(text, **measured):
    return [true for _, true in checks(text, **measured)]


def test_a_description_reads_as_english_and_states_the_measurements():
    assert describe([BROWS, SMILE], HAPPY, LABELS, PHASES) == (
        "The face clearly shows happiness. "
        "The expression changed from neutral to happiness 0.9 s before the end. "
        "The lip corners have been strongly raised (AU12) for the last 0.8 s, growing stronger. "
        "The eyebrows are slightly lowered (AU4) throughout the clip. "
        "This movement is typical of happiness."
    )


def test_a_still_image_is_described_without_words_of_time():
    text = describe([replace(SMILE, onset_s=None, trend=Trend.STEADY)], HAPPY, LABELS, still=True)
    assert text == (
        "The face clearly shows happiness. The lip corners are strongly raised (AU12). "
        "This movement is typical of happiness."
    )


def test_a_face_without_movement_is_said_to_have_none():
    text = describe([], (0, 0, 0, 0, 0.2, 0, 0.8), LABELS)
    assert text == (
        "The face clearly shows a neutral expression; a weaker reading is sadness. "
        "No clear facial movement was measured."
    )


evidence = st.builds(
    Evidence,
    st.sampled_from(sorted(UNITS)),
    st.floats(0, 1),
    st.sampled_from(Trend),
    st.none() | st.floats(0.5, 3),
    st.sampled_from([0.0, 0.0, 0.3]),
)


@st.composite
def measured(draw):
    labels = draw(st.sampled_from([RAF_DB, MAFW])).labels
    weights = [draw(st.floats(0.001, 1)) ** 3 for _ in labels]
    names = draw(st.lists(st.sampled_from(labels), max_size=3))
    starts = sorted((draw(st.floats(0.1, 3)) for _ in names), reverse=True)
    phases = [Phase(n, s) for n, s in zip(names, starts, strict=True)]
    evidences = draw(st.lists(evidence, max_size=5, unique_by=lambda e: e.unit))
    return evidences, [w / sum(weights) for w in weights], labels, phases


@settings(deadline=None)
@given(measured(), st.integers(0, 2), st.booleans())
def test_every_sentence_of_a_description_is_understood_and_holds(facts, variant, still):
    evidences, probabilities, labels, phases = facts
    text = describe(evidences, probabilities, labels, phases, still=still, variant=variant)
    claims = parse(text)
    assert {c.sentence for c in claims} == set(sentences(text))
    assert [c for c in claims if not holds(c, evidences, probabilities, labels, phases)] == []
    assert all(c.about is not About.UNMEASURED for c in claims)


def test_movement_that_does_not_fit_the_label_says_what_that_means():
    sad = tuple(0.9 if label == "sadness" else 0.1 / (len(LABELS) - 1) for label in LABELS)
    text = describe([SMILE], sad, LABELS)

    assert text.endswith("This movement is not typical of sadness, so the label rests on the look of the whole face.")
    claims = parse(text)
    assert [(c.about, c.negated, c.labels) for c in claims][-1] == (About.FIT, True, ("sadness",))
    assert all(holds(c, [SMILE], sad, LABELS) for c in claims)


def test_a_label_without_any_movement_says_what_it_rests_on():
    sad = tuple(0.9 if label == "sadness" else 0.1 / (len(LABELS) - 1) for label in LABELS)
    text = describe([], sad, LABELS)

    assert text.endswith("No clear facial movement was measured, so the label rests on the look of the whole face.")
    assert all(holds(c, [], sad, LABELS) for c in parse(text))
    assert [c.about for c in parse(text)][-1] is About.STILLNESS


@settings(deadline=None)
@given(measured(), st.floats(0.5, 2))
def test_every_sentence_about_changes_holds(facts, last_s):
    evidences, probabilities, labels, phases = facts
    text = describe_changes(evidences, phases, round(last_s, 1))
    claims = parse(text)
    assert claims
    assert [c for c in claims if not holds(c, evidences, probabilities, labels, phases)] == []


@settings(deadline=None)
@given(st.text())
def test_any_text_can_be_parsed(text):
    parse(text)


@pytest.mark.parametrize("number", UNITS)
def test_each_unit_is_understood_as_itself_by_phrase_number_and_facs_name(number):
    unit = UNITS[number]
    for text in (f"The {unit.subject} are {unit.state}.", f"AU{number} is active.", f"A {unit.name} is seen."):
        claims = parse(text)
        assert [c.about for c in claims] == [About.UNIT], text
        assert number in claims[0].units, text


def test_typical_units_can_all_be_said():
    assert set().union(*TYPICAL.values()) <= set(UNITS)
    assert set(MAFW.labels) == set(TYPICAL)


@pytest.mark.parametrize(
    "text",
    [
        "The person is smiling.",
        "Her raised lip corners suggest happiness.",
        "A broad, growing smile and slightly lowered brows.",
        "The lip corners were pulled up 0.9 seconds ago.",
        "The eyebrows are not raised.",
        "The lip corners are strongly raised, and the nose is not wrinkled.",
        "The expression turned into joy in the last second.",
        "The face looks happy rather than angry.",
        "The brows have been a little furrowed throughout the clip.",
        "The lip corners are rising in the last second: AU12, increasing.",
    ],
)
def test_true_statements_in_other_words_hold(text):
    assert truths(text)
    assert all(truths(text)), checks(text)


@pytest.mark.parametrize(
    "text",
    [
        "The eyebrows are raised.",  # not measured
        "The lip corners are slightly raised.",  # strength
        "The lip corners are raised, fading.",  # trend
        "The lip corners have been raised for the last 1.6 s.",  # onset
        "The lip corners are raised throughout the clip.",
        "The lip corners are not raised.",
        "The lip corners are raised (AU15).",  # right words, wrong number
        "AU99 is active.",
        "The face shows sadness.",
        "The face possibly shows happiness.",  # certainty
        "A weaker reading is fear.",
        "This movement is typical of disgust.",
        "The expression changed from neutral to sadness 0.9 s before the end.",
        "The expression changed from neutral to happiness 1.6 s before the end.",
        "The expression stayed the same.",
        "No facial movement was measured.",
        "Nothing changed in the last 1.5 s.",
        "There are tears in her eyes.",  # nobody measures tears
        "The teeth are visible.",
    ],
)
def test_false_statements_do_not_hold(text):
    assert truths(text)
    assert not all(truths(text)), checks(text)


def test_one_false_number_beside_true_words_is_found():
    assert truths("The lip corners are raised (AU12) and the cheeks are raised (AU6).") == [True, False]


def test_two_parts_that_share_a_verb_are_two_claims():
    assert truths("The lip corners and the cheeks are raised.") == [True, False]


def test_a_sentence_about_nothing_in_the_face_makes_no_claim():
    assert parse("Thank you for asking.") == []
