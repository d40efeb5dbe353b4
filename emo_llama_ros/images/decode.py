"""Image messages become RGB pixels: every raw encoding that cameras publish, JPEG and PNG.

The built-in converter (NumPy, OpenCV). It raises BadImage, never anything else, whatever a message holds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from emo_llama_ros.errors import BadImage
from emo_llama_ros.frames import Frame, RawFrame, RgbImage
from emo_llama_ros.images.compressed import decode_compressed
from emo_llama_ros.images.pixels import to_rgb

Decode = Callable[[RawFrame, float], Frame]
"""`decode(frame, max_megapixels)`; raises BadImage."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How a raw encoding lies in memory and becomes RGB."""

    channels: int
    """Interleaved samples per pixel; for nv12 and nv21 those of the luma plane."""
    depth: int = 1
    """Bytes per sample."""
    conversion: int | None = None
    """OpenCV colour conversion from 8-bit samples, None when they are RGB already."""
    subsampled: bool = False
    """Chroma is shared by two neighbouring columns, so the width must be even."""
    planar: bool = False
    """A half-height plane of interleaved chroma follows the luma plane."""


# OpenCV names a Bayer pattern after the second row's second and third pixel, ROS after the first row's first two and
# the second row's first two. YUV conversions are those of ITU-R BT.601 with limited range, as in cv_bridge.
_BAYER = {
    "rggb": cv2.COLOR_BayerBG2RGB,
    "bggr": cv2.COLOR_BayerRG2RGB,
    "gbrg": cv2.COLOR_BayerGR2RGB,
    "grbg": cv2.COLOR_BayerGB2RGB,
}
_UYVY = Layout(2, conversion=cv2.COLOR_YUV2RGB_UYVY, subsampled=True)
_YUYV = Layout(2, conversion=cv2.COLOR_YUV2RGB_YUY2, subsampled=True)

LAYOUTS: dict[str, Layout] = {
    "rgb8": Layout(3),
    "bgr8": Layout(3, conversion=cv2.COLOR_BGR2RGB),
    "rgba8": Layout(4, conversion=cv2.COLOR_RGBA2RGB),
    "bgra8": Layout(4, conversion=cv2.COLOR_BGRA2RGB),
    "mono8": Layout(1, conversion=cv2.COLOR_GRAY2RGB),
    "mono16": Layout(1, depth=2, conversion=cv2.COLOR_GRAY2RGB),
    "rgb16": Layout(3, depth=2),
    "bgr16": Layout(3, depth=2, conversion=cv2.COLOR_BGR2RGB),
    "yuv422": _UYVY,
    "uyvy": _UYVY,
    "yuv422_yuy2": _YUYV,
    "yuyv": _YUYV,
    "nv12": Layout(1, conversion=cv2.COLOR_YUV2RGB_NV12, subsampled=True, planar=True),
    "nv21": Layout(1, conversion=cv2.COLOR_YUV2RGB_NV21, subsampled=True, planar=True),
    **{f"bayer_{pattern}8": Layout(1, conversion=code) for pattern, code in _BAYER.items()},
    **{f"bayer_{pattern}16": Layout(1, depth=2, conversion=code) for pattern, code in _BAYER.items()},
    # OpenCV type names say nothing about colour; they are read as OpenCV users mean them.
    "8UC1": Layout(1, conversion=cv2.COLOR_GRAY2RGB),
    "8UC3": Layout(3, conversion=cv2.COLOR_BGR2RGB),
    "8UC4": Layout(4, conversion=cv2.COLOR_BGRA2RGB),
}
_SMALLEST_BAYER = 3  # interpolation needs neighbours


