"""A camera made of any frames: raw images on a topic, and JPEG ones beneath it, as image_transport offers them."""

from __future__ import annotations

import array
from dataclasses import replace

import numpy as np
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import CompressedImage, Image

from emo_llama_ros.errors import BadImage
from emo_llama_ros.frames import RawFrame
from emo_llama_ros.images.decode import decode
from emo_llama_ros.recordings.media import bgr_frame, jpeg_frame
from emo_llama_ros.ros.conversion import time_message

SUFFIX = "/compressed"
_MEGAPIXELS = 100.0


class CameraPublisher:
    """Publishes frames on TOPIC and TOPIC/compressed, each only while somebody subscribes to it.

    So it serves a node with either image_transport. A frame goes out as it is where it fits, and is decoded or coded
    for the other topic alone.
    """

    def __init__(self, node: Node, topic: str) -> None:
        """Advertise both topics, reliably, so that every subscriber can choose; `topic` is the base topic."""
        self._raw = node.create_publisher(Image, topic, QoSProfile(depth=10))
        self._jpeg = node.create_publisher(CompressedImage, topic + SUFFIX, QoSProfile(depth=10))
        self.topic = self._raw.topic_name
        """The full name of the base topic."""
        self.published = 0
        """Frames that went out to somebody."""
        self.unusable = 0
        """Frames that somebody wanted in another form and that could not be decoded."""

    @property
    def has_listener(self) -> bool:
        """Whether somebody subscribes to the images."""
        return self._raw.get_subscription_count() + self._jpeg.get_subscription_count() > 0

    def publish(self, frame: RawFrame, stamp_ns: int) -> None:
        """Publish a frame, stamped with `stamp_ns`, to whoever subscribes; count it if it cannot be decoded."""
        frame = replace(frame, stamp_ns=stamp_ns)
        raw, jpeg = self._raw.get_subscription_count() > 0, self._jpeg.get_subscription_count() > 0
        try:
            if raw:
                self._raw.publish(_image(_decoded(frame) if frame.compressed else frame))
            if jpeg:
                self._jpeg.publish(_compressed_image(frame if frame.compressed else jpeg_frame(_decoded(frame))))
        except BadImage:
            self.unusable += 1
            return
        self.published += raw or jpeg


def _decoded(frame: RawFrame) -> RawFrame:
    """Return a frame as bgr8 without row padding."""
    if frame.encoding == "bgr8" and frame.step == frame.width * 3 and len(frame.data) == frame.step * frame.height > 0:
        return frame
    rgb = decode(frame, _MEGAPIXELS).rgb
    return bgr_frame(rgb[:, :, ::-1], frame.stamp_ns, frame.frame_id)


def _image(frame: RawFrame) -> Image:
    message = Image(
        height=frame.height, width=frame.width, encoding=frame.encoding, step=frame.step,
        is_bigendian=int(frame.is_bigendian), data=_bytes(frame.data),
    )  # fmt: skip
    message.header.stamp = time_message(frame.stamp_ns)
    message.header.frame_id = frame.frame_id
    return message


def _compressed_image(frame: RawFrame) -> CompressedImage:
    message = CompressedImage(format=frame.encoding, data=_bytes(frame.data))
    message.header.stamp = time_message(frame.stamp_ns)
    message.header.frame_id = frame.frame_id
    return message


def _bytes(data: np.ndarray) -> array.array[int]:
    made = array.array("B")
    made.frombytes(np.ascontiguousarray(data).data)
    return made
