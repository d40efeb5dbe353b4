"""What stands in the way of reading a face: size, rotation, blur, light, the image's border, something before it.

The thresholds were chosen on faces of FER+'s Training split that the expression network was not trained on: damaged as
by `benchmarks/quality.py --split held-out --keep`, and 2205 of them as they are. "Right" is the share of faces whose
display the network reads as the majority of people does: .80 of 218 undamaged faces with equal labels, .86 of the 2205.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from emo_llama_ros.faces.alignment import cut, face_roi
from emo_llama_ros.faces.face import Box, FloatArray, HeadPose, QualityFlaw
from emo_llama_ros.options import Options

MIN_SHARPNESS = 0.05
"""Of undamaged and blurred faces .58 are right below, .81 above; of the faces as they are 3 % lie below, .76 right."""
MIN_BRIGHTNESS = 12.0
"""Mean grey value. Of undamaged and darkened faces .60 are right below, .79 above (.50 below 5). No face as it is lies
below 34: light that is merely low foretells nothing, because `alignment.even_light` keeps labels."""
MAX_HIDDEN = 0.1
"""Share of the mesh beyond the image's border. Of the faces as they are .79 of 78 are right above, .89 of 182 between
0.05 and here; of undamaged and cut faces .77 above, .80 below. A weak sign."""
GLARE_FROM = 250
"""Grey value of a pixel that has lost its shade."""
MAX_GLARE = 0.15
"""Share of such pixels. Of undamaged and overexposed faces .50 are right above, .80 below; of the faces as they are 1 %
lie above, .61 right."""
MIN_EYE_CONTRAST = 0.7
MIN_MOUTH_CONTRAST = 0.7
"""With dark, light or skin-grey patches the medians are 0.38 to 0.51 (eyes) and 0.47 to 0.54 (mouth). Of undamaged and
covered faces .54 and .52 are right below, .78 and .77 above; of the faces as they are 2 % and 0.3 % lie below."""
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
    # Black beyond the border would count as the sharpest edge of the face.
    picture = cut(grey, roi, _SIZE, repeat_edge=True)
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
