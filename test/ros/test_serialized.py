"""Serialized camera messages, read where they lie: the same as the deserializer gives, or BadImage."""

import array
import contextlib
import struct
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emo_llama_ros.errors import BadImage
from emo_llama_ros.frames import RawFrame
from emo_llama_ros.ros.serialized import LONGEST_TEXT, compressed_image_view, image_view

UINT32 = st.integers(0, 2**32 - 1)
TEXT = st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), max_size=20)
CDR = {b"\x00\x00": ">", b"\x00\x01": "<", b"\x00\x06": ">", b"\x00\x07": "<"}
VIEWS = [image_view, compressed_image_view]


def same(one, other):
    return all(
        np.array_equal(one.data, other.data) if f.name == "data" else getattr(one, f.name) == getattr(other, f.name)
        for f in fields(one)
    )


class Writer:
    """Writes CDR fields in either byte order; alignment counts from the end of the header."""

    def __init__(self, encapsulation=b"\x00\x01"):
        self.bytes, self.order = bytearray(encapsulation + b"\x00\x00"), CDR.get(encapsulation, "<")

    def number(self, form, value):
        self.bytes += bytes(-(len(self.bytes) - 4) % struct.calcsize(form)) + struct.pack(self.order + form, value)
        return self

    def text(self, value, length=None):
        value = value.encode() + b"\0"
        self.number("I", len(value) if length is None else length).bytes += value
        return self

    def blob(self, value, length=None):
        self.number("I", len(value) if length is None else length).bytes += value
        return self


