"""Read camera messages where they lie: a RawFrame that is a view into the serialized message.

Deserializing a sensor_msgs/Image in Python copies every pixel once more, for every frame of the camera, also for those
that are never looked at. Every ROS 2 middleware serializes as CDR (OMG DDS-XTypes 7.4.3, plain CDR version 1: a 4-byte
header, then the fields in order, each aligned to its size), so the few fields before the pixels are read here and the
pixels stay in place. What is not plain little-endian CDR goes through rclpy.
"""

from __future__ import annotations

import struct
from typing import cast

import numpy as np
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CompressedImage, Image

from emo_llama_ros.errors import BadImage
from emo_llama_ros.frames import RawFrame
from emo_llama_ros.ros.conversion import compressed_frame, raw_frame

_LITTLE_ENDIAN_CDR = b"\x00\x01"
_HEADER = 4
_SECOND = 1_000_000_000


class _Cursor:
    """Reads CDR fields in order; alignment counts from the end of the 4-byte header."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = _HEADER

    def number(self, form: str) -> int:
        size = struct.calcsize(form)
        self.at += (_HEADER - self.at) % size
        (value,) = struct.unpack_from("<" + form, self.data, self.at)
        self.at += size
        return int(value)

    def text(self) -> str:
        length = self.number("I")
        end = self.at + length
        if length == 0 or end > len(self.data):
            raise struct.error("string longer than the message")
        text = self.data[self.at : end - 1].decode("utf-8", "replace")
        self.at = end
        return text

    def pixels(self) -> np.ndarray:
        length = self.number("I")
        if self.at + length > len(self.data):
            raise struct.error("sequence longer than the message")
        return np.frombuffer(self.data, np.uint8, length, self.at)


def image_view(data: bytes, received_ns: int) -> RawFrame:
    """Return a serialized sensor_msgs/Image as a frame that shares `data`; raise BadImage when it is not one."""
    if data[:2] != _LITTLE_ENDIAN_CDR:
        return raw_frame(deserialize_message(data, Image), received_ns)
    cursor = _Cursor(data)
    try:
        stamp_ns = cursor.number("i") * _SECOND + cursor.number("I")
        frame_id = cursor.text()
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
    if data[:2] != _LITTLE_ENDIAN_CDR:
        return compressed_frame(deserialize_message(data, CompressedImage), received_ns)
    cursor = _Cursor(data)
    try:
        stamp_ns = cursor.number("i") * _SECOND + cursor.number("I")
        frame_id = cursor.text()
        encoding = cursor.text()
        pixels = cursor.pixels()
    except struct.error as error:
        raise BadImage(f"The serialized image message is damaged: {error}.") from None
    return RawFrame(stamp_ns, frame_id, pixels, encoding, compressed=True, received_ns=received_ns)
