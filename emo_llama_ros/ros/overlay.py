"""~/overlay: the camera image with face boxes and labels, for people who debug. Off by default."""

from __future__ import annotations

import array
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from sensor_msgs.msg import Image

from emo_llama_ros.errors import BadImage
from emo_llama_ros.estimate import Estimate, Status
from emo_llama_ros.frames import RawFrame, RgbImage
from emo_llama_ros.ros.conversion import time_message

_RATE_HZ = 5.0
_WIDTH = 640
_SHOWN_S = 2.0
_GREEN, _GREY = (60, 200, 90), (170, 170, 170)


def draw(rgb: RgbImage, estimates: Sequence[Estimate], width: int = _WIDTH) -> RgbImage:
    """Return a copy of an RGB image, at most `width` pixels wide, with a box and a label for each person."""
    import cv2

    scale = min(1.0, width / rgb.shape[1])
    size = (max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale)))
    canvas = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA) if scale < 1 else rgb.copy()
    for estimate in estimates:
        roi = estimate.roi
        left, top = round(roi.x_offset * scale), round(roi.y_offset * scale)
        right, bottom = round((roi.x_offset + roi.width) * scale), round((roi.y_offset + roi.height) * scale)
        colour = _GREEN if estimate.status is Status.OK else _GREY
        cv2.rectangle(canvas, (left, top), (right, bottom), colour, 2)
        cv2.putText(canvas, caption(estimate), (left, max(12, top - 6)), cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, 1)
    return np.asarray(canvas, np.uint8)


def caption(estimate: Estimate) -> str:
    """Return what stands above a box: label and confidence, and the status when it is not OK."""
    said = f"{estimate.label} {estimate.confidence:.0%}" if estimate.label else ""
    status = "" if estimate.status is Status.OK else estimate.status.name.lower().replace("_", " ")
    return ", ".join(part for part in (said, status) if part)


class Overlay:
    """Publishes the newest frame with what is known of the people in it, while somebody looks and it is switched on.

    Frames are kept only then, and only the newest.
    """

    def __init__(self, node: Node, max_megapixels: float, enabled: bool) -> None:
        self.enabled = enabled
        self._node = node
        self._max_megapixels = max_megapixels
        self._frame: RawFrame | None = None
        self._people: dict[str, tuple[float, Estimate]] = {}
        self._publisher = node.create_publisher(Image, "~/overlay", 1)
        self._timer: Any = node.create_timer(1 / _RATE_HZ, self._publish, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def see(self, frame: RawFrame) -> None:
        """Keep the newest frame while it is wanted."""
        self._frame = frame if self.enabled and self._publisher.get_subscription_count() else None

    def note(self, estimate: Estimate) -> None:
        """Take over what is now known of a person."""
        if self.enabled:
            self._people[estimate.face_id] = (time.monotonic(), estimate)

    def close(self) -> None:
        """Remove the topic from the graph and forget the frame."""
        self._frame = None
        self._node.destroy_timer(self._timer)
        self._node.destroy_publisher(self._publisher)

    def _publish(self) -> None:
        frame, self._frame = self._frame, None
        if frame is None:
            return
        from emo_llama_ros.images.decode import decode

        oldest = time.monotonic() - _SHOWN_S
        self._people = {face_id: seen for face_id, seen in list(self._people.items()) if seen[0] >= oldest}
        try:
            rgb = decode(frame, self._max_megapixels).rgb
        except BadImage:
            return  # the engine has counted it
        picture = draw(rgb, [estimate for _, estimate in self._people.values() if estimate.face_id])
        message = Image(height=picture.shape[0], width=picture.shape[1], encoding="rgb8", step=picture.shape[1] * 3)
        message.header.stamp = time_message(frame.stamp_ns)
        message.header.frame_id = frame.frame_id
        message.data = array.array("B", picture.tobytes())
        self._publisher.publish(message)
