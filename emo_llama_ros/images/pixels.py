"""Samples of any supported depth and colour order become RGB pixels."""

from __future__ import annotations

import cv2
import numpy as np

from emo_llama_ros.frames import RgbImage


def to_rgb(samples: np.ndarray, conversion: int | None) -> RgbImage:
    """Return (H, W, C) or (H, W) samples as RGB uint8.

    16-bit samples of either byte order are scaled by 255/65535 and rounded. `conversion` is an OpenCV colour
    conversion of 8-bit samples; None means that they are RGB already and are not copied.
    """
    if samples.dtype.itemsize == 2:
        native = samples.astype(np.uint16, copy=False)
        samples = cv2.convertScaleAbs(native, alpha=255 / 65535).reshape(samples.shape)
    if conversion is not None:
        samples = cv2.cvtColor(samples, conversion)
    return np.asarray(samples, dtype=np.uint8)
