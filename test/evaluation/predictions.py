"""Predictions with known truth."""

import numpy as np

from emo_llama_ros.evaluation.prediction import Prediction
from emo_llama_ros.labels import RAF_DB


def answers(truth, said, confidence=0.9, labels=RAF_DB, fold=0, **fields):
    """Return predictions that say `said` (a label, or an outcome without label) for `truth`."""
    made = []
    for i, (true, word) in enumerate(zip(truth, said, strict=True)):
        if word in labels.labels:
            rest = (1 - confidence) / (len(labels.labels) - 1)
            p = tuple(confidence if label == word else rest for label in labels.labels)
            made.append(Prediction(f"{fold}-{i}", true, "ok", p, fold=fold, latency_ms=float(i + 1), **fields))
        else:
            made.append(Prediction(f"{fold}-{i}", true, word, fold=fold, **fields))
    return made


def overconfident(n=4000, temperature=2.5, seed=0, labels=RAF_DB):
    """Return predictions whose logits are `temperature` times too large: dividing them by it calibrates exactly."""
    rng = np.random.default_rng(seed)
    k = len(labels.labels)
    honest = rng.normal(0, 1.5, (n, k))
    p = np.exp(honest) / np.exp(honest).sum(1, keepdims=True)
    truth = np.array([rng.choice(k, p=row) for row in p])
    loud = np.exp(honest * temperature)
    loud /= loud.sum(1, keepdims=True)
    return [
        Prediction(str(i), labels.labels[t], "ok", tuple(row))
        for i, (t, row) in enumerate(zip(truth, loud, strict=True))
    ]
