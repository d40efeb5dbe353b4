"""A fitted calibration makes confidence honest on data it has not seen, and the node reads its file."""

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax

pytest.importorskip("sklearn", reason="needs scikit-learn (extra: train)")

from emo_llama_ros import calibration
from emo_llama_ros.errors import BadData, BadParameter
from emo_llama_ros.evaluation.calibration_fit import METHODS, fit, temperature_on_votes
from emo_llama_ros.evaluation.metrics import calibration_of, compute
from emo_llama_ros.labels import MAFW, RAF_DB

sys.path.insert(0, str(Path(__file__).parent))
from predictions import answers, overconfident


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_that_spoiled_the_confidence_is_found(temperature):
    found = fit(overconfident(temperature=temperature, seed=1), RAF_DB)
    assert found.temperature == pytest.approx(temperature, rel=0.08)


@pytest.mark.parametrize("method", METHODS)
def test_fresh_data_are_calibrated(method):
    found = fit(overconfident(seed=1), RAF_DB, method)
    fresh = overconfident(seed=2)
    before, after = (compute(p, RAF_DB).calibration for p in (fresh, [found.apply(p) for p in fresh]))
    assert before.ece > 0.2
    assert after.ece < 0.04
    assert after.nll < before.nll
    assert found.after.ece < found.before.ece


def test_vector_scaling_undoes_a_bias_that_a_temperature_cannot():
    from dataclasses import replace

    def biased(p):
        weights = np.array(p.probabilities) * np.array([8, 1, 1, 1, 1, 1, 1])
        return replace(p, probabilities=tuple(weights / weights.sum()))

    spoiled = [biased(p) for p in overconfident(temperature=1.5, seed=3)]
    vector, temperature = fit(spoiled, RAF_DB, "vector"), fit(spoiled, RAF_DB)
    assert vector.after.nll < temperature.after.nll - 0.02
    assert vector.bias[0] < min(vector.bias[1:]) - 1


@pytest.mark.parametrize("method", METHODS)
def test_the_node_reads_the_file_and_gives_the_same_probabilities(method, tmp_path):
    found = fit(overconfident(), RAF_DB, method)
    found.save(tmp_path / "c.json", RAF_DB, "test data")
    read = calibration.load(tmp_path / "c.json", RAF_DB)
    fresh = overconfident(3, seed=9)[0]
    expected = found.apply(fresh).probabilities
    assert read.apply(np.log(fresh.probabilities).tolist()) == pytest.approx(expected, abs=1e-9)
    assert "test data" in (tmp_path / "c.json").read_text()


def test_a_temperature_never_changes_the_label():
    found = fit(overconfident(), RAF_DB)
    for p in overconfident(50, seed=5):
        assert np.argmax(found.apply(p).probabilities) == np.argmax(p.probabilities)


def test_answers_without_a_label_are_left_alone():
    found = fit(overconfident(), RAF_DB)
    (none,) = answers(["anger"], ["no_face"])
    assert found.apply(none) == none


def test_certain_wrong_answers_do_not_break_the_fit():
    found = fit(answers(["anger"] * 20, ["anger"] * 15 + ["fear"] * 5, confidence=1.0), RAF_DB)
    assert np.isfinite(found.temperature)
    assert found.after.nll < found.before.nll


def test_too_few_samples_and_unknown_methods_are_refused():
    with pytest.raises(BadData, match="at least 220 labelled answers; there are 100"):
        fit(overconfident(100, labels=MAFW), MAFW, "vector")
    with pytest.raises(BadParameter, match="no calibration method 'magic'"):
        fit(overconfident(100), RAF_DB, "magic")


def voted(count=2000, temperature=2.0, seed=0, classes=8):
    """Return log-probabilities `temperature` times too sharp, ten votes drawn from the honest ones, the majority."""
    rng = np.random.default_rng(seed)
    honest = rng.normal(0, 1.5, (count, classes))
    p = np.exp(honest) / np.exp(honest).sum(1, keepdims=True)
    votes = np.stack([rng.multinomial(10, row) for row in p])
    return honest * temperature, votes, np.where(votes.max(1) > 5, votes.argmax(1), -1)


def test_a_temperature_fitted_on_votes_is_the_one_that_spoiled_the_shares():
    scores, votes, _ = voted(temperature=2.0)
    assert temperature_on_votes(scores, votes, most_ece=1.0) == pytest.approx(2.0, rel=0.04)


def test_after_a_fit_on_votes_a_probability_is_the_share_of_people_who_choose_the_label():
    scores, votes, _ = voted(temperature=2.0)
    temperature = temperature_on_votes(scores, votes, most_ece=1.0)
    fresh, fresh_votes, _ = voted(temperature=2.0, seed=1)
    said = softmax(fresh / temperature, axis=1)
    shares = fresh_votes / 10
    for low, high in ((0.2, 0.4), (0.4, 0.6), (0.6, 0.8)):
        inside = (said > low) & (said < high)
        assert said[inside].mean() == pytest.approx(shares[inside].mean(), abs=0.02)


def test_where_shares_look_too_modest_beside_the_majority_no_more_is_given_up_than_must_be():
    scores, votes, _ = voted(temperature=2.0)
    free, bound = (temperature_on_votes(scores, votes, most_ece=most) for most in (1.0, 0.05))
    truth = votes.argmax(1)

    def error(temperature):
        return calibration_of(softmax(scores / temperature, axis=1), truth).ece

    assert bound < free
    assert error(bound) <= 0.05 < error(bound * 1.02), "the next temperature nearer to the shares is not allowed"
    assert error(temperature_on_votes(scores, votes, most_ece=0.0)) < 0.04, "as near as can be"


def test_faces_without_votes_do_not_count():
    scores, votes, _ = voted(400)
    nobody = np.zeros((50, 8), int)
    wild = np.random.default_rng(0).normal(0, 9, (50, 8))
    alone = temperature_on_votes(scores, votes)
    assert temperature_on_votes(np.vstack([scores, wild]), np.vstack([votes, nobody])) == alone


def test_votes_of_another_shape_and_too_few_are_refused():
    scores, votes, _ = voted(100)
    with pytest.raises(BadData, match=r"one column per label: \(100, 8\), \(100, 7\)"):
        temperature_on_votes(scores, votes[:, :7])
    with pytest.raises(BadData, match="at least 10 faces with votes"):
        temperature_on_votes(scores[:9], votes[:9])
