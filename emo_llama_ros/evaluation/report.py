"""Results as tables: Markdown for people, JSON for programs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from emo_llama_ros.data.datasets import LeftOut
from emo_llama_ros.evaluation.comparison import Comparison
from emo_llama_ros.evaluation.metrics import ECE_BINS, Interval, Metrics


@dataclass(frozen=True, slots=True)
class Result:
    """One backend's metrics, with what is needed to run it again."""

    name: str
    """How tables call it: backend, and model where two share one backend."""
    model: str
    """`ModelInfo.model`."""
    metrics: Metrics
    settings: Mapping[str, Any] = field(default_factory=dict)


def markdown(
    title: str,
    results: Sequence[Result],
    comparisons: Mapping[str, Comparison],
    command: str,
    left_out: LeftOut | None = None,
) -> str:
    """Return the report: one column per result, the classes, the comparisons with the first result, the command.

    `left_out` is what was in the data and is in no number.
    """
    parts = [f"# {title}", _overview(results), "## Recall per class", _classes(results)]
    if any(len(r.metrics.folds) > 1 for r in results):
        parts += ["## Folds", _folds(results)]
    for name, found in comparisons.items():
        parts += [f"## {name} against {results[0].name}", _comparison(found)]
    if left_out is not None and left_out.counts:
        parts += ["## Left out", "\n".join(f"- {line}" for line in left_out.lines())]
    parts += [_NOTES.format(bins=ECE_BINS), f"Made by\n```\n{command}\n```"]
    return "\n\n".join(parts) + "\n"


def as_json(
    title: str,
    results: Sequence[Result],
    comparisons: Mapping[str, Comparison],
    command: str,
    left_out: LeftOut | None = None,
) -> dict[str, Any]:
    """Return the report as a JSON-ready dict; NaN becomes None. Arguments as `markdown`."""
    counts, told = (left_out.counts, left_out.examples) if left_out is not None else ({}, {})
    return {
        "title": title,
        "command": command,
        "left_out": {reason: {"count": n, "examples": told[reason]} for reason, n in counts.items()},
        "results": [_result(r) for r in results],
        "comparisons": {
            name: {
                "against": results[0].name,
                "war_difference": _interval(c.difference),
                "uar_difference": _interval(c.uar_difference),
                "only_first_right": c.only_first,
                "only_second_right": c.only_second,
                "mcnemar_p": c.p_value,
                "agreement": c.agreement,
            }
            for name, c in comparisons.items()
        },
    }


_NOTES = (
    "WAR is accuracy, UAR the mean recall of the classes that occur; brackets are 95 % bootstrap intervals. Answers "
    "without a label (no face, unparsed, error) count as wrong. ECE has {bins} equal-width bins. Latency is that of "
    "the label on this machine, without faces and reasoning. Faithful is the share of reasoning sentences about the "
    "face whose every statement holds in the measurements. Where people voted, Brier and KL to votes are the squared "
    "distance and the Kullback-Leibler divergence (nats) of the probabilities from the shares of people who chose each "
    "label. Low quality is the share of samples whose newest face is flagged: small, turned, "
    "blurred, dark, overexposed, covered or cut off."
)


def _overview(results: Sequence[Result]) -> str:
    rows: list[tuple[str, list[str]]] = [
        ("model", [r.model for r in results]),
        ("samples", [str(r.metrics.count) for r in results]),
        ("**WAR**", [_percent(r.metrics.war) for r in results]),
        ("**UAR**", [_percent(r.metrics.uar) for r in results]),
        ("macro F1", [f"{r.metrics.macro_f1:.1%}" for r in results]),
        *((name, [_calibration(r.metrics, name) for r in results]) for name in ("ECE", "Brier", "NLL")),
        *_voted(results),
        *_people(results),
        ("low quality rate", [f"{r.metrics.low_quality / r.metrics.count:.1%}" for r in results]),
        *((f"{o.replace('_', ' ')} rate", [f"{r.metrics.outcomes[o] / r.metrics.count:.1%}" for r in results])
          for o in ("no_face", "unparsed", "error")),
        ("label p50 / p95", [_milliseconds(r.metrics.latency_ms) for r in results]),
        ("faces p50 / p95", [_milliseconds(r.metrics.faces_ms) for r in results]),
    ]  # fmt: skip
    if any(r.metrics.faithfulness[1] for r in results):
        rows.append(("faithful", [_faithful(r.metrics) for r in results]))
    return _table(["", *(r.name for r in results)], [[name, *cells] for name, cells in rows])


