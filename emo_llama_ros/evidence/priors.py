"""Facial priors of one face in one frame: landmarks and measured evidence. NumPy only.

EMO-LLaMA's priors are a face embedding and landmarks (the age-gender-race text is made elsewhere); measured evidence
is added here.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from emo_llama_ros.evidence.action_units import unit_intensities
from emo_llama_ros.faces import measures
from emo_llama_ros.faces.alignment import CROP_MARGIN
from emo_llama_ros.faces.face import Box, FloatArray

# Vertices of the 468-point mesh that lie where iBUG's 68-point mark-up (Sagonas et al., "300 Faces in-the-Wild
# Challenge", 2013, figure 1) has its points. The mesh has no vertex on the jaw for a turned head's outline, so jaw
# points are those of the frontal face.
IBUG_68: tuple[int, ...] = (
    *(127, 234, 93, 58, 172, 136, 150, 176, 152, 400, 379, 365, 397, 288, 323, 454, 356),  # jaw, from the image's left
    *(70, 63, 105, 66, 107),  # brow on the image's left, outwards in
    *(336, 296, 334, 293, 300),  # other brow
    *(168, 197, 5, 4),  # bridge of the nose, downwards
    *(98, 97, 2, 326, 327),  # base of the nose
    *(33, 160, 158, 133, 153, 144),  # eye on the image's left, clockwise from its outer corner
    *(362, 385, 387, 263, 373, 380),  # other eye, clockwise from its inner corner
    *(61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181),  # outer lips, clockwise from the left corner
    *(78, 82, 13, 312, 308, 317, 14, 87),  # inner lips
)
UNIT_NUMBERS: tuple[int, ...] = (1, 2, 4, 5, 6, 7, 12, 15, 17, 24, 25, 26, 27, 43)
"""Units that a face branch reads and a language model was taught the names of, unless its configuration lists others.
The shipped model was trained on these. Those that are no longer measured (6, 15, 24, 27) are unknown to it."""
EVIDENCE_NAMES: tuple[str, ...] = (
    *(f"au{number}" for number in UNIT_NUMBERS),
    *measures.NAMES,
    "has_baseline",
)
"""Entries of an evidence vector."""


def evidence_vector(values: Mapping[str, float], baseline: Mapping[str, float] | None) -> FloatArray:
    """Return the evidence of one face's measures, (M,) named by `EVIDENCE_NAMES`.

    Intensities of action units in [0, 1], NaN for those that are not measured, and for those that need a
    baseline where there is none; the measures, minus
    the baseline where there is one; 1 with a baseline, else 0.
    """
    units = unit_intensities(values, baseline)
    origin = baseline or dict.fromkeys(measures.NAMES, 0.0)
    return np.array(
        [
            *(units.get(number, np.nan) for number in UNIT_NUMBERS),
            *(values[name] - origin[name] for name in measures.NAMES),
            float(baseline is not None),
        ],
        np.float32,
    )


def crop_coordinates(points: FloatArray, box: Box) -> FloatArray:
    """Return points (N, 2 or more) in pixels of the image as (N, 2) in [-1, 1] of the crop around `box`."""
    half = max(box.width, box.height) * (0.5 + CROP_MARGIN)
    centre = np.array([box.x + box.width / 2, box.y + box.height / 2])
    return ((points[:, :2] - centre) / half).astype(np.float32)
