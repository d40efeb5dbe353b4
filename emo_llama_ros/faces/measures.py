"""Scale-free measures of a face's shape, from the mesh turned to face the camera.

Lengths are in units of the outer eye corners' distance (about 9 cm), heights count upwards. Left and right are
averaged. Numbers are vertices of the face mesh. Heights are taken from the eye corners, which no expression moves, or
between two points of the same part.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from emo_llama_ros.faces.pose import Frontal

_EYE_CORNERS = (33, 133, 362, 263)
_INNER_EYE_CORNERS = (133, 362)
_OUTER_EYE_CORNERS = (33, 263)
_LIP_CORNERS = (61, 291)
_UPPER_LIP_INNER = (82, 13, 312)
_LOWER_LIP_INNER = (87, 14, 317)
_UPPER_LIP_TOP = (0,)
_LOWER_LIP_BOTTOM = (17,)
_NOSE_BASE = (2,)
_NOSE_WINGS = (98, 327)
_CHIN = (152,)
_INNER_BROWS = (55, 107, 336, 285)
_OUTER_BROWS = (70, 63, 293, 300)
_CHEEKS = (50, 205, 280, 425)

HEIGHTS: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "lips_apart": (_UPPER_LIP_INNER, _LOWER_LIP_INNER),
    "jaw_drop": (_NOSE_BASE, _CHIN),
    "lip_corner_lift": (_LIP_CORNERS, (13, 14)),
    "lip_corner_height": (_LIP_CORNERS, _EYE_CORNERS),
    "upper_lip_thickness": (_UPPER_LIP_TOP, (13,)),
    "lower_lip_thickness": ((14,), _LOWER_LIP_BOTTOM),
    "upper_lip_height": (_UPPER_LIP_TOP, _EYE_CORNERS),
    "lower_lip_height": (_LOWER_LIP_BOTTOM, _EYE_CORNERS),
    "philtrum_length": (_NOSE_BASE, _UPPER_LIP_TOP),
    "chin_length": (_LOWER_LIP_BOTTOM, _CHIN),
    "nose_wing_height": (_NOSE_WINGS, _INNER_EYE_CORNERS),
    "inner_brow_height": (_INNER_BROWS, _INNER_EYE_CORNERS),
    "outer_brow_height": (_OUTER_BROWS, _OUTER_EYE_CORNERS),
    "cheek_height": (_CHEEKS, _EYE_CORNERS),
}
"""Measure → mean height of the first vertices above the second."""

WIDTHS: dict[str, tuple[int, int]] = {
    "mouth_width": (61, 291),
    "nose_width": (98, 327),
    "brow_gap": (55, 285),
}
"""Measure → horizontal distance of two vertices."""

EYE_OPENING = "eye_opening"
"""Gap between the lids relative to the eye's width, see `eye_opening`."""
_EYES = (
    ((160, 159, 158), (144, 145, 153), (33, 133)),
    ((385, 386, 387), (380, 374, 373), (362, 263)),
)
"""Upper lid, lower lid and corners of each eye, the image's left first."""

NAMES: tuple[str, ...] = (*HEIGHTS, *WIDTHS, EYE_OPENING)
"""All measures, in a fixed order."""


def eye_opening(face: Frontal) -> float:
    """Return the height of the gap between the lids, relative to the eye's width, mean of both eyes.

    On the sample media: 0.3 to 0.5 open, under 0.1 closed.
    """
    gaps = []
    for upper, lower, corners in _EYES:
        gap = face.points[list(lower), 1].mean() - face.points[list(upper), 1].mean()
        gaps.append(gap / max(float(np.linalg.norm(np.subtract(*face.points[list(corners)]))), 1e-6))
    return float(np.mean(gaps))


def measure(face: Frontal, eye_opening: float) -> dict[str, float]:
    """Return every measure of `NAMES` for one face, in that order."""
    points: npt.NDArray[np.float64] = face.points
    values = {
        name: float(points[list(below), 1].mean() - points[list(above), 1].mean())
        for name, (above, below) in HEIGHTS.items()
    }
    values |= {name: float(points[right, 0] - points[left, 0]) for name, (left, right) in WIDTHS.items()}
    return values | {EYE_OPENING: eye_opening}
