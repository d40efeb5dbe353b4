"""Image messages become RGB pixels: every raw encoding that cameras publish, JPEG, PNG, WebP and TIFF.

The built-in converter (NumPy, OpenCV). It raises BadImage, never anything else, whatever a message holds.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from emo_llama_ros.errors import BadImage
from emo_llama_ros.frames import Frame, RawFrame, RgbImage
from emo_llama_ros.images.compressed import decode_compressed
from emo_llama_ros.images.layouts import Layout, checked_layout
from emo_llama_ros.images.samples import SampleRange, to_rgb

Decode = Callable[[RawFrame, float, "SampleRange | None"], Frame]
"""`decode(frame, max_megapixels, sample_range)`; raises BadImage."""

# R, G, B from Y, U, V, 1: ITU-R BT.601, limited range, the numbers that OpenCV uses.
_YUV_TO_RGB = np.array(
    [[1.164, 0.0, 1.596, -222.912], [1.164, -0.391, -0.813, 135.488], [1.164, 2.018, 0.0, -276.928]], np.float32
)


def decode(frame: RawFrame, max_megapixels: float, sample_range: SampleRange | None = None) -> Frame:
    """Return `frame` with its pixels as RGB uint8 (H, W, 3).

    The pixels of rgb8 are a view of the message's buffer, whatever its row step; all others are new. 16-bit samples
    are scaled to 8 bits by the range of the stream's earlier images, or by their full range without a `sample_range`.
    Raises BadImage when the size, step, encoding, endianness or payload is wrong, or when the image has more than
    `max_megapixels` million pixels: that is checked before anything is decoded.
    """
    max_pixels = int(max_megapixels * 1e6)
    try:
        if frame.compressed:
            rgb = decode_compressed(frame, max_pixels, sample_range)
        else:
            rgb = _raw_to_rgb(frame, checked_layout(frame, max_pixels), sample_range)
    except cv2.error as error:
        raise BadImage(f"OpenCV cannot convert a {frame.encoding!r} image: {error.err or error}.") from None
    return Frame(frame.stamp_ns, frame.frame_id, rgb)


def _raw_to_rgb(frame: RawFrame, layout: Layout, sample_range: SampleRange | None) -> RgbImage:
    data = np.ascontiguousarray(frame.data)
    if layout.chroma == "i420":
        return to_rgb(_joined_planes(data, frame), layout.conversion)
    if layout.chroma == "nv24":
        return np.asarray(cv2.transform(_interleaved(data, frame), _YUV_TO_RGB), np.uint8)
    order = ">" if frame.is_bigendian else "<"
    samples: np.ndarray = np.ndarray(
        (layout.rows(frame.height), frame.width, layout.channels),
        dtype=np.uint8 if layout.depth == 1 else np.dtype(f"{order}u2"),
        buffer=data.data,
        strides=(frame.step, layout.channels * layout.depth, layout.depth),
    )
    return to_rgb(samples, layout.conversion, sample_range)


def _joined_planes(data: np.ndarray, frame: RawFrame) -> np.ndarray:
    """Return luma and the two quarter planes without row padding, as (H·3/2, W)."""
    end = frame.height * frame.step
    luma = data[:end].reshape(frame.height, frame.step)[:, : frame.width]
    chroma = data[end:].reshape(frame.height, frame.step // 2)[:, : frame.width // 2]
    return np.concatenate([luma.ravel(), chroma.ravel()]).reshape(-1, frame.width)


def _interleaved(data: np.ndarray, frame: RawFrame) -> np.ndarray:
    """Return luma and a full plane of interleaved chroma as (H, W, 3)."""
    end = frame.height * frame.step
    luma = data[:end].reshape(frame.height, frame.step)[:, : frame.width]
    chroma = data[end:].reshape(frame.height, 2 * frame.step)[:, : 2 * frame.width]
    return np.dstack([luma, chroma.reshape(frame.height, frame.width, 2)])
