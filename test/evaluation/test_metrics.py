"""Metrics agree with their definitions and with scikit-learn."""

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="needs scikit-learn (extra: train)")

from sklearn.metrics import accuracy_score, f1_score, recall_score

from emo_llama_ros.errors import BadData
from emo_llama_ros.evaluation.comparison import compare
from emo_llama_ros.evaluation.metrics import compute
from emo_llama_ros.evaluation.prediction import Prediction, from_json, write_predictions
from emo_llama_ros.labels import DFEW, RAF_DB

sys.path.insert(0, str(Path(__file__).parent))
from predictions import answers, overconfident


def test_war_is_accuracy_and_uar_the_mean_recall():
    truth = ["happiness"] * 8 + ["anger"] * 2
    metrics = compute(answers(truth, ["happiness"] * 8 + ["anger", "sadness"]), RAF_DB)
    assert metrics.war.value == pytest.approx(0.9)
    assert metrics.uar.value == pytest.approx(0.75)
    assert metrics.classes["anger"].recall == 0.5
    assert metrics.classes["happiness"].precision == 1.0
    assert metrics.classes["anger"].support == 2
    assert math.isnan(metrics.classes["fear"].recall)


def test_the_figures_are_those_of_scikit_learn():
    rng = np.random.default_rng(1)
    truth = rng.choice(RAF_DB.labels, 300).tolist()
    said = [t if rng.random() < 0.6 else str(rng.choice(RAF_DB.labels)) for t in truth]
    metrics = compute(answers(truth, said), RAF_DB)
    assert metrics.war.value == pytest.approx(accuracy_score(truth, said))
    assert metrics.uar.value == pytest.approx(recall_score(truth, said, average="macro"))
    assert metrics.macro_f1 == pytest.approx(f1_score(truth, said, average="macro"))


@pytest.mark.parametrize("outcome", ["unparsed", "no_face", "error"])
def test_an_answer_without_label_is_wrong_and_counted(outcome):
    metrics = compute(answers(["happiness"] * 4, ["happiness"] * 3 + [outcome]), RAF_DB)
    assert metrics.war.value == 0.75
    assert metrics.uar.value == 0.75
    assert metrics.outcomes[outcome] == 1
    assert metrics.confusion[RAF_DB.index("happiness")].tolist() == [0, 0, 0, 3, 0, 0, 0, 1]


def test_no_answer_at_all_is_zero_and_has_no_calibration():
    metrics = compute(answers(["happiness"] * 4, ["no_face"] * 4), RAF_DB)
    assert metrics.war.value == 0
    assert metrics.macro_f1 == 0
    assert metrics.calibration is None
    assert math.isnan(metrics.latency_ms[0])


def test_folds_are_averaged_not_pooled():
    one = answers(["happiness"] * 9, ["happiness"] * 9, labels=DFEW, fold=1)
    two = answers(["anger"], ["sadness"], labels=DFEW, fold=2)
    metrics = compute(one + two, DFEW)
    assert metrics.folds == {1: (1.0, 1.0), 2: (0.0, 0.0)}
    assert metrics.war.value == pytest.approx(0.5)


def test_intervals_cover_the_true_accuracy_as_often_as_they_promise():
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        hits = rng.random(150) < 0.7
        said = ["happiness" if hit else "anger" for hit in hits]
        war = compute(answers(["happiness"] * 150, said), RAF_DB, seed=trial).war
        covered += war.low <= 0.7 <= war.high
    assert 0.90 <= covered / 200 <= 0.99


def test_honest_confidence_has_no_calibration_error_and_loud_confidence_has():
    honest = compute(overconfident(temperature=1.0), RAF_DB).calibration
    loud = compute(overconfident(temperature=2.5), RAF_DB).calibration
    assert honest.ece < 0.03
    assert loud.ece > 0.12
    assert loud.brier > honest.brier
    assert loud.nll > honest.nll


def test_calibration_figures_follow_their_definitions():
    metrics = compute(answers(["happiness", "happiness"], ["happiness", "anger"], confidence=0.7), RAF_DB)
    assert metrics.calibration.ece == pytest.approx(0.2)
    assert metrics.calibration.nll == pytest.approx(-(math.log(0.7) + math.log(0.05)) / 2)
    wrong, right = 0.7**2 + 0.95**2 + 5 * 0.05**2, 0.3**2 + 6 * 0.05**2
    assert metrics.calibration.brier == pytest.approx((wrong + right) / 2)
    assert sum(n for _, _, n in metrics.calibration.bins) == 2


