"""Sentences that state measured evidence and nothing else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from emo_llama_ros.evidence.facts import Evidence, Phase, Trend
from emo_llama_ros.evidence.vocabulary import CERTAINTY, SECOND_READING, STRENGTH, TREND, TYPICAL, UNITS

_OPENINGS = (
    "The face {how} shows {what}",
    "The displayed expression is {how} {what}",
    "This face {how} displays {what}",
)

_WITHOUT_MOVEMENT = ", so the label rests on the look of the whole face"


def describe(
    evidences: Sequence[Evidence],
    probabilities: Sequence[float],
    labels: Sequence[str],
    phases: Sequence[Phase] = (),
    *,
    still: bool = False,
    most: int = 3,
    variant: int = 0,
) -> str:
    """Return the reasoning for a clip: the label, how it developed, the strongest evidence, and whether they fit.

    `phases` are the clip's labels over time, oldest first; empty says nothing about change. `still` leaves out all
    words of time, for a single image. At most `most` movements are named. `variant` picks among equivalent openings.
    """
    top = max(range(len(labels)), key=lambda i: probabilities[i])
    sentences = [label_sentence(probabilities, labels, variant)]
    if not still:
        sentences += change_sentences(phases)
    strongest = sorted(evidences, key=lambda e: (-e.intensity, e.unit))[:most]
    sentences += [movement_sentence(e, still) for e in strongest]
    if fit := fit_sentence(evidences, labels[top]):
        sentences.append(fit)
    return " ".join(sentences)


def fit_sentence(evidences: Sequence[Evidence], label: str) -> str:
    """Return whether what was measured speaks for `label`, and what it means where it does not; "" without a say."""
    typical = TYPICAL.get(label, frozenset())
    if not evidences:
        said = "No clear facial movement was measured"
        return f"{said}{_WITHOUT_MOVEMENT}." if typical else f"{said}."
    if not typical:
        return ""
    if any(e.unit in typical for e in evidences):
        return f"This movement is typical of {label}."
    return f"This movement is not typical of {label}{_WITHOUT_MOVEMENT}."


def describe_changes(evidences: Sequence[Evidence], phases: Sequence[Phase], last_s: float) -> str:
    """Return what began, ended or changed in the last `last_s` seconds of a clip."""
    sentences = change_sentences(phases, last_s)
    for e in sorted(evidences, key=lambda e: (-e.intensity, e.unit)):
        began = e.onset_s is not None and _tenths(e.onset_s) <= last_s
        ended = e.offset_s > 0 and _tenths(e.offset_s) <= last_s
        moving = e.trend is not Trend.STEADY and e.offset_s == 0
        if began or ended or moving:
            sentences.append(movement_sentence(e))
    return " ".join(sentences) or f"Nothing changed in the last {last_s:.1f} s."


def label_sentence(probabilities: Sequence[float], labels: Sequence[str], variant: int = 0) -> str:
    """Return which expression the face shows, how certainly, and the runner-up if there is one."""
    top = max(range(len(labels)), key=lambda i: probabilities[i])
    how = _word(CERTAINTY, probabilities[top])
    sentence = _OPENINGS[variant % len(_OPENINGS)].format(how=how, what=noun(labels[top]))
    second = max((i for i in range(len(labels)) if i != top), key=lambda i: probabilities[i], default=top)
    if second != top and probabilities[second] >= SECOND_READING:
        sentence += f"; a weaker reading is {noun(labels[second])}"
    return sentence + "."


def change_sentences(phases: Sequence[Phase], last_s: float = math.inf) -> list[str]:
    """Return one sentence for each change of the expression in the last `last_s` seconds."""
    return [
        f"The expression changed from {before.label} to {after.label} {after.start_s:.1f} s before the end."
        for before, after in pairwise(phases)
        if _tenths(after.start_s) <= last_s
    ]


def movement_sentence(e: Evidence, still: bool = False) -> str:
    """Return one movement with its strength and, unless `still`, its time and trend."""
    unit = UNITS[e.unit]
    what = f"{_word(STRENGTH, e.intensity)} {unit.state} (AU{e.unit})"
    is_, was, has_been = ("are", "were", "have been") if unit.plural else ("is", "was", "has been")
    if still:
        return f"The {unit.subject} {is_} {what}."
    if e.offset_s > 0:
        start = "the start" if e.onset_s is None else f"{e.onset_s:.1f} s"
        return f"The {unit.subject} {was} {what} from {start} to {e.offset_s:.1f} s before the end."
    trend = f", {TREND[e.trend]}" if e.trend in TREND else ""
    if e.onset_s is None:
        return f"The {unit.subject} {is_} {what} throughout the clip{trend}."
    return f"The {unit.subject} {has_been} {what} for the last {e.onset_s:.1f} s{trend}."


def noun(label: str) -> str:
    """Return the label as it stands in a sentence."""
    return "a neutral expression" if label == "neutral" else label


def _tenths(seconds: float) -> float:
    """Return a time as it is said, so that what is said to lie within a span does."""
    return round(seconds, 1)


def _word(bands: dict[str, tuple[float, float]], value: float) -> str:
    reached = [word for word, (low, _) in bands.items() if value >= low]
    return max(reached, key=lambda word: bands[word][0])
