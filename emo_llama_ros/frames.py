"""A camera frame before and after decoding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

SECOND_NS = 1_000_000_000

RgbImage = npt.NDArray[np.uint8]
"""RGB pixels, shape (H, W, 3), uint8."""


@dataclass(frozen=True, slots=True)
class RawFrame:
    """An image message as it came: sensor_msgs/Image, or sensor_msgs/CompressedImage with width = height = step = 0.

    `data` is the message's own buffer (uint8, 1-D), not a copy. `encoding` is the ROS encoding ("bgr8", "nv12", …)
    or, for a compressed image, its `format` string ("jpeg", "bgr8; png compressed bgr8", …).
    `stamp_ns` is the capture time on the camera's clock, `received_ns` the arrival on `time.monotonic_ns()`,
    or the time of recording; 0 is unknown.
    """

    stamp_ns: int
    frame_id: str
    data: npt.NDArray[np.uint8]
    encoding: str
    width: int = 0
    height: int = 0
    step: int = 0
    is_bigendian: bool = False
    compressed: bool = False
    received_ns: int = 0


@dataclass(frozen=True, slots=True)
class Frame:
    """A decoded frame: `rgb` is uint8 (H, W, 3); `stamp_ns` is the capture time on the camera's clock."""

    stamp_ns: int
    frame_id: str
    rgb: RgbImage
