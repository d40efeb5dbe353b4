"""Read camera messages where they lie: a RawFrame that is a view into the serialized message.

Deserializing a sensor_msgs/Image in Python copies every pixel once more, for every frame of the camera, also for those
that are never looked at; and the deserializer of the middleware raises, or ends the process, on bytes that it does not
expect. So the few fields are read here: plain CDR (OMG DDS-XTypes 1.3, 7.4.3), a 4-byte header that names the
encapsulation, then the fields in order, each aligned to its size. Whatever arrives gives a frame or BadImage.
"""

from __future__ import annotations

import struct
from typing import cast

import numpy as np

from emo_llama_ros.errors import BadImage
from emo_llama_ros.frames import RawFrame

LONGEST_TEXT = 256
"""Characters of `frame_id`, `encoding` and `format` that are kept; every estimate repeats the frame_id."""

_BYTE_ORDERS = {
    b"\x00\x00": ">",  # CDR_BE
    b"\x00\x01": "<",  # CDR_LE, what nearly all senders use
    # Version 2 differs in the alignment of 8-byte numbers only, and images have none.
    b"\x00\x06": ">",  # PLAIN_CDR2_BE
    b"\x00\x07": "<",  # PLAIN_CDR2_LE
}
_HEADER = 4
_SECOND = 1_000_000_000
_SECONDS = range(-(2**31), 2**31)  # builtin_interfaces/Time.sec is an int32


class _Cursor:
    """Reads CDR fields in order; alignment counts from the end of the 4-byte header."""

    def __init__(self, data: bytes) -> None:
        order = _BYTE_ORDERS.get(bytes(data[:2])) if len(data) >= _HEADER else None
        if order is None:
            raise BadImage(
                f"The image message is not in plain CDR (its first bytes are {bytes(data[:4]).hex(' ') or 'missing'}); "
                "let the camera's middleware write plain CDR."
            )
        self._data = data
        self._order = order
        self._at = _HEADER

    def number(self, form: str) -> int:
        size = struct.calcsize(form)
        self._at += (_HEADER - self._at) % size
        (value,) = struct.unpack_from(self._order + form, self._data, self._at)
        self._at += size
        return int(value)

    def stamp_ns(self) -> int:
        stamp_ns = self.number("i") * _SECOND + self.number("I")
        if stamp_ns // _SECOND not in _SECONDS:
            raise BadImage("The image's stamp lies beyond the seconds that a ROS time can hold.")
        return stamp_ns

    def text(self) -> str:
        length = self.number("I")
        end = self._at + length
        if length == 0 or end > len(self._data):
            raise struct.error("string longer than the message")
        # No character takes more than 4 bytes, so nothing longer is decoded only to be cut off.
        kept = self._data[self._at : min(end - 1, self._at + 4 * LONGEST_TEXT)]
        self._at = end
        return bytes(kept).decode("utf-8", "replace")[:LONGEST_TEXT]

    def pixels(self) -> np.ndarray:
        length = self.number("I")
        if self._at + length > len(self._data):
            raise struct.error("sequence longer than the message")
        return np.frombuffer(self._data, np.uint8, length, self._at)


def image_view(data: bytes, received_ns: int) -> RawFrame:
    """Return a serialized sensor_msgs/Image as a frame that shares `data`; raise BadImage when it is not one.

    Strings are cut after `LONGEST_TEXT` characters; what is not UTF-8 in them becomes U+FFFD.
    """
    cursor = _Cursor(data)
    try:
        stamp_ns, frame_id = cursor.stamp_ns(), cursor.text()
        height, width = cursor.number("I"), cursor.number("I")
        encoding = cursor.text()
        big_endian, step = cursor.number("B"), cursor.number("I")
        pixels = cursor.pixels()
    except struct.error as error:
        raise BadImage(f"The serialized image message is damaged: {error}.") from None
    return RawFrame(
        stamp_ns, frame_id, pixels, encoding, width, height, step, cast(bool, big_endian), received_ns=received_ns
    )


def compressed_image_view(data: bytes, received_ns: int) -> RawFrame:
    """Return a serialized sensor_msgs/CompressedImage like `image_view` does."""
    cursor = _Cursor(data)
    try:
        stamp_ns, frame_id, encoding = cursor.stamp_ns(), cursor.text(), cursor.text()
        pixels = cursor.pixels()
    except struct.error as error:
        raise BadImage(f"The serialized image message is damaged: {error}.") from None
    return RawFrame(stamp_ns, frame_id, pixels, encoding, compressed=True, received_ns=received_ns)
