"""A sentence is faithful when every one of its claims holds in the measurements."""

from emo_llama_ros.evaluation.faithfulness import Tally, check
from emo_llama_ros.evidence import About, Evidence, Phase, Trend, describe
from emo_llama_ros.labels import RAF_DB

EVIDENCES = (Evidence(12, 0.8, Trend.RISING, 1.0), Evidence(6, 0.5))
HAPPY = (0.01, 0.01, 0.01, 0.94, 0.01, 0.01, 0.01)
PHASES = (Phase("neutral", 2.0, 1.0), Phase("happiness", 1.0))


def checked(text):
    return check(text, EVIDENCES, HAPPY, RAF_DB.labels, PHASES)


def test_a_description_of_the_measurements_is_faithful():
    found = checked(describe(EVIDENCES, HAPPY, RAF_DB.labels, PHASES))
    assert found.sentences == found.sentences_held == 5
    assert found.unfaithful == ()


def test_one_false_claim_makes_its_sentence_unfaithful_and_no_other():
    found = checked("The lip corners are raised and the nose is wrinkled. The cheeks are raised.")
    assert (found.claims, found.claims_held) == (3, 2)
    assert (found.sentences, found.sentences_held) == (2, 1)
    assert found.unfaithful == ("The lip corners are raised and the nose is wrinkled.",)


def test_what_nobody_measures_is_unfaithful():
    found = checked("There are tears on the cheeks. The teeth are visible. Thank you.")
    assert (found.sentences, found.sentences_held) == (2, 0)


def test_a_wrong_time_is_unfaithful():
    assert checked("The lip corners have been raised for the last 1.0 s.").sentences_held == 1
    assert checked("The lip corners have been raised for the last 0.3 s.").sentences_held == 0


def test_a_tally_sums_texts_and_keeps_examples():
    tally = Tally()
    assert tally.share == 1.0
    for text in ("The cheeks are raised. The nose is wrinkled.", "The face shows fear.", "Hello."):
        tally.add(checked(text), most_examples=1)
    assert tally.texts == 3
    assert tally.share == 1 / 3
    assert tally.false_by_kind == {About.UNIT: 1, About.LABEL: 1}
    assert tally.examples == ["The nose is wrinkled."]
