"""Metrics of facial-expression recognition.

WAR (weighted average recall) is plain accuracy, UAR the mean recall over the classes that occur. An answer without a
label (no face, unparsable, error) is wrong, and stands in the last column of the confusion matrix.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.special import rel_entr

from emo_llama_ros.data.ferplus import vote_shares
from emo_llama_ros.errors import BadData
from emo_llama_ros.evaluation.prediction import OUTCOMES, Prediction
from emo_llama_ros.labels import LabelSet

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

ECE_BINS = 15
"""Equal-width bins of the expected calibration error, as in Guo et al., 2017."""
BOOTSTRAP_DRAWS = 2000
_SMALLEST = 1e-12


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class ClassMetrics:
    """One class; recall is NaN when the class never occurs, precision when it was never said."""

    support: int
    recall: float
    precision: float
    f1: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """How far confidence can be trusted, over the answers that have a label."""

    ece: float
    """Expected calibration error: mean |accuracy - confidence| over `ECE_BINS` bins of confidence."""
    brier: float
    """Mean squared distance of the probabilities from the truth, summed over classes: 0 to 2."""
    nll: float
    """Mean negative log-likelihood of the true label, nats."""
    bins: tuple[tuple[float, float, int], ...]
    """(mean confidence, accuracy, count) of each bin; NaN where a bin is empty."""


@dataclass(frozen=True, slots=True)
class VoteScores:
    """How far probabilities are from the shares of people who chose each label, over the answers that have a label."""

    count: int
    brier: float
    """Mean squared distance, summed over classes: 0 to 2."""
    kl: float
    """Mean Kullback-Leibler divergence of the probabilities from the shares, nats."""


@dataclass(frozen=True, slots=True)
class PersonScores:
    """UAR of each person's samples, over the people that the data tell apart."""

    people: int
    mean: float
    worst_tenth: float
    """Mean over the tenth of the people, at least one, for whom it is lowest."""


@dataclass(frozen=True, slots=True)
class Metrics:
    """Everything measured over one set of predictions."""

    count: int
    war: Interval
    uar: Interval
    macro_f1: float
    classes: dict[str, ClassMetrics]
    confusion: IntArray
    """(K, K + 1): true class by answer; the last column counts answers without a label."""
    outcomes: dict[str, int]
    calibration: Calibration | None
    """None when no answer has a label."""
    latency_ms: tuple[float, float]
    """p50 and p95 of the label."""
    faces_ms: tuple[float, float]
    folds: dict[int, tuple[float, float]] = field(default_factory=dict)
    """Fold → (WAR, UAR)."""
    faithfulness: tuple[int, int] = (0, 0)
    """Sentences of the reasoning that are true in every claim, and sentences that make a claim."""
    votes: VoteScores | None = None
    """None where the data have no votes."""
    low_quality: int = 0
    """Samples whose newest face has a flaw."""
    people: PersonScores | None = None
    """None where the data do not tell people apart."""


def compute(predictions: Sequence[Prediction], labels: LabelSet, seed: int = 0) -> Metrics:
    """Return the metrics of `predictions`; raise BadData when there are none or a label is not in the set.

    With several folds, WAR and UAR are the means over the folds (the protocol of DFEW and MAFW), and the intervals are
    those of the pooled samples shifted onto these means.
    """
    from sklearn.metrics import precision_recall_fscore_support

    truth, answer = indices(predictions, labels)
    confusion = confusion_of(truth, answer, len(labels.labels))
    precision, recall, f1, support = precision_recall_fscore_support(
        truth, answer, labels=range(len(labels.labels)), average=None, zero_division=np.nan
    )
    classes = {
        label: ClassMetrics(
            int(support[i]), float(recall[i]), float(precision[i]), 0.0 if np.isnan(f1[i]) else float(f1[i])
        )
        for i, label in enumerate(labels.labels)
    }
    war, uar = bootstrap(confusion, seed)
    folds = _folds(predictions, truth, answer, len(labels.labels))
    if len(folds) > 1:
        war = _shifted(war, float(np.mean([w for w, _ in folds.values()])))
        uar = _shifted(uar, float(np.mean([u for _, u in folds.values()])))
    answered = [p for p in predictions if p.outcome == "ok"]
    return Metrics(
        count=len(predictions),
        war=war,
        uar=uar,
        macro_f1=float(np.mean([c.f1 for c in classes.values() if c.support])),
        classes=classes,
        confusion=confusion,
        outcomes={o: sum(p.outcome == o for p in predictions) for o in OUTCOMES},
        calibration=calibration(answered, labels) if answered else None,
        latency_ms=_percentiles([p.latency_ms for p in answered]),
        faces_ms=_percentiles([p.faces_ms for p in predictions]),
        folds=folds,
        faithfulness=(sum(p.sentences_held for p in predictions), sum(p.sentences for p in predictions)),
        votes=_votes(answered, labels),
        low_quality=sum(p.low_quality for p in predictions),
        people=_people(predictions, truth, answer, len(labels.labels)),
    )


def _votes(answered: Sequence[Prediction], labels: LabelSet) -> VoteScores | None:
    voted = [p for p in answered if p.votes]
    if not voted:
        return None
    shares = vote_shares(np.array([p.votes for p in voted], np.uint8), labels)
    chosen = shares.sum(1) > 0
    probabilities = np.array([p.probabilities for p in voted])
    return vote_scores(probabilities[chosen], shares[chosen]) if chosen.any() else None


