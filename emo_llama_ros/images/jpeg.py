"""The structure of a JPEG file (ITU-T T.81, annex B): its size, its scans, where it ends, and what lies between.

Cameras write stray bytes between segments, fill bytes, no end marker, or rubbish behind it. Decoders accept some of
that, and say so on the terminal for every frame; here such a file is put in order before a decoder sees it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from emo_llama_ros.errors import BadImage

END = b"\xff\xd9"
MAX_SCANS = 64
"""Encoders write 1 to 4 scans, progressive ones 10 to 20."""
MAX_SCANNED_PIXELS = 800e6
"""Pixels times scans. Every scan walks over the whole picture, so a small file with many scans costs minutes."""

_START_OF_IMAGE, _START_OF_SCAN, _END_OF_IMAGE = 0xD8, 0xDA, 0xD9
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0…SOF15; the others are tables
_SEGMENTS = _FRAMES | {0xC4, 0xCC, 0xDA, 0xDB, 0xDC, 0xDD} | frozenset(range(0xE0, 0xF0)) | {0xFE}  # have a length
_RESTARTS = (0xD0, 0xD7)
_MAX_SEGMENTS = 1000
_FIRST_WINDOW, _LARGEST_WINDOW = 1 << 12, 1 << 20


@dataclass(frozen=True, slots=True)
class JpegStructure:
    """What a JPEG file holds. `pieces` are the (start, end) of its own bytes: all but what is stray or behind it."""

    width: int
    height: int
    pieces: tuple[tuple[int, int], ...]
    ended: bool
    """The end marker is there."""
    complete: bool
    """Scans for every component, at full precision, have begun."""


def jpeg_size(payload: memoryview) -> tuple[int, int]:
    """Return (width, height) of the frame header; raise BadImage where there is none."""
    for marker, start, end in _Segments(payload):
        if marker in _FRAMES:
            _, height, width, _ = _frame_header(payload, start, end)
            return width, height
        if marker in (_START_OF_SCAN, _END_OF_IMAGE):
            break
    raise BadImage("The JPEG image has no readable header.")


def read_jpeg(payload: memoryview) -> JpegStructure:
    """Return the structure of a file; raise BadImage when it has no header or no scan, or more scans than allowed."""
    width = height = scans = 0
    components: list[int] = []
    missing_bits = np.zeros((0, 64), np.int8)
    pieces = [(0, 2)]
    ended = False
    segments = _Segments(payload)
    for marker, start, end in segments:
        if marker == _END_OF_IMAGE:
            ended = True
            pieces.append((start, end))
            break
        if marker in _FRAMES and not components:
            _, height, width, components = _frame_header(payload, start, end)
            missing_bits = np.full((len(components), 64), 16, np.int8)
        elif marker == _START_OF_SCAN:
            scans += 1
            if scans > MAX_SCANS or scans * width * height > MAX_SCANNED_PIXELS:
                raise BadImage(f"The JPEG image of {width}×{height} has too many scans: {scans} or more.")
            _note_scan(payload, start, end, components, missing_bits)
            end = segments.skip_scan()
        pieces.append((start, end))
    if not components:
        raise BadImage("The JPEG image has no readable header.")
    if not scans:
        raise BadImage(f"The JPEG image of {width}×{height} is cut off or damaged after {len(payload)} bytes.")
    return JpegStructure(width, height, _joined(pieces), ended, not missing_bits.any())


def tidy(payload: memoryview, structure: JpegStructure) -> memoryview:
    """Return the file without what does not belong to it; a file in good order is not copied."""
    if len(structure.pieces) == 1:
        start, end = structure.pieces[0]
        return payload[start:end]
    return memoryview(b"".join(payload[start:end] for start, end in structure.pieces))


class _Segments:
    """Iterates over (marker, start, end) of the segments behind the start marker, as libjpeg finds them.

    `start` is that of the marker, `end` the first byte behind its segment. Ends where the file does.
    """

    def __init__(self, payload: memoryview) -> None:
        self._payload = payload
        self._bytes = np.frombuffer(payload, np.uint8)
        self._at = 2
        self._count = 0

    def __iter__(self) -> _Segments:
        return self

    def __next__(self) -> tuple[int, int, int]:
        while True:
            start = _find_marker(self._bytes, self._at, in_scan=False)
            if start is None:
                raise StopIteration
            marker = self._payload[start + 1]
            if marker == _END_OF_IMAGE:
                return marker, start, start + 2
            if marker in _SEGMENTS:
                break
            self._at = start + 2  # a marker without content, or none
            self._seen_one()
        self._seen_one()
        if start + 4 > len(self._payload):
            raise StopIteration
        (length,) = struct.unpack_from(">H", self._payload, start + 2)
        if length < 2 or start + 2 + length > len(self._payload):
            raise StopIteration
        self._at = start + 2 + length
        return marker, start, self._at

    def skip_scan(self) -> int:
        """Go behind the entropy-coded data of the scan whose header came last; return where that is."""
        end = _find_marker(self._bytes, self._at, in_scan=True)
        if end is None:  # the file may have been cut within a marker
            self._at += len(bytes(self._payload[self._at :]).rstrip(b"\xff"))
        else:
            self._at = end
        return self._at

    def _seen_one(self) -> None:
        self._count += 1
        if self._count > _MAX_SEGMENTS:
            raise BadImage(f"The JPEG image has more than {_MAX_SEGMENTS} segments.")


def _find_marker(data: np.ndarray, start: int, in_scan: bool) -> int | None:
    """Return where the next marker begins (FF and a byte that is neither 00 nor FF); in a scan, RSTn is data."""
    window = _FIRST_WINDOW
    while start + 1 < len(data):
        first, second = data[start : start + window], data[start + 1 : start + 1 + window]
        found = (first[: len(second)] == 0xFF) & (second != 0) & (second != 0xFF)
        if in_scan:
            found &= (second < _RESTARTS[0]) | (second > _RESTARTS[1])
        at = int(np.argmax(found))
        if found[at]:
            return start + at
        start += window
        window = min(4 * window, _LARGEST_WINDOW)
    return None


def _frame_header(payload: memoryview, start: int, end: int) -> tuple[int, int, int, list[int]]:
    """Return (bits, height, width, component ids); T.81, B.2.2."""
    if end - start < 10:
        raise BadImage("The JPEG image has no readable header.")
    bits, height, width, count = struct.unpack_from(">BHHB", payload, start + 4)
    ids = [payload[at] for at in range(start + 10, end, 3)][:count]
    if not 1 <= count <= 4 or len(ids) != count:
        raise BadImage("The JPEG image has no readable header.")
    return bits, height, width, ids


def _note_scan(payload: memoryview, start: int, end: int, components: list[int], missing_bits: np.ndarray) -> None:
    """Take over which bits of which coefficients come with a scan; T.81, B.2.3."""
    header = bytes(payload[start + 4 : end])
    count = header[0] if header else 0
    if len(header) != 4 + 2 * count:
        raise BadImage("The JPEG image has a damaged scan header.")
    first, last, approximation = header[-3:]
    for component in header[1 : 1 + 2 * count : 2]:
        if component in components:
            missing_bits[components.index(component), first : last + 1] = approximation & 0x0F


def _joined(pieces: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    joined = pieces[:1]
    for start, end in pieces[1:]:
        if start == joined[-1][1]:
            joined[-1] = joined[-1][0], end
        else:
            joined.append((start, end))
    return tuple(joined)