def image(frame, encapsulation=b"\x00\x01"):
    written = Writer(encapsulation).number("i", frame.stamp_ns // 10**9).number("I", frame.stamp_ns % 10**9)
    written.text(frame.frame_id).number("I", frame.height).number("I", frame.width).text(frame.encoding)
    return bytes(written.number("B", frame.is_bigendian).number("I", frame.step).blob(frame.data.tobytes()).bytes)


def compressed(frame, encapsulation=b"\x00\x01"):
    written = Writer(encapsulation).number("i", frame.stamp_ns // 10**9).number("I", frame.stamp_ns % 10**9)
    return bytes(written.text(frame.frame_id).text(frame.encoding).blob(frame.data.tobytes()).bytes)


FRAME = RawFrame(-5 * 10**9 + 7, "cam", np.arange(12, dtype=np.uint8), "bgr8", 2, 2, 6, 1, received_ns=3)
JPEG = replace(FRAME, encoding="jpeg", width=0, height=0, step=0, is_bigendian=False, compressed=True)


@settings(max_examples=200, deadline=None)
@given(
    sec=st.integers(-(2**31), 2**31 - 5), nanosec=UINT32, frame_id=TEXT, encoding=TEXT, width=UINT32, height=UINT32,
    step=UINT32, big_endian=st.integers(0, 255), data=st.binary(max_size=50),
)  # fmt: skip
def test_a_view_equals_the_deserialized_image(
    ros, sec, nanosec, frame_id, encoding, width, height, step, big_endian, data
):
    from rclpy.serialization import deserialize_message, serialize_message
    from sensor_msgs.msg import Image

    message = Image(width=width, height=height, step=step, encoding=encoding, is_bigendian=big_endian)
    message.header.stamp.sec, message.header.stamp.nanosec = sec, nanosec
    message.header.frame_id = frame_id
    message.data = array.array("B", data)
    said = deserialize_message(serialize_message(message), Image)
    assert same(
        image_view(serialize_message(message), 3),
        RawFrame(
            said.header.stamp.sec * 10**9 + said.header.stamp.nanosec, said.header.frame_id,
            np.frombuffer(said.data, np.uint8), said.encoding, said.width, said.height, said.step, said.is_bigendian,
            received_ns=3,
        ),
    )  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(frame_id=TEXT, form=TEXT, data=st.binary(max_size=50))
def test_a_view_equals_the_deserialized_compressed_image(ros, frame_id, form, data):
    from rclpy.serialization import deserialize_message, serialize_message
    from sensor_msgs.msg import CompressedImage

    message = CompressedImage(format=form, data=array.array("B", data))
    message.header.frame_id = frame_id
    said = deserialize_message(serialize_message(message), CompressedImage)
    assert same(
        compressed_image_view(serialize_message(message), 3),
        RawFrame(
            0, said.header.frame_id, np.frombuffer(said.data, np.uint8), said.format, compressed=True, received_ns=3
        ),
    )


@pytest.mark.parametrize("encapsulation", CDR, ids=bytes.hex)
def test_plain_cdr_is_read_in_either_byte_order_and_version(encapsulation):
    assert same(image_view(image(FRAME, encapsulation), 3), FRAME)
    assert same(compressed_image_view(compressed(JPEG, encapsulation), 3), JPEG)


@settings(max_examples=300, deadline=None)
@given(encapsulation=st.binary(min_size=2, max_size=2).filter(lambda two: two not in CDR), rest=st.binary(max_size=120))
def test_a_foreign_encapsulation_is_bad_image_that_names_its_first_bytes(encapsulation, rest):
    for view in VIEWS:
        for body in (rest, image(FRAME)[2:]):
            with pytest.raises(BadImage, match=f"not in plain CDR .*{encapsulation.hex(' ')}"):
                view(encapsulation + body, 0)


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x00\x01", b"\x00\x01\x00", b"\x00\x01\x00\x00", b"\x00\x00\x00\x00"])
def test_fewer_bytes_than_a_header_are_bad_image(data):
    for view in VIEWS:
        with pytest.raises(BadImage):
            view(data, 0)


@settings(max_examples=500, deadline=None)
@given(
    encapsulation=st.sampled_from(list(CDR)),
    message=st.sampled_from([(image, FRAME), (compressed, JPEG)]) | st.binary(max_size=120),
    changes=st.lists(st.tuples(st.integers(4, 120), st.integers(0, 255)), max_size=6),
    end=st.integers(0, 120),
)
def test_damaged_bytes_give_bad_image_and_nothing_else(encapsulation, message, changes, end):
    if isinstance(message, tuple):
        write, frame = message
        message = write(frame, encapsulation)[4:]
    data = bytearray(encapsulation + b"\x00\x00" + message)
    for where, value in changes:
        data[where % len(data)] = value
    data = bytes(data[: max(end, 4)])
    for view in VIEWS:
        with contextlib.suppress(BadImage):
            frame = view(data, 0)
            assert frame.data.size <= len(data)
            assert -(2**31) <= frame.stamp_ns // 10**9 < 2**31


@pytest.mark.parametrize("length", [0, 5, 2**16, 2**31, 2**32 - 1])
def test_lying_lengths_are_bad_image(length):
    def header():
        return Writer().number("i", 0).number("I", 0)

    def fields(written):
        return written.number("I", 1).number("I", 1).text("rgb8").number("B", 0).number("I", 3)

    for lie in (
        header().text("cam", length if length != 5 else 500).bytes,
        fields(header().text("cam")).blob(b"\1\2\3", length or 4).bytes,
    ):
        with pytest.raises(BadImage, match="serialized image message is damaged"):
            image_view(bytes(lie), 0)


def test_a_cut_off_message_is_bad_image():
    for view, data in ((image_view, image(FRAME)), (compressed_image_view, compressed(JPEG))):
        for length in range(4, len(data)):
            with pytest.raises(BadImage, match="serialized image message is damaged"):
                view(data[:length], 0)


def test_the_pixels_are_not_copied():
    data = image(FRAME)
    assert np.shares_memory(image_view(data, 0).data, np.frombuffer(data, np.uint8))


@pytest.mark.parametrize("text", ["x" * 1_000_000, "ü" * 400, "\U0001f600" * 400])
def test_a_text_of_any_length_is_cut_to_a_short_one(text):
    assert image_view(image(replace(FRAME, frame_id=text)), 0).frame_id == text[:LONGEST_TEXT]
    assert image_view(image(replace(FRAME, encoding=text)), 0).encoding == text[:LONGEST_TEXT]
    assert compressed_image_view(compressed(replace(JPEG, encoding=text)), 0).encoding == text[:LONGEST_TEXT]


def test_a_frame_id_that_is_not_utf8_is_read_with_replacement_characters():
    data = image(FRAME).replace(b"cam\0", b"c\xe9m\0")
    assert image_view(data, 0).frame_id == "c\ufffdm"


@pytest.mark.parametrize(("sec", "nanosec"), [(2**31 - 1, 10**9), (2**31 - 4, 2**32 - 1)])
def test_a_stamp_that_no_ros_time_can_hold_is_bad_image(sec, nanosec):
    data = bytearray(image(FRAME))
    data[4:12] = struct.pack("<iI", sec, nanosec)
    with pytest.raises(BadImage, match="stamp lies beyond"):
        image_view(bytes(data), 0)
