"""The raw encodings: how each lies in memory, and whether an image's fields fit one another.

Names are those of sensor_msgs/image_encodings.hpp, and those that camera drivers publish beside them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from emo_llama_ros.errors import BadImage
from emo_llama_ros.frames import RawFrame
from emo_llama_ros.images.bounds import SPARE_BYTES, check_size
from emo_llama_ros.images.jpeg import jpeg_size

Chroma = Literal["", "nv12", "i420", "nv24"]


@dataclass(frozen=True, slots=True)
class Layout:
    """How a raw encoding lies in memory and becomes RGB."""

    channels: int
    """Interleaved samples per pixel; with chroma planes those of the luma plane."""
    depth: int = 1
    """Bytes per sample."""
    conversion: str | None = None
    """OpenCV's name of the colour conversion from 8-bit samples, without COLOR_; None when they are RGB already."""
    subsampled: bool = False
    """Chroma is shared by two neighbouring columns, so the width must be even."""
    chroma: Chroma = ""
    """Chroma planes behind the luma plane: one of half height (nv12), two of half height and width (i420), or one of
    full size whose rows are twice as long (nv24)."""

    def rows(self, height: int) -> int:
        """Return how many rows of `step` bytes an image takes."""
        return {"": height, "nv12": height * 3 // 2, "i420": height * 3 // 2, "nv24": height * 3}[self.chroma]


# OpenCV names a Bayer pattern after the second row's second and third pixel, ROS after the first row's first two and
# the second row's first two. YUV conversions are those of ITU-R BT.601 with limited range, as in cv_bridge.
BAYER = {
    "rggb": "BayerBG2RGB",
    "bggr": "BayerRG2RGB",
    "gbrg": "BayerGR2RGB",
    "grbg": "BayerGB2RGB",
}
_UYVY = Layout(2, conversion="YUV2RGB_UYVY", subsampled=True)
_YUYV = Layout(2, conversion="YUV2RGB_YUY2", subsampled=True)
_GREY16 = Layout(1, depth=2, conversion="GRAY2RGB")
_BGR16 = Layout(3, depth=2, conversion="BGR2RGB")
_BGRA16 = Layout(4, depth=2, conversion="BGRA2RGB")

LAYOUTS: dict[str, Layout] = {
    "rgb8": Layout(3),
    "bgr8": Layout(3, conversion="BGR2RGB"),
    "rgba8": Layout(4, conversion="RGBA2RGB"),
    "bgra8": Layout(4, conversion="BGRA2RGB"),
    "mono8": Layout(1, conversion="GRAY2RGB"),
    "mono16": _GREY16,
    "rgb16": Layout(3, depth=2),
    "bgr16": _BGR16,
    "rgba16": Layout(4, depth=2, conversion="RGBA2RGB"),
    "bgra16": _BGRA16,
    "yuv422": _UYVY,
    "uyvy": _UYVY,
    "yuv422_yuy2": _YUYV,
    "yuyv": _YUYV,
    "nv12": Layout(1, conversion="YUV2RGB_NV12", subsampled=True, chroma="nv12"),
    "nv21": Layout(1, conversion="YUV2RGB_NV21", subsampled=True, chroma="nv12"),
    "nv24": Layout(1, chroma="nv24"),
    "yuv420": Layout(1, conversion="YUV2RGB_I420", subsampled=True, chroma="i420"),
    "yv12": Layout(1, conversion="YUV2RGB_YV12", subsampled=True, chroma="i420"),
    **{f"bayer_{pattern}8": Layout(1, conversion=code) for pattern, code in BAYER.items()},
    **{f"bayer_{pattern}16": Layout(1, depth=2, conversion=code) for pattern, code in BAYER.items()},
    # Sensors of 10 and 12 bits, each sample in two bytes; their packed forms have shorter rows and are refused.
    **{f"bayer_{pattern}{b}": Layout(1, depth=2, conversion=c) for b in (10, 12) for pattern, c in BAYER.items()},
    "mono10": _GREY16,
    "mono12": _GREY16,
    # OpenCV type names say nothing about colour; they are read as OpenCV users mean them.
    "8UC1": Layout(1, conversion="GRAY2RGB"),
    "8UC3": Layout(3, conversion="BGR2RGB"),
    "8UC4": Layout(4, conversion="BGRA2RGB"),
    "16UC3": _BGR16,
    "16UC4": _BGRA16,
}
_OTHER_NAMES = {"i420": "yuv420", "yuy2": "yuyv", "gray8": "mono8", "grey8": "mono8", "y8": "mono8", "y16": "mono16"}
_BY_NAME = {name.casefold(): layout for name, layout in LAYOUTS.items()}
_BY_NAME |= {other: LAYOUTS[name] for other, name in _OTHER_NAMES.items()}
_SMALLEST_BAYER = 3  # interpolation needs neighbours
_DEPTH = frozenset(f"{kind}c1" for kind in ("16u", "16s", "32s", "32f", "64f"))
_VIDEO = {
    "H.264": ("h264", "h.264", "x264", "avc"),
    "H.265": ("h265", "h.265", "x265", "hevc"),
    "AV1": ("av1", "av01"),
    "VP9": ("vp9",),
    "VP8": ("vp8",),
    "MPEG-4": ("mpeg4", "mp4"),
    "Theora": ("theora",),
}
_FILES = ("jpeg", "jpg", "png", "webp", "tiff")


def layout_of(encoding: str) -> Layout | None:
    """Return the layout of an encoding, whatever its case and the blanks around it; None when it is not supported."""
    return LAYOUTS.get(encoding) or _BY_NAME.get(encoding.strip().casefold())


def checked_layout(frame: RawFrame, max_pixels: int) -> Layout:
    """Return the layout of a raw frame whose every field fits the others; raise BadImage otherwise.

    Of the payload only its size counts, so this costs nothing and can come before the payload is copied.
    """
    layout = layout_of(frame.encoding)
    if layout is None:
        raise BadImage(refusal_of(frame.encoding))
    width, height, step = frame.width, frame.height, frame.step
    name = f"{frame.encoding.strip()} image of {width}×{height}"
    check_size(name, width, height, max_pixels)
    if layout.subsampled and (width % 2 or (layout.chroma and height % 2)):
        raise BadImage(f"The {name} has an odd size, but its colour is stored for pairs of pixels.")
    if layout.conversion in BAYER.values() and min(width, height) < _SMALLEST_BAYER:
        raise BadImage(f"The {name} is too small for a Bayer pattern.")
    if frame.is_bigendian not in (0, 1):
        raise BadImage(f"The {name} has the endianness flag {frame.is_bigendian}; it must be 0 or 1.")
    row_bytes = width * layout.channels * layout.depth
    if step < row_bytes:
        raise BadImage(f"The {name} needs {row_bytes} bytes per row, but its step is {step}.")
    if step % layout.depth or (layout.chroma == "i420" and step % 2):
        raise BadImage(f"The {name} has a step of {step} bytes, which is not a whole number of samples.")
    check_payload(frame.data)
    size = step * layout.rows(height)
    if frame.data.size != size:
        raise BadImage(f"The {name} with a step of {step} needs {size} bytes, but has {frame.data.size}.")
    if size > 4 * row_bytes * layout.rows(height) + SPARE_BYTES:
        raise BadImage(f"The {name} has a payload of {size / 1e6:.0f} MB, far more than its pixels need.")
    _refuse_jpeg(frame)
    return layout


def check_payload(data: np.ndarray) -> None:
    """Raise BadImage for what is not a sequence of bytes, and for an empty one."""
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 1:
        raise BadImage("The image's payload is not a sequence of bytes.")
    if data.size == 0:
        raise BadImage("The image's payload is empty.")


def _refuse_jpeg(frame: RawFrame) -> None:
    """Refuse a driver's JPEG bytes under the name of a raw encoding: as pixels they would be noise for ever."""
    if bytes(frame.data[:3]) != b"\xff\xd8\xff":
        return
    try:
        size = jpeg_size(np.ascontiguousarray(frame.data).data[:SPARE_BYTES])
    except BadImage:
        return  # pixels that happen to begin like that
    if size == (frame.width, frame.height):
        raise BadImage(
            f"The image is called {frame.encoding} but holds JPEG data; choose another pixel format in the camera "
            "driver (for usb_cam: mjpeg2rgb), or another topic."
        )


def refusal_of(encoding: str) -> str:
    """Return the sentence that says why an encoding cannot be read, and what to do."""
    name = encoding.strip().casefold()
    if is_depth(encoding):
        return depth_refusal(encoding)
    if codec := video_codec(encoding):
        return video_refusal(codec)
    if any(kind in name for kind in _FILES):
        return (
            f"The raw image holds {encoding[:40]!r} data; let the camera driver publish raw pixels or CompressedImage "
            "(image_transport: compressed), or choose another topic."
        )
    if name in ("8uc2", "16uc2"):
        return (
            f"The encoding {encoding!r} does not say what its two samples per pixel are; let the camera driver name "
            "its format (yuv422 or yuv422_yuy2), or choose another topic."
        )
    return (
        f"The encoding {encoding[:40]!r} is not supported; supported are {', '.join(LAYOUTS)}; let the camera driver "
        "publish one of them."
    )


def is_depth(encoding: str) -> bool:
    """Tell whether the encoding is one of distances rather than of light."""
    return encoding.strip().casefold() in _DEPTH


def depth_refusal(encoding: str) -> str:
    """Return the sentence for a depth image of `encoding`."""
    return (
        f"The encoding {encoding[:60].strip()} is that of a depth image; set image_topic to a colour or grey image "
        "topic, such as /camera/color/image_raw."
    )


def video_codec(name: str) -> str:
    """Return the codec that an encoding or format names, "" when it names none."""
    name = name.casefold()
    return next((codec for codec, names in _VIDEO.items() if any(n in name for n in names)), "")


def video_refusal(codec: str) -> str:
    """Return the sentence for a stream of `codec`, whose messages are no whole pictures."""
    return (
        f"The topic carries {codec} video, which is not decoded here; republish it as raw images (image_transport's "
        "republish with the ffmpeg plugin), or set image_topic to a raw or JPEG topic of the camera."
    )
