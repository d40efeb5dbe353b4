"""Samples of any supported depth and colour order become RGB pixels."""

from __future__ import annotations

import cv2
import numpy as np

from emo_llama_ros.frames import RgbImage

FULL_SCALE = 65535
_SENSOR_BITS = (10, 12, 14)
_STRAY_SAMPLES = 1e-3


class SampleRange:
    """Which value is white in the 16-bit samples of one camera.

    Sensors of 10, 12 and 14 bits are published in 16-bit encodings, mostly in the low bits and without a word about it;
    scaled by 65535 such images are nearly black. The range begins at 10 bits and grows for good as soon as more than
    one sample in a thousand lies beyond it, so brightness cannot flicker, and a few damaged samples change nothing.
    A camera that uses all 16 bits reaches its full range with the first image that is not nearly black.
    """

    def __init__(self) -> None:
        self.white = 2 ** _SENSOR_BITS[0] - 1

    def fit(self, samples: np.ndarray) -> int:
        """Take uint16 samples of any shape into account and return the value that is white: 1023 … 65535."""
        for bits in (*_SENSOR_BITS, 16):
            self.white = max(self.white, 2**bits - 1)
            if self.white == FULL_SCALE:
                break
            if np.count_nonzero(samples > self.white) <= _STRAY_SAMPLES * samples.size:
                break
        return self.white


def to_rgb(samples: np.ndarray, conversion: str | None, sample_range: SampleRange | None = None) -> RgbImage:
    """Return (H, W, C) or (H, W) samples as RGB uint8.

    16-bit samples of either byte order are scaled to 255 from the white of `sample_range`, from 65535 without one, and
    rounded. `conversion` is an OpenCV colour conversion of 8-bit samples; None means that they are RGB already and are
    not copied.
    """
    if samples.dtype.itemsize == 2:
        native = samples.astype(np.uint16, copy=False)
        colours = native[..., :3] if native.ndim == 3 else native  # alpha is no brightness
        white = sample_range.fit(colours) if sample_range else FULL_SCALE
        samples = cv2.convertScaleAbs(native, alpha=255 / white).reshape(samples.shape)
    if conversion is not None:
        samples = cv2.cvtColor(samples, getattr(cv2, f"COLOR_{conversion}"))
    return np.asarray(samples, dtype=np.uint8)
