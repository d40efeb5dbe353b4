"""Two backends on the same samples: is the difference more than chance?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from emo_llama_ros.errors import BadData
from emo_llama_ros.evaluation.metrics import BOOTSTRAP_DRAWS, Interval, indices
from emo_llama_ros.evaluation.prediction import Prediction
from emo_llama_ros.labels import LabelSet


@dataclass(frozen=True, slots=True)
class Comparison:
    """Second minus first."""

    difference: Interval
    """Of WAR, with a paired bootstrap interval."""
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
    gained = right_second.astype(int) - right_first  # (N,) of -1, 0, 1
    lost, kept, won = (int((gained == v).sum()) for v in (-1, 0, 1))
    n = len(truth)
    draws = np.random.default_rng(seed).multinomial(n, np.array([lost, kept, won]) / n, BOOTSTRAP_DRAWS)
    low, high = np.percentile((draws[:, 2] - draws[:, 0]) / n, (2.5, 97.5))
    p_value = binomtest(won, won + lost).pvalue if won + lost else 1.0
    agreement = float((answer_first == answer_second).mean())
    return Comparison(Interval((won - lost) / n, float(low), float(high)), lost, won, float(p_value), agreement)
