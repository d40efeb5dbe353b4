"""The trade-off between accuracy and rare displays is measured, and probabilities mean shares of votes."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the 'model' extra")
pytest.importorskip("sklearn", reason="needs the 'train' extra")

from emo_llama_ros.data.ferplus import VOTE_NAMES, VotedFaces, majority_of
from emo_llama_ros.labels import FERPLUS, RAF_DB
from emo_llama_ros.training.eyes.operating_point import choose, counted_shares, operating_points, prior_of

COUNT = 4000
PRIOR = np.array([0.4, 0.3, 0.1, 0.08, 0.06, 0.02, 0.03, 0.01])


@pytest.fixture(scope="module")
def observed() -> tuple[torch.Tensor, VotedFaces]:
    """Logits of a network that is right in its likelihoods, half as sure as it should be, and what ten people voted."""
    random = np.random.default_rng(2)
    shown = random.choice(8, COUNT, p=PRIOR)
    likelihood = random.normal(0, 1, (COUNT, 8)) + 2.5 * np.eye(8)[shown]
    posterior = 2.5 * likelihood + np.log(PRIOR)
    shares = np.exp(posterior - posterior.max(1, keepdims=True))
    shares /= shares.sum(1, keepdims=True)
    votes = np.zeros((COUNT, len(VOTE_NAMES)), np.uint8)
    votes[:, :8] = [random.multinomial(10, row) for row in shares]
    faces = VotedFaces(
        np.zeros((COUNT, 48, 48), np.uint8), votes, majority_of(votes), None, np.zeros(COUNT, np.uint8),
        np.arange(COUNT, dtype=np.int32), tuple(map(str, range(COUNT))),
    )  # fmt: skip
    return torch.from_numpy(0.5 * 2.5 * likelihood), faces


@pytest.fixture(scope="module")
def points(observed):
    return operating_points(observed[0], PRIOR, observed[1])


def test_following_the_prior_is_more_accurate_and_ignoring_it_finds_more_rare_displays(points):
    at = {p.exponent: p for p in points}
    assert at[0.5].accuracy > at[-0.5].accuracy
    assert at[-0.2].recalls["disgust"] > at[1.0].recalls["disgust"]


def test_a_network_that_is_half_as_sure_gets_half_the_temperature(observed, points):
    at_half = operating_points(observed[0] / 2, PRIOR, observed[1])
    sure, unsure = (next(p for p in measured if p.exponent == 0) for measured in (points, at_half))
    assert unsure.temperature == pytest.approx(sure.temperature / 2, rel=2e-2)
    assert unsure.kl == pytest.approx(sure.kl, rel=1e-2)


def test_the_chosen_point_has_the_highest_mean_of_accuracy_and_uar(points):
    best = choose(points)
    assert all(best.accuracy + best.uar >= p.accuracy + p.uar for p in points)


def test_recalls_are_named_by_label(points):
    assert set(points[0].recalls) == set(RAF_DB.labels)


def test_a_single_vote_is_left_out_where_others_agree(observed):
    votes = np.zeros((2, len(VOTE_NAMES)), np.uint8)
    votes[0, [FERPLUS.labels.index("anger"), FERPLUS.labels.index("fear")]] = 9, 1
    votes[1, [FERPLUS.labels.index("anger"), FERPLUS.labels.index("fear")]] = 1, 1
    faces = observed[1].select(np.array([0, 1]))
    object.__setattr__(faces, "votes", votes)
    shares = counted_shares(faces)
    assert shares[0, RAF_DB.index("anger")] == 1
    assert shares[1, RAF_DB.index("fear")] == 0.5


def test_the_prior_is_never_0():
    prior = prior_of(np.eye(8, dtype=np.float32)[[0, 0, 1]])
    assert prior.sum() == pytest.approx(1)
    assert prior.min() > 0


def test_a_rare_display_counts_as_frequent_as_the_least_that_is_asked_for():
    shares = np.eye(8, dtype=np.float32)[[0] * 98 + [1, 2]]
    prior = prior_of(shares, least=0.05)
    assert prior[1] == pytest.approx(prior[0] * 0.05 / 0.98)
    assert prior[7] == prior[1], "nobody at all counts the same"
