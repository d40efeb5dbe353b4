"""JPEG, PNG, WebP and TIFF payloads of CompressedImage become RGB pixels.

The header is read before the decoder runs, so a claimed size is refused before memory is taken for it, and an
incomplete file is refused where decoders would fill the rest with grey.
"""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np

from emo_llama_ros.errors import BadImage
from emo_llama_ros.frames import RawFrame, RgbImage
from emo_llama_ros.images import jpeg
from emo_llama_ros.images.bounds import check_compressed_bytes, check_size
from emo_llama_ros.images.formats import CompressedFormat, parse_format
from emo_llama_ros.images.layouts import check_payload, depth_refusal, video_refusal
from emo_llama_ros.images.samples import SampleRange, to_rgb

LOST_ROWS = 0.05
"""Share of its rows that a JPEG without end marker may lack: cameras drop the last bytes of each frame."""

_PNG = b"\x89PNG\r\n\x1a\n"
_TIFF = (b"II*\0", b"MM\0*")
_VIDEO = (b"\x00\x00\x00\x01", b"\x00\x00\x01")  # Annex B of H.264 and H.265: start codes between the units
_DEPTH_HEADER = 12  # compressedDepth puts its own header before the PNG
_MAX_CHUNKS = 100_000
_TIFF_SHORT = 3  # field type; all other fields that are read here are LONG
_TIFF_WIDTH, _TIFF_HEIGHT, _TIFF_COMPRESSION, _TIFF_SAMPLES, _TIFF_TILE_WIDTH = 256, 257, 259, 277, 322
_TIFF_COMPRESSIONS = frozenset({1, 5, 8, 32946, 32773})  # none, LZW, Deflate (both numbers), PackBits
# Bits of a scan that goes on: whatever a decoder still expects, it finds here. Without FF, so that no marker is in it.
_MORE_BITS = np.random.default_rng(1).integers(0, 255, 4096, np.uint8).tobytes()


def checked_kind(frame: RawFrame, max_pixels: int) -> tuple[str, int, int]:
    """Return (kind of file, width, height) of a compressed frame by its header; raise BadImage for any other payload.

    Nothing is decoded and nothing copied, so this can come before either.
    """
    check_payload(frame.data)
    said = parse_format(frame.encoding)
    payload = np.ascontiguousarray(frame.data).data
    head = bytes(payload[: _DEPTH_HEADER + len(_PNG)])
    if said.depth or head[_DEPTH_HEADER:] == _PNG:
        raise BadImage(depth_refusal(frame.encoding))
    if head.startswith(b"\xff\xd8\xff"):
        kind, (width, height) = "JPEG", jpeg.jpeg_size(payload)
    elif head.startswith(_PNG):
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
    # Nothing in a file says how long a scan is. When more bits behind it change the picture, it was still going on.
    pixels, more = (_decoded(memoryview(b"".join((file, tail, jpeg.END)))) for tail in (b"", _MORE_BITS))
    if pixels is None or more is None:
        return None
    changed = np.flatnonzero((pixels != more).reshape(structure.height, -1).any(axis=1))
    whole = structure.height - LOST_ROWS * structure.height
    if not structure.complete or (changed.size and changed[0] < whole):
        raise _cut_off("JPEG", structure.width, structure.height, len(payload))
    return pixels


def _conversion(pixels: np.ndarray, kind: str, said: CompressedFormat) -> int | None:
    """Return the OpenCV conversion from what the decoder gave to RGB."""
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    if pixels.dtype not in (np.uint8, np.uint16) or channels not in (1, 3, 4):
        raise BadImage(f"The {kind} image has {channels} channels of {pixels.dtype}, which is no picture.")
    if channels == 1:
        return cv2.COLOR_GRAY2RGB if said.mosaic is None else said.mosaic
    if said.holds_rgb:
        return None if channels == 3 else cv2.COLOR_RGBA2RGB
    return cv2.COLOR_BGR2RGB if channels == 3 else cv2.COLOR_BGRA2RGB


def _cut_off(kind: str, width: int, height: int, size: int) -> BadImage:
    return BadImage(f"The {kind} image of {width}×{height} is cut off or damaged after {size} bytes.")


def _png_size(payload: memoryview) -> tuple[int, int]:
    """Return (width, height) of the IHDR chunk (PNG specification, 11.2.1)."""
    if len(payload) < 33 or bytes(payload[8:16]) != b"\x00\x00\x00\x0dIHDR":
        raise BadImage("The PNG image has no readable header.")
    return struct.unpack_from(">II", payload, 16)


def _png_is_complete(payload: memoryview) -> bool:
    """Tell whether all chunks up to IEND are there with correct checksums."""
    position = len(_PNG)
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