def decode(frame: RawFrame, max_megapixels: float) -> Frame:
    """Return `frame` with its pixels as RGB uint8 (H, W, 3).

    The pixels of rgb8 are a view of the message's buffer, whatever its row step; all others are new. 16-bit samples
    are scaled to 8 bits by their full range. Raises BadImage when the size, step, encoding, endianness or payload is
    wrong, or when the image has more than `max_megapixels` million pixels: that is checked before anything is decoded.
    """
    max_pixels = int(max_megapixels * 1e6)
    try:
        if frame.compressed:
            _check_payload(frame.data)
            rgb = decode_compressed(frame.data, frame.encoding, max_pixels, mosaic_conversion(frame.encoding))
        else:
            rgb = _raw_to_rgb(frame, checked_layout(frame, max_pixels))
    except cv2.error as error:
        raise BadImage(f"OpenCV cannot convert a {frame.encoding!r} image: {error.err or error}.") from None
    return Frame(frame.stamp_ns, frame.frame_id, rgb)


def checked_layout(frame: RawFrame, max_pixels: int) -> Layout:
    """Return the layout of a raw frame whose every field fits the others; raise BadImage otherwise."""
    layout = LAYOUTS.get(frame.encoding)
    if layout is None:
        raise BadImage(_unsupported(frame.encoding))
    width, height, step = frame.width, frame.height, frame.step
    name = f"{frame.encoding} image of {width}×{height}"
    if width < 1 or height < 1:
        raise BadImage(f"The {name} has no pixels.")
    if width * height > max_pixels:
        raise BadImage(f"The {name} has more than the allowed {max_pixels / 1e6:g} megapixels.")
    if layout.subsampled and (width % 2 or (layout.planar and height % 2)):
        raise BadImage(f"The {name} has an odd size, but its colour is stored for pairs of pixels.")
    if frame.encoding.startswith("bayer_") and min(width, height) < _SMALLEST_BAYER:
        raise BadImage(f"The {name} is too small for a Bayer pattern.")
    if frame.is_bigendian not in (0, 1):
        raise BadImage(f"The {name} has the endianness flag {frame.is_bigendian}; it must be 0 or 1.")
    row_bytes = width * layout.channels * layout.depth
    if step < row_bytes:
        raise BadImage(f"The {name} needs {row_bytes} bytes per row, but its step is {step}.")
    if step % layout.depth:
        raise BadImage(f"The {name} has a step of {step} bytes, which is not a whole number of samples.")
    _check_payload(frame.data)
    size = step * height * (3 if layout.planar else 2) // 2
    if frame.data.size != size:
        raise BadImage(f"The {name} with a step of {step} needs {size} bytes, but has {frame.data.size}.")
    return layout


def mosaic_conversion(compressed_format: str) -> int | None:
    """Return the Bayer conversion that a compressed mosaic still needs, None when its pixels are colours or grey.

    compressed_image_transport stores a Bayer image as it is in PNG ("bayer_rggb8; png compressed ").
    """
    source, _, target = compressed_format.partition(";")
    if source.startswith("bayer_") and target.split() == ["png", "compressed"]:
        return _BAYER.get(source.removeprefix("bayer_").rstrip("0123456789"))
    return None


def _raw_to_rgb(frame: RawFrame, layout: Layout) -> RgbImage:
    rows = frame.height * 3 // 2 if layout.planar else frame.height
    order = ">" if frame.is_bigendian else "<"
    samples: np.ndarray = np.ndarray(
        (rows, frame.width, layout.channels),
        dtype=np.uint8 if layout.depth == 1 else np.dtype(f"{order}u2"),
        buffer=np.ascontiguousarray(frame.data).data,
        strides=(frame.step, layout.channels * layout.depth, layout.depth),
    )
    return to_rgb(samples, layout.conversion)


def _check_payload(data: np.ndarray) -> None:
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 1:
        raise BadImage("The image's payload is not a sequence of bytes.")
    if data.size == 0:
        raise BadImage("The image's payload is empty.")


def _unsupported(encoding: str) -> str:
    if encoding in ("16UC1", "32FC1"):
        return f"The encoding {encoding} is that of a depth image; choose a colour or grey image topic."
    return f"The encoding {encoding[:40]!r} is not supported; supported are {', '.join(LAYOUTS)}."
