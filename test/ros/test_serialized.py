import array
import contextlib
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emo_llama_ros.errors import BadImage

pytestmark = pytest.mark.usefixtures("ros")

UINT32 = st.integers(0, 2**32 - 1)
TEXT = st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), max_size=20)


def same(one, other):
    return all(
        np.array_equal(one.data, other.data) if f.name == "data" else getattr(one, f.name) == getattr(other, f.name)
        for f in fields(one)
    )


@settings(max_examples=200, deadline=None)
@given(
    sec=st.integers(-(2**31), 2**31 - 1), nanosec=UINT32, frame_id=TEXT, encoding=TEXT, width=UINT32, height=UINT32,
    step=UINT32, big_endian=st.integers(0, 255), data=st.binary(max_size=50),
)  # fmt: skip
def test_a_view_equals_the_deserialized_image(sec, nanosec, frame_id, encoding, width, height, step, big_endian, data):
    from rclpy.serialization import serialize_message
    from sensor_msgs.msg import Image

    from emo_llama_ros.ros.conversion import raw_frame
    from emo_llama_ros.ros.serialized import image_view

    message = Image(width=width, height=height, step=step, encoding=encoding, is_bigendian=big_endian)
    message.header.stamp.sec, message.header.stamp.nanosec = sec, nanosec
    message.header.frame_id = frame_id
    message.data = array.array("B", data)
    assert same(image_view(serialize_message(message), 3), raw_frame(message, 3))


@settings(max_examples=100, deadline=None)
@given(frame_id=TEXT, form=TEXT, data=st.binary(max_size=50))
def test_a_view_equals_the_deserialized_compressed_image(frame_id, form, data):
    from rclpy.serialization import serialize_message
    from sensor_msgs.msg import CompressedImage

    from emo_llama_ros.ros.conversion import compressed_frame
    from emo_llama_ros.ros.serialized import compressed_image_view

    message = CompressedImage(format=form, data=array.array("B", data))
    message.header.frame_id = frame_id
    assert same(compressed_image_view(serialize_message(message), 3), compressed_frame(message, 3))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=120))
def test_damaged_bytes_give_bad_image_and_nothing_else(data):
    from emo_llama_ros.ros.serialized import compressed_image_view, image_view

    for view in (image_view, compressed_image_view):
        with contextlib.suppress(BadImage):
            assert view(b"\x00\x01\x00\x00" + data, 0).data.size <= len(data)


def test_a_cut_off_message_is_bad_image(ros):
    from rclpy.serialization import serialize_message
    from sensor_msgs.msg import Image

    from emo_llama_ros.ros.serialized import image_view

    serialized = serialize_message(Image(encoding="rgb8", data=array.array("B", bytes(100))))
    for length in range(4, len(serialized) - 3):
        with pytest.raises(BadImage, match="serialized image message is damaged"):
            image_view(serialized[:length], 0)


def test_the_pixels_are_not_copied(ros):
    from rclpy.serialization import serialize_message
    from sensor_msgs.msg import Image

    from emo_llama_ros.ros.serialized import image_view

    serialized = serialize_message(Image(data=array.array("B", bytes(1000))))
    assert np.shares_memory(image_view(serialized, 0).data, np.frombuffer(serialized, np.uint8))
