"""FACS action units from the measures of a clip: which, how strong, since when.

A unit is read off the blendshape scores of a face, as a difference to the person's own neutral face; only what stands
out from anybody's neutral face (a smile, open lips, a dropped jaw, closed eyes) may be stated without that baseline.
Units are stated that the scores or lengths separate on labelled faces, see `benchmarks/action_units.py`. Never stated
are 6, 9, 15, 17 and 24, for which the scores stay at zero or tell nothing, and 10, 14 and 23.

The lower thresholds are three and more times the noise of a resting face in single_face.mp4 (standard deviation 0.014
for the inner brow, under 0.01 for all others) and above what a shifted crop changes; the upper ones are what posed
displays reach.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from emo_llama_ros.evidence import Evidence, Trend
from emo_llama_ros.evidence.geometric_units import geometric_units, ramp
from emo_llama_ros.faces.blendshapes import SCORES
from emo_llama_ros.faces.face import Face, QualityFlaw
from emo_llama_ros.faces.measures import EYE_OPENING
from emo_llama_ros.frames import SECOND_NS
from emo_llama_ros.perception.clips import Clip

MIN_INTENSITY = 0.1
"""Weaker movement is not stated; a unit begins and ends where it crosses this."""
MIN_ONSET_INTENSITY = 0.3
"""What was seen in the newest frame alone must be this strong."""
TREND_CHANGE = 0.15
"""A unit rises or falls when it changes by this much between the first and the last third of its span."""
NEEDS_BASELINE = frozenset({1, 2, 4, 5, 7, 16, 20})
MEASURED = frozenset({12, 25, 26, 43}) | NEEDS_BASELINE
"""FACS numbers of all units that can be stated."""
_EYES_CLOSE, _EYES_CLOSED = 0.40, 0.62
"""`eyeBlink` of eyes that begin to close, and of closed ones; in the sample media 0.1 to 0.2 and 0.57 to 0.83."""
_EYES_SHUT = 0.55
"""`eyeBlink` from which on the eyes are shut rather than narrowed."""
_LIDS_MEET, _LIDS_MET = 0.08, 0.04
"""`measures.EYE_OPENING` below which the lids may touch, and at which they do: 0.01 to 0.03 on closed eyes in the
sample media, 0.09 to 0.10 on eyes that look down, for which `eyeBlink` is as high."""
_SMILE_NARROWS = 0.04
"""What a full smile takes off the opening of eyes that look down: 0.05 on laughing ones, 0.03 on closed ones."""

_UNREADABLE = (
    QualityFlaw.SMALL
    | QualityFlaw.TURNED
    | QualityFlaw.BLURRED
    | QualityFlaw.DARK
    | QualityFlaw.OVEREXPOSED
    | QualityFlaw.OCCLUDED
    | QualityFlaw.CUT_OFF
)


def measured_units(clip: Clip) -> tuple[Evidence, ...]:
    """Return the action units that a clip shows, the strongest first; frames that cannot be read count for nothing."""
    readable = [(s, f) for s, f in zip(clip.stamps_ns, clip.faces, strict=True) if is_readable(f)]
    frames = [unit_intensities(face.measures, clip.baseline) for _, face in readable]
    ages_s = [(clip.stamp_ns - stamp) / SECOND_NS for stamp, _ in readable]
    found = [_evidence(unit, ages_s, [frame.get(unit, 0.0) for frame in frames]) for unit in sorted(MEASURED)]
    return tuple(sorted((e for e in found if e), key=lambda evidence: -evidence.intensity))


def unit_intensities(measures: Mapping[str, float], baseline: Mapping[str, float] | None = None) -> dict[int, float]:
    """Return the intensity in [0, 1] of every unit that one face can tell about, by FACS number.

    `measures` and `baseline` hold every name of `measures.NAMES` and `blendshapes.SCORES`. Without a baseline,
    NEEDS_BASELINE units are absent. Of a face without blendshape scores the lengths tell what they can.
    """
    if not measures.keys() >= set(SCORES):
        return {unit: value for unit, value in geometric_units(measures, baseline).items() if unit in MEASURED}
    if baseline is None:
        return {
            12: ramp(measures["mouthSmile"], 0.25, 0.80),
            25: ramp(measures["lips_apart"], 0.06, 0.18),
            26: ramp(measures["jawOpen"], 0.15, 0.50),
            43: _closed(measures),
        }
    change = {name: measures[name] - baseline[name] for name in measures}
    return _mouth(measures, change) | _upper_face(measures, change) | {43: _closed(measures)}


def _mouth(measures: Mapping[str, float], change: Mapping[str, float]) -> dict[int, float]:
    smile = max(change["mouthSmile"], 0.0)
    return {
        12: ramp(smile, 0.10, 0.70),
        # A smile bares the lower teeth and widens the mouth as well: that is unit 12.
        16: ramp(change["mouthLowerDown"] - 0.40 * smile, 0.04, 0.30),
        20: ramp(change["mouthStretch"] - 0.25 * smile, 0.04, 0.25),
        25: ramp(change["lips_apart"], 0.03, 0.15),
        26: ramp(change["jawOpen"], 0.08, 0.45),
    }


def _upper_face(measures: Mapping[str, float], change: Mapping[str, float]) -> dict[int, float]:
    smile = max(change["mouthSmile"], 0.0)
    # A smile raises the cheeks, and with them the mesh's eye corners, from which the brows are measured.
    raised, lowered = change["inner_brow_height"], -change["inner_brow_height"] - 0.03 * smile
    # Smiles and lids that droop, as in sadness, raise the score as well.
    tightened = change["eyeSquint"] - 0.15 * smile - 0.3 * max(change["eyeBlink"], 0.0)
    # Scores and lengths err differently: their mean separates displays better than either.
    return {
        1: (ramp(change["browInnerUp"], 0.05, 0.50) + ramp(raised, 0.01, 0.07)) / 2,
        2: ramp(change["browOuterUp"], 0.08, 0.40),
        4: (ramp(change["browDown"], 0.05, 0.40) + ramp(lowered, 0.01, 0.07)) / 2,
        5: ramp(change["eyeWide"], 0.02, 0.20),
        7: ramp(tightened, 0.04, 0.30) if measures["eyeBlink"] < _EYES_SHUT else 0.0,
    }


def _closed(measures: Mapping[str, float]) -> float:
    # The score is high, too, of eyes that look down or laugh: the lids must touch as well.
    opening = measures[EYE_OPENING] + _SMILE_NARROWS * measures["mouthSmile"]
    return min(ramp(measures["eyeBlink"], _EYES_CLOSE, _EYES_CLOSED), ramp(-opening, -_LIDS_MEET, -_LIDS_MET))


def is_readable(face: Face) -> bool:
    """Return whether the measures of a face are good enough to state anything from them."""
    return bool(face.measures) and not face.flaws & _UNREADABLE


def _evidence(unit: int, ages_s: Sequence[float], intensities: Sequence[float]) -> Evidence | None:
    """Return the latest span over which a unit shows, None where it never does for long enough."""
    for start, end in reversed(_spans(intensities)):
        newest = end == len(intensities)
        if not _lasts(unit, intensities, start, end):
            continue
        span = intensities[start:end]
        return Evidence(
            unit,
            max(span),
            _trend(span),
            onset_s=None if start == 0 else _crossing(ages_s, intensities, start - 1, start),
            offset_s=0.0 if newest else _crossing(ages_s, intensities, end, end - 1),
        )
    return None


def _lasts(unit: int, intensities: Sequence[float], start: int, end: int) -> bool:
    if end - start > 1:
        return True
    if unit == 43:  # closed eyes in a single frame are a blink
        return False
    return len(intensities) == 1 or (end == len(intensities) and intensities[start] >= MIN_ONSET_INTENSITY)


def _crossing(ages_s: Sequence[float], intensities: Sequence[float], before: int, after: int) -> float:
    """Return the age at which the intensity crossed MIN_INTENSITY between a frame without and a frame with the unit."""
    low, high = intensities[before], intensities[after]
    share = (MIN_INTENSITY - low) / (high - low)
    return ages_s[before] + share * (ages_s[after] - ages_s[before])


def _spans(intensities: Sequence[float]) -> list[tuple[int, int]]:
    """Return (first, past the last) of each run of frames in which a unit shows."""
    shows = [value >= MIN_INTENSITY for value in intensities]
    starts = [i for i, now in enumerate(shows) if now and (i == 0 or not shows[i - 1])]
    ends = [i + 1 for i, now in enumerate(shows) if now and (i + 1 == len(shows) or not shows[i + 1])]
    return list(zip(starts, ends, strict=True))


def _trend(span: Sequence[float]) -> Trend:
    third = max(1, len(span) // 3)
    change = sum(span[-third:]) / third - sum(span[:third]) / third
    if change > TREND_CHANGE:
        return Trend.RISING
    return Trend.FALLING if change < -TREND_CHANGE else Trend.STEADY
