"""A clip's measured facts, and the model's own answer, as terse sentences for the language model.

EMO-LLaMA (arXiv 2408.11424) hands facial attributes to the language model as words beside the face tokens; here the
measured facts go the same way, so that numbers and times reach the answer exactly and not through an embedding.
"""

from __future__ import annotations

from collections.abc import Sequence

from emo_llama_ros.evidence.facts import ClipFacts, Evidence, Trend

_READINGS = 3
_TREND = {Trend.RISING: " rising", Trend.FALLING: " falling", Trend.STEADY: ""}


def evidence_note(facts: ClipFacts) -> str:
    """Return what is known of a clip before any answer: readings, their course, each unit's strength, trend and span.

    Times are seconds before the newest frame. A unit without a time was there throughout.
    """
    where = "in one image" if facts.still else f"over {facts.span_s:.1f} s"
    parts = [f"read as {_shares(facts.readings)}"] if facts.readings else []
    if not facts.still:
        parts.append(_course(facts))
    parts += [_movement(e) for e in facts.evidences] or ["no movement"]
    if not facts.readable:
        parts.append("face not readable")
    elif facts.unknown:
        parts.append("no neutral reference")
    return f"Measured {where}: {'; '.join(parts)}."


def answer_note(labels: Sequence[str], probabilities: Sequence[float]) -> str:
    """Return the answer as it is published, so that words of certainty agree with it."""
    ranked = sorted(zip(labels, probabilities, strict=True), key=lambda pair: -pair[1])
    return f"Published: {_shares(ranked)}."


def _shares(ranked: Sequence[tuple[str, float]]) -> str:
    return ", ".join(f"{label} {_percent(share)}" for label, share in ranked[:_READINGS])


def _course(facts: ClipFacts) -> str:
    if not facts.course:
        return "course unknown"
    first, *later = facts.course
    return ", then ".join([f"first {first.label}", *(f"{p.label} since {p.start_s:.1f} s" for p in later)])


def _movement(e: Evidence) -> str:
    begun = "" if e.onset_s is None else f" since {e.onset_s:.1f} s"
    ended = f" until {e.offset_s:.1f} s" if e.offset_s > 0 else ""
    return f"AU{e.unit} {_percent(e.intensity)}{_TREND[e.trend]}{begun}{ended}"


def _percent(share: float) -> str:
    # Cut, not rounded: the words' bands begin at whole percents, so a percentage never stands for two words.
    return f"{min(99, int(100 * share)):02d}%"
