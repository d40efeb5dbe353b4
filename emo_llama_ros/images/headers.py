"""What can be said of an image by its header, before its payload is copied or decoded.

Nothing here imports OpenCV: the node's own process judges every image, and only the model side decodes.
"""

from __future__ import annotations

import struct

import numpy as np

from emo_llama_ros.errors import BadImage
from emo_llama_ros.frames import RawFrame
from emo_llama_ros.images.bounds import SPARE_BYTES, check_compressed_bytes, check_size
from emo_llama_ros.images.formats import parse_format
from emo_llama_ros.images.jpeg import jpeg_size
from emo_llama_ros.images.layouts import check_payload, checked_layout, depth_refusal, video_refusal

PNG = b"\x89PNG\r\n\x1a\n"
_TIFF = (b"II*\0", b"MM\0*")
_VIDEO = (b"\x00\x00\x00\x01", b"\x00\x00\x01")  # Annex B of H.264 and H.265: start codes between the units
_DEPTH_HEADER = 12  # compressedDepth puts its own header before the PNG
_TIFF_SHORT = 3  # field type; all other fields that are read here are LONG
_TIFF_WIDTH, _TIFF_HEIGHT, _TIFF_COMPRESSION, _TIFF_SAMPLES, _TIFF_TILE_WIDTH = 256, 257, 259, 277, 322
_TIFF_COMPRESSIONS = frozenset({1, 5, 8, 32946, 32773})  # none, LZW, Deflate (both numbers), PackBits


def check(frame: RawFrame, max_megapixels: float) -> None:
    """Raise BadImage for every message that can be refused by its header."""
    max_pixels = int(max_megapixels * 1e6)
    if frame.compressed:
        checked_kind(frame, max_pixels)
    else:
        checked_layout(frame, max_pixels)


def checked_kind(frame: RawFrame, max_pixels: int) -> tuple[str, int, int]:
    """Return (kind of file, width, height) of a compressed frame by its header; raise BadImage for any other payload.

    Nothing is decoded and nothing copied, so this can come before either.
    """
    check_payload(frame.data)
    said = parse_format(frame.encoding)
    payload = np.ascontiguousarray(frame.data).data
    head = bytes(payload[: _DEPTH_HEADER + len(PNG)])
    if said.depth or head[_DEPTH_HEADER:] == PNG:
        raise BadImage(depth_refusal(frame.encoding))
    if head.startswith(b"\xff\xd8\xff"):
        kind, (width, height) = "JPEG", jpeg_size(payload[:SPARE_BYTES])
    elif head.startswith(PNG):
        kind, (width, height) = "PNG", _png_size(payload)
    elif head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        kind, (width, height) = "WebP", _webp_size(payload)
    elif head.startswith(_TIFF):
        kind, (width, height) = "TIFF", _tiff_size(payload)
    elif said.codec or head.startswith(_VIDEO):
        raise BadImage(video_refusal(said.codec or "H.264 or H.265"))
    else:
        raise BadImage(
            f"The compressed image of format {frame.encoding[:60]!r} is neither JPEG nor PNG, WebP or TIFF; let the "
            "camera driver publish one of these, or choose another topic."
        )
    name = f"{kind} image of {width}×{height}"
    check_size(name, width, height, max_pixels)
    check_compressed_bytes(name, width, height, len(payload))
    return kind, width, height


def _png_size(payload: memoryview) -> tuple[int, int]:
    """Return (width, height) of the IHDR chunk (PNG specification, 11.2.1)."""
    if len(payload) < 33 or bytes(payload[8:16]) != b"\x00\x00\x00\x0dIHDR":
        raise BadImage("The PNG image has no readable header.")
    return struct.unpack_from(">II", payload, 16)


def _webp_size(payload: memoryview) -> tuple[int, int]:
    """Return (width, height) of the first chunk (WebP container specification; RFC 6386, 9.1, for VP8)."""
    kind, data = bytes(payload[12:16]), bytes(payload[20:30])
    if len(data) == 10 and kind == b"VP8X":
        return 1 + int.from_bytes(data[4:7], "little"), 1 + int.from_bytes(data[7:10], "little")
    if len(data) == 10 and kind == b"VP8 " and data[3:6] == b"\x9d\x01\x2a":
        return int.from_bytes(data[6:8], "little") & 0x3FFF, int.from_bytes(data[8:10], "little") & 0x3FFF
    if len(data) == 10 and kind == b"VP8L" and data[0] == 0x2F:
        bits = int.from_bytes(data[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    raise BadImage("The WebP image has no readable header.")


def _tiff_size(payload: memoryview) -> tuple[int, int]:
    """Return (width, height) of the first directory (TIFF 6.0, section 2).

    Only strips of at most four samples a pixel, in the compressions that image_transport writes, are let through: a
    tile may be larger than its image, and the other compressions bring decoders of their own.
    """
    order = "<" if bytes(payload[:2]) == b"II" else ">"
    tags: dict[int, int] = {}
    try:
        (at,) = struct.unpack_from(order + "I", payload, 4)
        (count,) = struct.unpack_from(order + "H", payload, at)
        for entry in range(at + 2, at + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(order + "HH", payload, entry)
            (value,) = struct.unpack_from(order + ("H" if kind == _TIFF_SHORT else "I"), payload, entry + 8)
            if tags.setdefault(tag, value) != value:
                raise BadImage("The TIFF image has a damaged header.")
    except struct.error:
        raise BadImage("The TIFF image has no readable header.") from None
    if _TIFF_WIDTH not in tags or _TIFF_HEIGHT not in tags:
        raise BadImage("The TIFF image has no readable header.")
    compression, samples = tags.get(_TIFF_COMPRESSION, 1), tags.get(_TIFF_SAMPLES, 1)
    if compression not in _TIFF_COMPRESSIONS or samples > 4 or _TIFF_TILE_WIDTH in tags:
        raise BadImage("The TIFF image is stored in a rare form; let the camera driver publish JPEG or PNG.")
    return tags[_TIFF_WIDTH], tags[_TIFF_HEIGHT]
