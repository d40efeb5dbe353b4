"""JPEG, PNG, WebP and TIFF payloads of CompressedImage become RGB pixels.

The header is read before the decoder runs, so a claimed size is refused before memory is taken for it, and an
incomplete file is refused where decoders would fill the rest with grey.
"""

from __future__ import annotations

import io
import struct
import zlib

import cv2
import numpy as np

from emo_llama_ros.errors import BadImage
from emo_llama_ros.frames import RawFrame, RgbImage
from emo_llama_ros.images import jpeg
from emo_llama_ros.images.formats import CompressedFormat, parse_format
from emo_llama_ros.images.headers import PNG, checked_kind
from emo_llama_ros.images.samples import SampleRange, to_rgb

LOST_ROWS = 0.05
"""Share of its rows that a JPEG without end marker may lack: cameras drop the last bytes of each frame."""

_MAX_CHUNKS = 100_000
# Bits of a scan that goes on: whatever a decoder still expects, it finds here. Without FF, so that no marker is in it.
_MORE_BITS = np.random.default_rng(1).integers(0, 255, 4096, np.uint8).tobytes()


def decode_compressed(frame: RawFrame, max_pixels: int, sample_range: SampleRange | None = None) -> RgbImage:
    """Decode the file in a compressed frame: (N,) uint8 → RGB uint8 (H, W, 3).

    The payload says what kind of file it is; `format` says only what the file cannot, see `formats`. A Bayer mosaic is
    turned into colours. EXIF orientation is ignored, because camera calibration and other nodes see the pixels as they
    are stored. Raises BadImage when the file is of another kind, incomplete, damaged where its checksums or markers
    show it, larger than `max_pixels`, or made so that decoding takes far longer than for an image of its size.
    """
    kind, width, height = checked_kind(frame, max_pixels)
    payload = np.ascontiguousarray(frame.data).data
    if kind == "JPEG":
        pixels = _decoded_jpeg(payload)
    elif kind == "PNG" and not _png_is_complete(payload):
        raise _cut_off(kind, width, height, len(payload))
    else:
        pixels = _decoded(payload)
    if pixels is None or pixels.shape[:2] != (height, width):
        raise BadImage(f"The {kind} image of {width}×{height} is damaged.")
    return to_rgb(pixels, _conversion(pixels, kind, parse_format(frame.encoding)), sample_range)


def _decoded(payload: memoryview) -> np.ndarray | None:
    try:
        pixels = cv2.imdecode(np.frombuffer(payload, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:  # newer releases return None instead
        return None
    return None if pixels is None else np.asarray(pixels)


def _decoded_jpeg(payload: memoryview) -> np.ndarray | None:
    structure = jpeg.read_jpeg(payload)
    file = jpeg.tidy(payload, structure)
    if structure.ended:
        return _decoded(file)
    rows = _whole_rows(file) if structure.complete else 0
    if rows < (1 - LOST_ROWS) * structure.height:
        raise _cut_off("JPEG", structure.width, structure.height, len(payload))
    return _decoded(memoryview(b"".join((file, jpeg.END))))


def _whole_rows(file: memoryview) -> int:
    """Return how many rows of a JPEG without end marker are all there.

    Nothing in a file says how long a scan is. Where more bits behind it change the picture, it was still going on.
    Decoded by Pillow, because OpenCV's decoder writes to the terminal about every surplus byte.
    """
    from PIL import Image  # few cameras need it

    plain, more = (b"".join((file, tail, jpeg.END)) for tail in (b"", _MORE_BITS))
    try:
        with (
            Image.open(io.BytesIO(plain), formats=("JPEG",)) as one,
            Image.open(io.BytesIO(more), formats=("JPEG",)) as other,
        ):
            same = np.asarray(one) == np.asarray(other)
    except Exception:  # plugins raise what they like at arbitrary bytes
        return 0
    changed = np.flatnonzero(~same.reshape(len(same), -1).all(axis=1))
    return int(changed[0]) if changed.size else len(same)


def _conversion(pixels: np.ndarray, kind: str, said: CompressedFormat) -> str | None:
    """Return OpenCV's name of the conversion from what the decoder gave to RGB."""
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    if pixels.dtype not in (np.uint8, np.uint16) or channels not in (1, 3, 4):
        raise BadImage(f"The {kind} image has {channels} channels of {pixels.dtype}, which is no picture.")
    if channels == 1:
        return "GRAY2RGB" if said.mosaic is None else said.mosaic
    if said.holds_rgb:
        return None if channels == 3 else "RGBA2RGB"
    return "BGR2RGB" if channels == 3 else "BGRA2RGB"


def _cut_off(kind: str, width: int, height: int, size: int) -> BadImage:
    return BadImage(f"The {kind} image of {width}×{height} is cut off or damaged after {size} bytes.")


def _png_is_complete(payload: memoryview) -> bool:
    """Tell whether all chunks up to IEND are there with correct checksums."""
    position = len(PNG)
    for _ in range(_MAX_CHUNKS):
        if position + 12 > len(payload):
            return False
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