def test_latency_percentiles():
    metrics = compute(answers(["happiness"] * 100, ["happiness"] * 100), RAF_DB)
    assert metrics.latency_ms == pytest.approx((50.5, 95.05))


def test_nothing_to_evaluate_and_foreign_labels_are_said():
    with pytest.raises(BadData, match="nothing to evaluate"):
        compute([], RAF_DB)
    with pytest.raises(BadData, match=r"'contempt' is no label of raf-db"):
        compute([Prediction("a", "contempt", "no_face")], RAF_DB)


def test_predictions_are_written_and_read(tmp_path):
    made = answers(["happiness", "anger"], ["happiness", "no_face"], reasoning="The lip corners are raised.")
    write_predictions(tmp_path / "p.jsonl", made)
    assert [from_json(json.loads(line)) for line in (tmp_path / "p.jsonl").read_text().splitlines()] == made


def test_a_clear_difference_between_two_backends_is_significant():
    truth = ["happiness"] * 100
    first = answers(truth, ["happiness"] * 60 + ["anger"] * 40)
    second = answers(truth, ["happiness"] * 80 + ["anger"] * 20)
    found = compare(first, second, RAF_DB)
    assert found.difference.value == pytest.approx(0.2)
    assert found.difference.low > 0
    assert (found.only_first, found.only_second) == (0, 20)
    assert found.p_value < 0.001
    assert found.agreement == pytest.approx(0.8)


def test_equal_backends_do_not_differ():
    made = answers(["happiness"] * 10, ["happiness"] * 5 + ["anger"] * 5)
    found = compare(made, made, RAF_DB)
    assert found.p_value == 1.0
    assert found.difference.value == 0
    with pytest.raises(BadData, match="same samples"):
        compare(made, made[:5], RAF_DB)


def test_brier_and_kl_are_of_the_shares_of_votes_where_there_are_any():
    from dataclasses import replace

    (sure,) = answers(["happiness"], ["happiness"], confidence=1.0)
    half = replace(sure, votes=(5, 5, 0, 0, 0, 0, 0, 0, 0, 0))  # neutral and happiness
    nobody = replace(sure, votes=(0, 0, 0, 0, 0, 0, 0, 0, 4, 6))
    found = compute([half, nobody, sure], RAF_DB).votes
    assert found.count == 1
    assert found.brier == pytest.approx(0.5)
    assert found.kl > 10  # what half of the people chose was given nothing
    fair = replace(half, probabilities=tuple(0.5 if x in ("neutral", "happiness") else 0.0 for x in RAF_DB.labels))
    found = compute([fair], RAF_DB).votes
    assert (found.brier, found.kl) == (pytest.approx(0), pytest.approx(0))
    assert compute([sure], RAF_DB).votes is None


def test_people_are_scored_one_by_one():
    made = []
    for number in range(20):
        right = 2 if number else 1  # person 0 is read right half of the time
        said = ["anger"] * right + ["fear"] * (2 - right)
        made += answers(["anger", "anger"], said, person=f"p{number}")
    made += answers(["fear"], ["anger"])  # of nobody in particular
    found = compute(made, RAF_DB).people
    assert found.people == 20
    assert found.mean == pytest.approx((19 + 0.5) / 20)
    assert found.worst_tenth == pytest.approx(0.75)  # of two people
    assert compute(answers(["fear"], ["anger"]), RAF_DB).people is None


def test_low_quality_is_counted():
    made = answers(["fear"], ["anger"]) + answers(["fear"], ["fear"], fold=0, low_quality=True)
    assert compute(made, RAF_DB).low_quality == 1


def test_the_difference_of_uar_weighs_rare_classes_like_others():
    truth = ["happiness"] * 90 + ["fear"] * 10
    first = answers(truth, ["happiness"] * 100)
    second = answers(truth, ["happiness"] * 80 + ["fear"] * 20)
    found = compare(first, second, RAF_DB)
    assert found.difference.value == pytest.approx(0.0)
    assert found.uar_difference.value == pytest.approx((1 - 10 / 90) / 2)
    assert found.uar_difference.low > 0.3
    assert found.difference.low < 0 < found.difference.high
