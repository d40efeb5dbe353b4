"""What a text can claim about a face, and whether a claim is true of what was measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise

from emo_llama_ros.evidence.facts import Evidence, Phase, Trend
from emo_llama_ros.evidence.vocabulary import CERTAINTY, STRENGTH, TYPICAL

TIME_TOLERANCE_S = 0.25
"""A stated time holds within this much: the frame distance of a clip of 8 frames over 2 s."""
BAND_TOLERANCE = 0.1
"""A strength or certainty word holds this far beyond its band."""
WEAK_READING = 0.1
"""A label named as a weaker reading has at least this probability."""
FROM_THE_START = math.inf
"""`Span.onset_s` of a movement that was there from the clip's first frame."""


class About(Enum):
    """What a claim is about."""

    UNIT = "unit"
    """A movement, with its strength, trend and time."""
    STILLNESS = "stillness"
    """That there is no movement, or that nothing changed lately."""
    LABEL = "label"
    """The expression shown."""
    FIT = "fit"
    """That the movement is typical of an expression."""
    CHANGE = "change"
    """That the expression went from one label to another, or stayed."""
    UNMEASURED = "unmeasured"
    """Something in the face that nothing here measures: never holds."""


@dataclass(frozen=True, slots=True)
class Span:
    """Stated times in seconds before the end; None where the text is silent."""

    onset_s: float | None = None
    offset_s: float | None = None
    within_s: float | None = None
    """It began or changed no longer ago than this."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One statement of a text. Fields that the text leaves open are empty."""

    about: About
    sentence: str
    negated: bool = False
    units: tuple[int, ...] = ()
    """Any one of these satisfies the claim: "raised eyebrows" is AU 1 or AU 2."""
    strength: str = ""
    trend: Trend | None = None
    span: Span = Span()
    labels: tuple[str, ...] = ()
    """The expression meant. For CHANGE: before and after, or only after, or none when it stayed."""
    certainty: str = ""


def holds(
    claim: Claim,
    evidences: Sequence[Evidence],
    probabilities: Sequence[float] = (),
    labels: Sequence[str] = (),
    phases: Sequence[Phase] = (),
) -> bool:
    """Return whether `claim` is true of the measurements; a claim about something unmeasured does not hold.

    `probabilities` and `labels` belong together; `phases` are the clip's labels over time, oldest first.
    """
    measured = {e.unit for e in evidences}
    if claim.about is About.UNIT:
        if claim.negated:
            return not measured.intersection(claim.units)
        return any(_matches(claim, e) for e in evidences if e.unit in claim.units)
    if claim.about is About.STILLNESS:
        return _still(claim, evidences, phases)
    if claim.about is About.LABEL:
        return _label_holds(claim, dict(zip(labels, probabilities, strict=True)))
    if claim.about is About.FIT:
        return claim.negated != any(measured & TYPICAL.get(label, frozenset()) for label in claim.labels)
    if claim.about is About.CHANGE:
        return _change_holds(claim, phases)
    return False


def _matches(claim: Claim, e: Evidence) -> bool:
    if claim.strength and not _in_band(STRENGTH[claim.strength], e.intensity):
        return False
    if claim.trend is not None and claim.trend is not e.trend:
        return False
    onset = FROM_THE_START if e.onset_s is None else e.onset_s
    span = claim.span
    return (
        (span.onset_s is None or _same_time(span.onset_s, onset))
        and (span.offset_s is None or _same_time(span.offset_s, e.offset_s))
        and (span.within_s is None or _recent(onset, e.offset_s, span.within_s) or e.trend is not Trend.STEADY)
    )


def _recent(onset_s: float, offset_s: float, within_s: float) -> bool:
    limit = within_s + TIME_TOLERANCE_S
    return onset_s <= limit or 0 < offset_s <= limit


def _still(claim: Claim, evidences: Sequence[Evidence], phases: Sequence[Phase]) -> bool:
    within = claim.span.within_s
    if within is None:
        return claim.negated == bool(evidences)
    lately = within - TIME_TOLERANCE_S
    began_or_ended = any((e.onset_s or math.inf) <= lately or 0 < e.offset_s <= lately for e in evidences)
    moving = any(e.trend is not Trend.STEADY and e.offset_s == 0 for e in evidences)
    return claim.negated == (began_or_ended or moving or any(p.start_s <= lately for p in phases[1:]))


def _label_holds(claim: Claim, shares: dict[str, float]) -> bool:
    if not shares:
        return False
    top = max(shares, key=lambda label: shares[label])
    label = claim.labels[0]
    if claim.negated:
        return label != top
    if claim.certainty == "weaker":
        return label != top and shares.get(label, 0.0) >= WEAK_READING
    if label != top:
        return claim.certainty == "possibly" and shares.get(label, 0.0) >= WEAK_READING
    return not claim.certainty or _in_band(CERTAINTY[claim.certainty], shares[label])


def _change_holds(claim: Claim, phases: Sequence[Phase]) -> bool:
    if not claim.labels:
        return bool(phases) and (claim.negated != (len(phases) == 1))
    for before, after in pairwise(phases):
        same = (before.label, after.label)[-len(claim.labels) :] == claim.labels
        span = claim.span
        on_time = span.onset_s is None or _same_time(span.onset_s, after.start_s)
        lately = span.within_s is None or after.start_s <= span.within_s + TIME_TOLERANCE_S
        if same and on_time and lately:
            return not claim.negated
    return claim.negated


def _same_time(said_s: float, measured_s: float) -> bool:
    return said_s == measured_s or abs(said_s - measured_s) <= TIME_TOLERANCE_S + 1e-9


def _in_band(band: tuple[float, float], value: float) -> bool:
    return band[0] - BAND_TOLERANCE <= value <= band[1] + BAND_TOLERANCE
