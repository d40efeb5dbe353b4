"""FACS action units from the measures of a clip: which, how strong, since when.

A unit is stated only where its measure moves well beyond its noise. Units of the mouth and closed eyes may be read off
a single face; everything about brows, lids and cheeks is a difference to the person's own neutral face and needs a
baseline. Units that the landmarks do not show are never stated: 9 and 10 (nose wrinkles; they move with every smile),
14, 20 and 23.

Thresholds are in the units of `measures`. The lower ones are at least eight times the noise on the neutral stretch of
single_face.mp4 (standard deviations of 0.001 to 0.003), the upper ones what the sample media show at full strength.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from emo_llama_ros.evidence import Evidence, Trend
from emo_llama_ros.faces.face import Face, QualityFlaw
from emo_llama_ros.frames import SECOND_NS
from emo_llama_ros.perception.clips import Clip

MIN_INTENSITY = 0.1
"""Weaker movement is not stated; a unit begins and ends where it crosses this."""
MIN_ONSET_INTENSITY = 0.3
"""What was seen in the newest frame alone must be this strong."""
TREND_CHANGE = 0.15
"""A unit rises or falls when it changes by this much between the first and the last third of its span."""
CLOSED_EYES = 0.12
NEEDS_BASELINE = frozenset({1, 2, 4, 5, 6, 7, 17, 24, 27})
MEASURED = frozenset({12, 15, 25, 26, 43}) | NEEDS_BASELINE
"""FACS numbers of all units that can be stated."""

_UNREADABLE = (
    QualityFlaw.SMALL
    | QualityFlaw.TURNED
    | QualityFlaw.BLURRED
    | QualityFlaw.DARK
    | QualityFlaw.OVEREXPOSED
    | QualityFlaw.OCCLUDED
    | QualityFlaw.CUT_OFF
)
_BROWS_FOLLOW_CHEEKS = 0.6
"""Raised cheeks lift the mesh's eye corners, so that brows seem lower by this share of the cheeks' rise."""


def measured_units(clip: Clip) -> tuple[Evidence, ...]:
    """Return the action units that a clip shows, the strongest first; frames that cannot be read count for nothing."""
    readable = [(s, f) for s, f in zip(clip.stamps_ns, clip.faces, strict=True) if is_readable(f)]
    frames = [unit_intensities(face.measures, clip.baseline) for _, face in readable]
    ages_s = [(clip.stamp_ns - stamp) / SECOND_NS for stamp, _ in readable]
    found = [_evidence(unit, ages_s, [frame.get(unit, 0.0) for frame in frames]) for unit in sorted(MEASURED)]
    return tuple(sorted((e for e in found if e), key=lambda evidence: -evidence.intensity))


def unit_intensities(measures: Mapping[str, float], baseline: Mapping[str, float] | None = None) -> dict[int, float]:
    """Return the intensity in [0, 1] of every unit that one face can tell about, by FACS number.

    `measures` and `baseline` hold every name of `measures.NAMES`. Without a baseline, NEEDS_BASELINE units are absent.
    """
    if baseline is None:
        return _absolute(measures)
    change = {name: measures[name] - baseline[name] for name in measures}
    units = _mouth(measures, change) | _upper_face(measures, change)
    return units | {43: _closed(measures)}


def _absolute(measures: Mapping[str, float]) -> dict[int, float]:
    """Return the units that stand out from anybody's neutral face."""
    return {
        12: _ramp(measures["lip_corner_lift"], 0.03, 0.10),
        15: _ramp(-measures["lip_corner_lift"], 0.03, 0.07),
        25: _ramp(measures["lips_apart"], 0.06, 0.18),
        # A smile opens the lips too, but widens the mouth.
        26: _ramp(measures["lips_apart"] / max(measures["mouth_width"], 0.1), 0.24, 0.40),
        43: _closed(measures),
    }


def _mouth(measures: Mapping[str, float], change: Mapping[str, float]) -> dict[int, float]:
    lips_closed = measures["lips_apart"] < 0.05
    thinner = -(change["upper_lip_thickness"] + change["lower_lip_thickness"])
    pushed_up = change["lower_lip_height"] - max(change["lip_corner_height"], 0.0)
    return {
        12: _ramp(change["lip_corner_lift"], 0.015, 0.085),
        15: _ramp(-change["lip_corner_lift"], 0.015, 0.055),
        17: _ramp(pushed_up, 0.03, 0.09) if lips_closed else 0.0,
        24: _ramp(thinner, 0.025, 0.06) if lips_closed and change["mouth_width"] < 0.04 else 0.0,
        25: _ramp(change["lips_apart"], 0.03, 0.15),
        26: _ramp(change["jaw_drop"], 0.08, 0.20),
        27: _ramp(change["jaw_drop"], 0.20, 0.35),
    }


def _upper_face(measures: Mapping[str, float], change: Mapping[str, float]) -> dict[int, float]:
    cheeks = _ramp(change["cheek_height"], 0.02, 0.06)
    lift = _BROWS_FOLLOW_CHEEKS * max(change["cheek_height"], 0.0)
    inner, outer = change["inner_brow_height"] + lift, change["outer_brow_height"] + lift
    lids = change["eye_opening"]
    open_eyes = measures["eye_opening"] > CLOSED_EYES
    return {
        1: _ramp(inner, 0.03, 0.09),
        2: _ramp(outer, 0.03, 0.09),
        4: max(_ramp(-inner, 0.03, 0.08), _ramp(-change["brow_gap"], 0.02, 0.05)),
        5: _ramp(lids, 0.04, 0.12),
        6: cheeks,
        # Raised cheeks narrow the eyes as well: that is unit 6, not 7.
        7: _ramp(-lids, 0.06, 0.16) if open_eyes and cheeks < MIN_INTENSITY else 0.0,
    }


def _closed(measures: Mapping[str, float]) -> float:
    return _ramp(-measures["eye_opening"], -CLOSED_EYES, -0.03)


def _ramp(value: float, low: float, high: float) -> float:
    return min(max((value - low) / (high - low), 0.0), 1.0)


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
