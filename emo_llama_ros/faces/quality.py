"""What stands in the way of reading a face: size, rotation, blur, light, the image's border, something before it.

The numbers below were measured by `benchmarks/quality.py` on 98 labelled faces of FER+'s Training split, undamaged and
damaged in one way at a time: "right" is the share of faces whose display the expression network reads as the majority
of people does. Of undamaged faces .80 are; the network was trained on faces of this split. Faces too damaged to be
found are not counted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from emo_llama_ros.faces.alignment import cut, face_roi
from emo_llama_ros.faces.face import Box, FloatArray, HeadPose, QualityFlaw
from emo_llama_ros.options import Options

MIN_SHARPNESS = 0.05
"""Undamaged faces have 0.06 and more in 98 % of the cases. Of undamaged and blurred faces .66 are right below, .78
above."""
MIN_BRIGHTNESS = 12.0
"""Mean grey value; undamaged faces have 63 and more. Of undamaged and darkened faces .72 are right below, .79 above,
which 32 dark faces do not tell from chance: `alignment.even_light` keeps labels. Below, most faces are lost."""
MAX_HIDDEN = 0.05
"""Share of the mesh beyond the image's border; no undamaged face has more than 0.04. Of undamaged and cut faces .70 are
right above, .78 below; from 0.1 on there is no difference left."""
GLARE_FROM = 250
"""Grey value of a pixel that has lost its shade."""
MAX_GLARE = 0.3
"""Share of such pixels: 0.13 in the worst undamaged face, in median half at 1.7 times the light and 0.7 at 2.5 times.
Of undamaged and overexposed faces .47 are right above, .79 below."""
MIN_EYE_CONTRAST = 0.7
MIN_MOUTH_CONTRAST = 0.7
"""Undamaged faces have 0.99 (eyes) and 0.91 (mouth) and more in 98 % of the cases; with dark, light or skin-grey
patches the medians are 0.29 to 0.47 and 0.39 to 0.43. Of undamaged and covered faces .55 and .51 are right below, .77
and .78 above."""
_SIZE = 64
_EYES = ((33, 133, 159, 145), (362, 263, 386, 374))
_MOUTH = (61, 291, 0, 17, 13, 14)


def sharpness(grey: npt.NDArray[np.uint8]) -> float:
    """Return the variance of the Laplacian relative to the variance of a face picture (64, 64).

    The fixed size makes faces near and far comparable; the ratio leaves brightness and contrast out.
    """
    import cv2

    values = grey.astype(np.float32)
    return float(cv2.Laplacian(values, cv2.CV_32F).var() / (values.var() + 1.0))


@dataclass(frozen=True, slots=True)
class Quality:
    """What can be measured on the picture of a face, whatever it expresses."""

    sharpness: float
    """See `sharpness`."""
    brightness: float
    """Mean grey value in [0, 255]."""
    glare: float
    """Share of pixels at the upper end of the scale, in [0, 1]."""
    hidden: float
    """Share of the mesh beyond the image's border, in [0, 1]."""
    eye_contrast: float
    """Contrast around the eyes over that of the whole face; of the two eyes the lower."""
    mouth_contrast: float
    """Contrast around the mouth over that of the whole face."""


def measure_quality(grey: npt.NDArray[np.uint8], mesh: FloatArray) -> Quality:
    """Return the measures of a face with this mesh (468 or more, 3) in a grey image (H, W)."""
    height, width = grey.shape
    x, y = mesh[:, 0], mesh[:, 1]
    roi = face_roi(mesh, 1.6, 0.3)
    picture = cut(grey, roi, _SIZE)
    matrix = roi.matrix(_SIZE)
    points = mesh[:, :2] @ matrix[:, :2].T + matrix[:, 2]
    return Quality(
        sharpness=sharpness(picture),
        brightness=float(picture.mean()),
        glare=float(np.mean(picture >= GLARE_FROM)),
        hidden=float(np.mean((x < 0) | (y < 0) | (x > width - 1) | (y > height - 1))),
        eye_contrast=min(_contrast(picture, points[list(eye)], 0.35) for eye in _EYES),
        mouth_contrast=_contrast(picture, points[list(_MOUTH)], 0.1),
    )


def _contrast(picture: npt.NDArray[np.uint8], points: npt.NDArray[np.floating], margin: float) -> float:
    """Return the mean steepness of the box around points, enlarged by a share of its width, over the whole picture's.

    Lids, iris, lips and teeth are the steepest parts of a bare face; glasses, hands and masks are smooth.
    """
    (x0, y0), (x1, y1) = points.min(0), points.max(0)
    more = margin * (x1 - x0)
    left, top = (int(np.clip(v, 0, _SIZE - 4)) for v in (x0 - more, y0 - more))
    right, bottom = max(left + 4, int(x1 + more) + 1), max(top + 4, int(y1 + more) + 1)
    steps = np.abs(np.diff(picture.astype(np.float32), axis=0))
    return float(steps[top:bottom, left:right].mean() / (steps.mean() + 0.1))


def flaws(
    grey: npt.NDArray[np.uint8], box: Box, mesh: FloatArray | None, pose: HeadPose | None, options: Options
) -> QualityFlaw:
    """Return the flaws of a face in a grey image (H, W); its mesh and pose are None where nobody measured them."""
    found = QualityFlaw.NONE
    if box.width < options.min_face_px:
        found |= QualityFlaw.SMALL
    if mesh is None or pose is None:
        return found | QualityFlaw.NO_LANDMARKS
    if abs(pose.yaw) > options.max_yaw_deg or abs(pose.pitch) > options.max_pitch_deg:
        found |= QualityFlaw.TURNED
    quality = measure_quality(grey, mesh)
    judged = {
        QualityFlaw.CUT_OFF: quality.hidden > MAX_HIDDEN,
        QualityFlaw.DARK: quality.brightness < MIN_BRIGHTNESS,
        QualityFlaw.OVEREXPOSED: quality.glare > MAX_GLARE,
        QualityFlaw.BLURRED: quality.sharpness < MIN_SHARPNESS,
        QualityFlaw.OCCLUDED: quality.eye_contrast < MIN_EYE_CONTRAST or quality.mouth_contrast < MIN_MOUTH_CONTRAST,
    }
    for flaw, there in judged.items():
        if there:
            found |= flaw
    return found
