"""JPEG and PNG payloads of CompressedImage become RGB pixels.

The header is read before the decoder runs, so a claimed size is refused before memory is taken for it, and an
incomplete file is refused where decoders would fill the rest with grey.
"""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np

from emo_llama_ros.errors import BadImage
from emo_llama_ros.frames import RgbImage
from emo_llama_ros.images.pixels import to_rgb

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_JPEG_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0…SOF15; the others are tables
_JPEG_BARE_MARKERS = frozenset(range(0xD0, 0xD9)) | {0x01}  # RSTn, SOI and TEM carry no length
_JPEG_SCAN, _JPEG_END = 0xDA, 0xD9


def decode_compressed(
    data: np.ndarray, message_format: str, max_pixels: int, mosaic_conversion: int | None = None
) -> RgbImage:
    """Decode a complete JPEG or PNG file: (N,) uint8 → RGB uint8 (H, W, 3).

    The payload says which of the two it is; of `message_format` (the message's `format` field) only the channel order
    counts, as in compressed_image_transport: after "compressed rgb8" the file holds red where others hold blue. EXIF
    orientation is ignored, because camera calibration and other nodes see the pixels as they are stored. A mosaic is
    turned into colours by the OpenCV conversion `mosaic_conversion`. Raises BadImage when the file is of another kind,
    incomplete, damaged where its checksums or markers show it, or larger than `max_pixels`.
    """
    payload = np.ascontiguousarray(data).data
    if bytes(payload[:3]) == b"\xff\xd8\xff":
        kind, (width, height) = "JPEG", _jpeg_size(payload)
    elif bytes(payload[:8]) == _PNG_SIGNATURE:
        kind, (width, height) = "PNG", _png_size(payload)
    else:
        raise BadImage(f"The compressed image of format {message_format[:60]!r} is neither JPEG nor PNG.")
    if width < 1 or height < 1:
        raise BadImage(f"The {kind} image of {width}×{height} has no pixels.")
    if width * height > max_pixels:
        raise BadImage(
            f"The {kind} image of {width}×{height} has more than the allowed {max_pixels / 1e6:g} megapixels."
        )
    if not (_jpeg_is_complete(payload) if kind == "JPEG" else _png_is_complete(payload)):
        raise BadImage(f"The {kind} image of {width}×{height} is cut off or damaged after {len(payload)} bytes.")
    pixels = cv2.imdecode(np.frombuffer(payload, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.shape[:2] != (height, width):
        raise BadImage(f"The {kind} image of {width}×{height} is damaged.")
    return to_rgb(pixels, _conversion(pixels, kind, _holds_rgb(message_format), mosaic_conversion))


def _conversion(pixels: np.ndarray, kind: str, swapped: bool, mosaic_conversion: int | None) -> int | None:
    """Return the OpenCV conversion from what the decoder gave to RGB."""
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    if pixels.dtype not in (np.uint8, np.uint16) or channels not in (1, 3, 4):
        raise BadImage(f"The {kind} image has {channels} channels of {pixels.dtype}, which is no picture.")
    if channels == 1:
        return cv2.COLOR_GRAY2RGB if mosaic_conversion is None else mosaic_conversion
    if swapped:
        return None if channels == 3 else cv2.COLOR_RGBA2RGB
    return cv2.COLOR_BGR2RGB if channels == 3 else cv2.COLOR_BGRA2RGB


def _holds_rgb(message_format: str) -> bool:
    return "compressed rgb" in message_format.partition(";")[2]


def _jpeg_size(payload: memoryview) -> tuple[int, int]:
    """Return (width, height) of the frame header (ITU-T T.81, B.2.2)."""
    position = 2
    while position + 4 <= len(payload):
        if payload[position] != 0xFF:
            break
        marker = payload[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
        elif marker in _JPEG_BARE_MARKERS:
            position += 2
        elif marker in (_JPEG_SCAN, _JPEG_END):
            break
        elif marker in _JPEG_FRAME_MARKERS and position + 9 <= len(payload):
            height, width = struct.unpack_from(">HH", payload, position + 5)
            return width, height
        else:
            position += 2 + struct.unpack_from(">H", payload, position + 2)[0]
    raise BadImage("The JPEG image has no readable header.")


def _jpeg_is_complete(payload: memoryview) -> bool:
    """Tell whether the end marker follows the last scan; scan data cannot hold it (T.81, B.1.1.5: FF is stuffed)."""
    if bytes(payload[-2:]) == b"\xff\xd9":
        return True
    # Some cameras pad the buffer. An end marker before the last scan belongs to an embedded preview.
    content = bytes(payload)
    return content.rfind(b"\xff\xd9") > content.rfind(b"\xff\xda")


def _png_size(payload: memoryview) -> tuple[int, int]:
    """Return (width, height) of the IHDR chunk (PNG specification, 11.2.1)."""
    if len(payload) < 33 or bytes(payload[8:16]) != b"\x00\x00\x00\x0dIHDR":
        raise BadImage("The PNG image has no readable header.")
    return struct.unpack_from(">II", payload, 16)


def _png_is_complete(payload: memoryview) -> bool:
    """Tell whether all chunks up to IEND are there with correct checksums."""
    position = len(_PNG_SIGNATURE)
    while position + 12 <= len(payload):
        (length,) = struct.unpack_from(">I", payload, position)
        end = position + 8 + length
        if end + 4 > len(payload):
            return False
        if zlib.crc32(payload[position + 4 : end]) != struct.unpack_from(">I", payload, end)[0]:
            return False
        if bytes(payload[position + 4 : position + 8]) == b"IEND":
            return True
        position = end + 4
    return False
