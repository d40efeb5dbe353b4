"""Action units from the lengths of a face alone, without blendshape scores.

The faces of the synthetic training clips have no more than that, and `benchmarks/action_units.py` compares with it.
Thresholds are in the units of `measures`. The lower ones are at least eight times the noise on the neutral stretch of
single_face.mp4 (standard deviations of 0.001 to 0.003), the upper ones what the sample media show at full strength.
"""

from __future__ import annotations

from collections.abc import Mapping

MIN_CHEEKS = 0.1
"""From this intensity on raised cheeks narrow the eyes."""
CLOSED_EYES = 0.12
_BROWS_FOLLOW_CHEEKS = 0.6
"""Raised cheeks lift the mesh's eye corners, so that brows seem lower by this share of the cheeks' rise."""


def geometric_units(measures: Mapping[str, float], baseline: Mapping[str, float] | None = None) -> dict[int, float]:
    """Return the intensity in [0, 1] of each unit, by FACS number; see `action_units.unit_intensities`.

    Without a baseline only 12, 15, 25, 26 and 43.
    """
    if baseline is None:
        return _absolute(measures)
    change = {name: measures[name] - baseline[name] for name in measures}
    units = _mouth(measures, change) | _upper_face(measures, change)
    return units | {43: _closed(measures)}


def ramp(value: float, low: float, high: float) -> float:
    """Return 0 up to `low`, 1 from `high` on, and the share of the way between."""
    return min(max((value - low) / (high - low), 0.0), 1.0)


def _absolute(measures: Mapping[str, float]) -> dict[int, float]:
    """Return the units that stand out from anybody's neutral face."""
    return {
        12: ramp(measures["lip_corner_lift"], 0.03, 0.10),
        15: ramp(-measures["lip_corner_lift"], 0.03, 0.07),
        25: ramp(measures["lips_apart"], 0.06, 0.18),
        # A smile opens the lips too, but widens the mouth.
        26: ramp(measures["lips_apart"] / max(measures["mouth_width"], 0.1), 0.24, 0.40),
        43: _closed(measures),
    }


def _mouth(measures: Mapping[str, float], change: Mapping[str, float]) -> dict[int, float]:
    lips_closed = measures["lips_apart"] < 0.05
    thinner = -(change["upper_lip_thickness"] + change["lower_lip_thickness"])
    pushed_up = change["lower_lip_height"] - max(change["lip_corner_height"], 0.0)
    return {
        12: ramp(change["lip_corner_lift"], 0.015, 0.085),
        15: ramp(-change["lip_corner_lift"], 0.015, 0.055),
        17: ramp(pushed_up, 0.03, 0.09) if lips_closed else 0.0,
        24: ramp(thinner, 0.025, 0.06) if lips_closed and change["mouth_width"] < 0.04 else 0.0,
        25: ramp(change["lips_apart"], 0.03, 0.15),
        26: ramp(change["jaw_drop"], 0.08, 0.20),
        27: ramp(change["jaw_drop"], 0.20, 0.35),
    }


def _upper_face(measures: Mapping[str, float], change: Mapping[str, float]) -> dict[int, float]:
    cheeks = ramp(change["cheek_height"], 0.02, 0.06)
    lift = _BROWS_FOLLOW_CHEEKS * max(change["cheek_height"], 0.0)
    inner, outer = change["inner_brow_height"] + lift, change["outer_brow_height"] + lift
    lids = change["eye_opening"]
    open_eyes = measures["eye_opening"] > CLOSED_EYES
    return {
        1: ramp(inner, 0.03, 0.09),
        2: ramp(outer, 0.03, 0.09),
        4: max(ramp(-inner, 0.03, 0.08), ramp(-change["brow_gap"], 0.02, 0.05)),
        5: ramp(lids, 0.04, 0.12),
        6: cheeks,
        # Raised cheeks narrow the eyes as well: that is unit 6, not 7.
        7: ramp(-lids, 0.06, 0.16) if open_eyes and cheeks < MIN_CHEEKS else 0.0,
    }


def _closed(measures: Mapping[str, float]) -> float:
    return ramp(-measures["eye_opening"], -CLOSED_EYES, -0.03)
