"""What stands in the way of reading a face: size, rotation, blur, darkness, the image's border.

The thresholds on blur and darkness are where the expression network stops agreeing with itself on the sample media
when they are blurred and darkened artificially; `benchmarks/faces.py --quality` prints the table.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from emo_llama_ros.faces.alignment import cut, face_roi
from emo_llama_ros.faces.face import Box, FloatArray, HeadPose, QualityFlaw
from emo_llama_ros.options import Options

MIN_SHARPNESS = 0.05
"""Sharp faces have 0.24 and more. Around 0.05 blur has changed one label in eight."""
MIN_BRIGHTNESS = 12.0
"""Mean grey value. `alignment.even_light` keeps labels down to there; below, sensor noise takes over."""
MAX_HIDDEN = 0.1
"""Share of the mesh beyond the image's border."""
_SIZE = 64


def sharpness(grey: npt.NDArray[np.uint8]) -> float:
    """Return the variance of the Laplacian relative to the variance of a face picture (64, 64).

    The fixed size makes faces near and far comparable; the ratio leaves brightness and contrast out.
    """
    import cv2

    values = grey.astype(np.float32)
    return float(cv2.Laplacian(values, cv2.CV_32F).var() / (values.var() + 1.0))


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
    height, width = grey.shape
    x, y = mesh[:, 0], mesh[:, 1]
    if float(np.mean((x < 0) | (y < 0) | (x > width - 1) | (y > height - 1))) > MAX_HIDDEN:
        found |= QualityFlaw.CUT_OFF
    picture = cut(grey, face_roi(mesh, 1.6, 0.3), _SIZE)
    if float(picture.mean()) < MIN_BRIGHTNESS:
        found |= QualityFlaw.DARK
    if sharpness(picture) < MIN_SHARPNESS:
        found |= QualityFlaw.BLURRED
    return found