def _people(predictions: Sequence[Prediction], truth: IntArray, answer: IntArray, classes: int) -> PersonScores | None:
    names = np.array([p.person for p in predictions])
    people = sorted(set(names.tolist()) - {""})
    if not people:
        return None
    uar = sorted(float(war_uar(confusion_of(truth[names == n], answer[names == n], classes))[1]) for n in people)
    return PersonScores(len(people), float(np.mean(uar)), float(np.mean(uar[: max(1, len(uar) // 10)])))


def indices(predictions: Sequence[Prediction], labels: LabelSet) -> tuple[IntArray, IntArray]:
    """Return true and answered class of each prediction, shape (N,); answers without a label have index K."""
    if not predictions:
        raise BadData("There is nothing to evaluate: the data have no sample in this split.")
    try:
        truth = [labels.index(p.label) for p in predictions]
    except KeyError as error:
        raise BadData(f"{error} is no label of {labels.name} ({', '.join(labels.labels)}).") from None
    answer = [int(np.argmax(p.probabilities)) if p.outcome == "ok" else len(labels.labels) for p in predictions]
    return np.array(truth), np.array(answer)


def confusion_of(truth: IntArray, answer: IntArray, classes: int) -> IntArray:
    """Return the counts, shape (K, K + 1): true class by answer, where answer K is none."""
    confusion = np.zeros((classes, classes + 1), dtype=np.int64)
    np.add.at(confusion, (truth, answer), 1)
    return confusion


def war_uar(confusion: IntArray) -> tuple[FloatArray, FloatArray]:
    """Return WAR and UAR of confusion matrices, shape (..., K, K + 1) → (...); UAR skips classes that do not occur."""
    hits = np.diagonal(confusion, axis1=-2, axis2=-1)
    support = confusion.sum(-1)
    recall = hits / np.where(support > 0, support, 1)
    present = (support > 0).sum(-1)
    return hits.sum(-1) / support.sum(-1), np.where(support > 0, recall, 0).sum(-1) / present


def bootstrap(confusion: IntArray, seed: int) -> tuple[Interval, Interval]:
    """Return WAR and UAR with percentile-bootstrap intervals (Efron, 1979).

    Drawing N samples with replacement is one multinomial draw over the cells of the confusion matrix.
    """
    count = int(confusion.sum())
    cells = np.random.default_rng(seed).multinomial(count, confusion.ravel() / count, BOOTSTRAP_DRAWS)
    draws = war_uar(cells.reshape(-1, *confusion.shape))
    war, uar = (
        Interval(float(value), *(float(q) for q in np.percentile(drawn, (2.5, 97.5))))
        for value, drawn in zip(war_uar(confusion), draws, strict=True)
    )
    return war, uar


def calibration(answered: Sequence[Prediction], labels: LabelSet) -> Calibration:
    """Return ECE, Brier score, NLL and the reliability bins of answers that have a label."""
    probabilities = np.array([p.probabilities for p in answered], dtype=np.float64)  # (N, K)
    return calibration_of(probabilities, np.array([labels.index(p.label) for p in answered]))


def calibration_of(probabilities: FloatArray, truth: IntArray) -> Calibration:
    """Return ECE, Brier score, NLL and the reliability bins of probabilities (N, K) of the true classes (N,)."""
    rows = np.arange(len(truth))
    confidence = probabilities.max(1)
    correct = probabilities.argmax(1) == truth
    which = np.minimum((confidence * ECE_BINS).astype(int), ECE_BINS - 1)
    bins = []
    for b in range(ECE_BINS):
        inside = which == b
        n = int(inside.sum())
        bins.append(
            (float(confidence[inside].mean()), float(correct[inside].mean()), n) if n else (math.nan, math.nan, 0)
        )
    ece = sum(n * abs(accuracy - mean) for mean, accuracy, n in bins if n) / len(truth)
    one_hot = np.zeros_like(probabilities)
    one_hot[rows, truth] = 1
    return Calibration(
        ece=float(ece),
        brier=float(((probabilities - one_hot) ** 2).sum(1).mean()),
        nll=float(-np.log(np.maximum(probabilities[rows, truth], _SMALLEST)).mean()),
        bins=tuple(bins),
    )


def vote_scores(probabilities: FloatArray, shares: FloatArray) -> VoteScores:
    """Return how far probabilities (N, K) are from the shares (N, K) of people who chose each label."""
    kl = rel_entr(shares, np.maximum(probabilities, _SMALLEST)).sum(1)
    return VoteScores(
        count=len(shares), brier=float(((probabilities - shares) ** 2).sum(1).mean()), kl=float(kl.mean())
    )


def _folds(
    predictions: Sequence[Prediction], truth: IntArray, answer: IntArray, classes: int
) -> dict[int, tuple[float, float]]:
    fold_of = np.array([p.fold for p in predictions])
    found = {}
    for fold in sorted(set(fold_of.tolist()) - {0}):
        inside = fold_of == fold
        war, uar = war_uar(confusion_of(truth[inside], answer[inside], classes))
        found[fold] = (float(war), float(uar))
    return found


def _shifted(interval: Interval, value: float) -> Interval:
    shift = value - interval.value
    return Interval(value, max(0.0, interval.low + shift), min(1.0, interval.high + shift))


def _percentiles(values: Sequence[float]) -> tuple[float, float]:
    if not values:
        return math.nan, math.nan
    p50, p95 = np.percentile(values, (50, 95))
    return float(p50), float(p95)
