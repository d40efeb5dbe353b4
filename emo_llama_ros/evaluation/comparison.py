"""Two backends on the same samples: is the difference more than chance?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from emo_llama_ros.errors import BadData
from emo_llama_ros.evaluation.metrics import BOOTSTRAP_DRAWS, Interval, indices
from emo_llama_ros.evaluation.prediction import Prediction
from emo_llama_ros.labels import LabelSet


@dataclass(frozen=True, slots=True)
class Comparison:
    """Second minus first."""

    difference: Interval
    """Of WAR, with a paired bootstrap interval."""
    uar_difference: Interval
    """The same of UAR."""
    only_first: int
    """Samples that only the first got right."""
    only_second: int
    p_value: float
    """Of the exact McNemar test (McNemar, 1947): how likely so one-sided a split is when both are equally good."""
    agreement: float
    """Share of samples with the same answer."""


def compare(first: Sequence[Prediction], second: Sequence[Prediction], labels: LabelSet, seed: int = 0) -> Comparison:
    """Compare two backends' predictions of the same samples, in the same order; raise BadData when they differ."""
    if [(p.id, p.fold) for p in first] != [(p.id, p.fold) for p in second]:
        raise BadData("Only backends that ran over the same samples can be compared.")
    from scipy.stats import binomtest

    truth, answer_first = indices(first, labels)
    _, answer_second = indices(second, labels)
    right_first, right_second = answer_first == truth, answer_second == truth
    # Of each true class: samples that only the first, both or none, only the second got right. Drawing samples with
    # replacement is one multinomial draw over these cells, because a pair stays a pair in it.
    cells = np.zeros((len(labels.labels), 3), np.int64)
    np.add.at(cells, (truth, 1 + right_second.astype(int) - right_first), 1)
    n = len(truth)
    drawn = np.random.default_rng(seed).multinomial(n, cells.ravel() / n, BOOTSTRAP_DRAWS).reshape(-1, *cells.shape)
    lost, won = int(cells[:, 0].sum()), int(cells[:, 2].sum())
    war, uar = (
        Interval(float(value), *(float(q) for q in np.percentile(draws, (2.5, 97.5))))
        for value, draws in zip(_differences(cells), _differences(drawn), strict=True)
    )
    p_value = binomtest(won, won + lost).pvalue if won + lost else 1.0
    agreement = float((answer_first == answer_second).mean())
    return Comparison(war, uar, lost, won, float(p_value), agreement)


def _differences(cells: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the differences of WAR and UAR of counts (..., K, 3) of lost, kept and won samples per class."""
    gained, support = cells[..., 2] - cells[..., 0], cells.sum(-1)
    recall = np.where(support > 0, gained / np.maximum(support, 1), 0)
    return gained.sum(-1) / support.sum(-1), recall.sum(-1) / (support > 0).sum(-1)