def _voted(results: Sequence[Result]) -> list[tuple[str, list[str]]]:
    scores = [r.metrics.votes for r in results]
    if not any(scores):
        return []
    return [
        ("Brier to votes", [f"{s.brier:.3f}" if s else "–" for s in scores]),
        ("KL to votes", [f"{s.kl:.3f}" if s else "–" for s in scores]),
    ]


def _people(results: Sequence[Result]) -> list[tuple[str, list[str]]]:
    scores = [r.metrics.people for r in results]
    if not any(scores):
        return []
    return [
        ("people", [str(s.people) if s else "–" for s in scores]),
        ("UAR per person, mean", [f"{s.mean:.1%}" if s else "–" for s in scores]),
        ("UAR per person, worst tenth", [f"{s.worst_tenth:.1%}" if s else "–" for s in scores]),
    ]


def _classes(results: Sequence[Result]) -> str:
    labels = results[0].metrics.classes
    rows = [
        [label, str(labels[label].support), *(_share(r.metrics.classes[label].recall) for r in results)]
        for label in labels
    ]
    return _table(["", "samples", *(r.name for r in results)], rows)


def _folds(results: Sequence[Result]) -> str:
    rows = [
        [str(fold), *(f"{r.metrics.folds[fold][0]:.1%} / {r.metrics.folds[fold][1]:.1%}" for r in results)]
        for fold in results[0].metrics.folds
    ]
    return _table(["fold", *(f"{r.name}: WAR / UAR" for r in results)], rows)


def _comparison(found: Comparison) -> str:
    d, u = found.difference, found.uar_difference
    verdict = "more than chance" if found.p_value < 0.05 else "not distinguishable from chance"
    return (
        f"WAR differs by {100 * d.value:+.1f} points [{100 * d.low:+.1f}, {100 * d.high:+.1f}], {verdict} "
        f"(exact McNemar test, p = {found.p_value:.3g}). UAR differs by {100 * u.value:+.1f} points "
        f"[{100 * u.low:+.1f}, {100 * u.high:+.1f}]. {found.only_second} samples are right only here, "
        f"{found.only_first} only there; {found.agreement:.1%} of the answers are the same."
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _percent(interval: Interval) -> str:
    return f"{interval.value:.1%} [{interval.low:.1%}, {interval.high:.1%}]"


def _share(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.1%}"


def _calibration(metrics: Metrics, name: str) -> str:
    return f"{getattr(metrics.calibration, name.lower()):.3f}" if metrics.calibration else "–"


def _milliseconds(percentiles: tuple[float, float]) -> str:
    return "–" if math.isnan(percentiles[0]) else f"{percentiles[0]:.1f} / {percentiles[1]:.1f} ms"


def _faithful(metrics: Metrics) -> str:
    held, said = metrics.faithfulness
    return f"{held / said:.1%} of {said}" if said else "–"


def _result(result: Result) -> dict[str, Any]:
    m = result.metrics
    return {
        "name": result.name,
        "model": result.model,
        "settings": dict(result.settings),
        "samples": m.count,
        "war": _interval(m.war),
        "uar": _interval(m.uar),
        "macro_f1": m.macro_f1,
        "classes": {
            label: {"support": c.support, "recall": _plain(c.recall), "precision": _plain(c.precision), "f1": c.f1}
            for label, c in m.classes.items()
        },
        "confusion": m.confusion.tolist(),
        "outcomes": m.outcomes,
        "calibration": {"ece": m.calibration.ece, "brier": m.calibration.brier, "nll": m.calibration.nll}
        if m.calibration
        else None,
        "votes": {"count": m.votes.count, "brier": m.votes.brier, "kl": m.votes.kl} if m.votes else None,
        "people": {"count": m.people.people, "uar_mean": m.people.mean, "uar_worst_tenth": m.people.worst_tenth}
        if m.people
        else None,
        "low_quality": m.low_quality,
        "label_ms": {"p50": _plain(m.latency_ms[0]), "p95": _plain(m.latency_ms[1])},
        "faces_ms": {"p50": _plain(m.faces_ms[0]), "p95": _plain(m.faces_ms[1])},
        "folds": {str(fold): {"war": war, "uar": uar} for fold, (war, uar) in m.folds.items()},
        "faithful_sentences": {"held": m.faithfulness[0], "said": m.faithfulness[1]},
    }


def _interval(interval: Interval) -> dict[str, float]:
    return {"value": interval.value, "low": interval.low, "high": interval.high}


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else value
