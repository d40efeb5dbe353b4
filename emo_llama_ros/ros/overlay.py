"""~/overlay: the camera image with face boxes, labels and reasons, for people who debug. Off by default."""

from __future__ import annotations

import array
import textwrap
import time
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image

from emo_llama_ros.errors import BadImage
from emo_llama_ros.estimate import Estimate, Status
from emo_llama_ros.frames import RawFrame, RgbImage
from emo_llama_ros.ros.conversion import time_message

_RATE_HZ = 5.0
_WIDTH = 640
_SHOWN_S = 2.0
_REASON_SHOWN_S = 10.0
_JPEG_QUALITY = 85
_FONT, _SMALL = 0.5, 0.42
_PAD = 3
_REASON_LINES = 2
_BLACK, _WHITE, _GREY = (0, 0, 0), (255, 255, 255), (130, 130, 130)
Rgb = tuple[int, int, int]

# Those of the timeline (recordings/timeline.py): Okabe and Ito, "Color Universal Design", 2008. Not imported from
# there, because that module loads matplotlib.
LABEL_COLOURS: dict[str, Rgb] = {
    "happiness": (230, 159, 0),
    "surprise": (240, 228, 66),
    "neutral": (200, 200, 200),
    "sadness": (0, 114, 178),
    "fear": (204, 121, 167),
    "disgust": (0, 158, 115),
    "anger": (213, 94, 0),
    "contempt": (136, 34, 85),
    "anxiety": (86, 180, 233),
    "helplessness": (51, 34, 136),
    "disappointment": (153, 153, 51),
}


def draw(rgb: RgbImage, estimates: Sequence[Estimate], width: int = _WIDTH) -> RgbImage:
    """Return a copy of an RGB image, at most `width` pixels wide, with what is known of each person.

    Each gets a box and a filled caption in the colour of the label, grey while it is not OK; below the box stands the
    reasoning, as far as there is one.
    """
    import cv2

    scale = min(1.0, width / rgb.shape[1])
    size = (max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale)))
    canvas = np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA) if scale < 1 else rgb.copy(), np.uint8)
    for estimate in estimates:
        roi = estimate.roi
        left, top = round(roi.x_offset * scale), round(roi.y_offset * scale)
        right, bottom = round((roi.x_offset + roi.width) * scale), round((roi.y_offset + roi.height) * scale)
        colour = LABEL_COLOURS.get(estimate.label, _GREY) if estimate.status is Status.OK else _GREY
        cv2.rectangle(canvas, (left, top), (right, bottom), colour, 2)
        _write(canvas, caption(estimate), left, top, colour, _FONT, above=True)
        for number, text in enumerate(reason_lines(estimate, size[0])):
            _write(canvas, text, left, bottom + number * 16, colour, _SMALL, above=False)
    return canvas


def caption(estimate: Estimate) -> str:
    """Return what stands above a box: label and confidence, the status when it is not OK, and who it is."""
    said = f"{estimate.label} {estimate.confidence:.0%}" if estimate.label else ""
    status = "" if estimate.status is Status.OK else estimate.status.name.lower().replace("_", " ")
    return ", ".join(part for part in (said, status, estimate.face_id) if part)


def reason_lines(estimate: Estimate, width: int) -> list[str]:
    """Return the reasoning in at most two lines that fit into `width` pixels."""
    return textwrap.wrap(
        " ".join(estimate.reasoning.split()), max(20, width // 9), max_lines=_REASON_LINES, placeholder=" ..."
    )


def _write(canvas: RgbImage, text: str, left: int, edge: int, colour: Rgb, size: float, above: bool) -> None:
    """Write a line of text on a filled bar that touches `edge`, pushed into the picture where it would leave it."""
    import cv2

    # OpenCV's fonts know ASCII only.
    text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    if not text:
        return
    (wide, high), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, 1)
    bar = high + base + _PAD
    left = max(0, min(left, canvas.shape[1] - wide - 2 * _PAD))
    top = max(0, min(edge - bar if above else edge, canvas.shape[0] - bar))
    cv2.rectangle(canvas, (left, top), (left + wide + 2 * _PAD, top + bar), colour, cv2.FILLED)
    dark = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] < 130
    ink = _WHITE if dark else _BLACK
    spot = (left + _PAD, top + high + 1)
    cv2.putText(canvas, text, spot, cv2.FONT_HERSHEY_SIMPLEX, size, ink, 1, cv2.LINE_AA)


class Overlay:
    """Publishes the newest frame with what is known of the people in it, while somebody looks and it is switched on.

    Frames are kept only then, and only the newest; while the privacy switch is off nothing is kept, decoded or sent.
    """

    def __init__(self, node: Node, max_megapixels: float, wanted: bool, allowed: bool = True) -> None:
        """`wanted` is the option overlay, `allowed` the privacy switch (enabled)."""
        self._wanted = wanted
        self._allowed = allowed
        self._node = node
        self._max_megapixels = max_megapixels
        self._frame: RawFrame | None = None
        self._people: dict[str, tuple[float, Estimate]] = {}
        self._reasons: dict[str, tuple[float, str]] = {}
        self._raw = node.create_publisher(Image, "~/overlay", 1)
        self._jpeg = node.create_publisher(CompressedImage, "~/overlay/compressed", 1)
        self._timer: Any = node.create_timer(1 / _RATE_HZ, self._publish, clock=Clock(clock_type=ClockType.STEADY_TIME))

    @property
    def on(self) -> bool:
        """Whether pictures may leave and are wanted."""
        return self._wanted and self._allowed

    def switch(self, wanted: bool | None = None, allowed: bool | None = None) -> None:
        """Change one of the two switches; whatever was kept is forgotten when the overlay is off now."""
        self._wanted = self._wanted if wanted is None else wanted
        self._allowed = self._allowed if allowed is None else allowed
        if not self.on:
            self._forget()

    def keep(self, frame: RawFrame) -> None:
        """Keep the newest frame while it is wanted."""
        self._frame = frame if self.on and self._watched() else None

    def note(self, estimate: Estimate) -> None:
        """Take over what is now known of a person; may be called from any thread."""
        if not self.on:
            return
        now = time.monotonic()
        self._people[estimate.face_id] = (now, estimate)
        if estimate.reasoning:
            self._reasons[estimate.face_id] = (now, estimate.reasoning)

    def close(self) -> None:
        """Remove the topics from the graph and forget the frame."""
        self._wanted = False
        self._forget()
        self._node.destroy_timer(self._timer)
        self._node.destroy_publisher(self._raw)
        self._node.destroy_publisher(self._jpeg)

    def _watched(self) -> bool:
        return bool(self._raw.get_subscription_count() or self._jpeg.get_subscription_count())

    def _forget(self) -> None:
        self._frame = None
        self._people, self._reasons = {}, {}

    def _known(self) -> list[Estimate]:
        """Return the newest estimate of everybody in view, with the last reasoning if it is not too old."""
        now = time.monotonic()
        self._people = {k: seen for k, seen in list(self._people.items()) if seen[0] >= now - _SHOWN_S}
        self._reasons = {k: said for k, said in list(self._reasons.items()) if said[0] >= now - _REASON_SHOWN_S}
        return [
            replace(estimate, reasoning=estimate.reasoning or self._reasons.get(face_id, (0.0, ""))[1])
            for face_id, (_, estimate) in self._people.items()
            if face_id
        ]

    def _publish(self) -> None:
        frame, self._frame = self._frame, None
        if frame is None or not self.on:
            return
        from emo_llama_ros.images.decode import decode

        try:
            rgb = decode(frame, self._max_megapixels).rgb
        except BadImage:
            return  # the engine has counted it
        picture = draw(rgb, self._known())
        if self._raw.get_subscription_count():
            height, width = picture.shape[:2]
            message = Image(height=height, width=width, encoding="rgb8", step=width * 3)
            message.data = array.array("B", picture.tobytes())
            self._send(self._raw, message, frame)
        if self._jpeg.get_subscription_count():
            self._send(self._jpeg, _jpeg(picture), frame)

    @staticmethod
    def _send(publisher: Any, message: Any, frame: RawFrame) -> None:
        message.header.stamp = time_message(frame.stamp_ns)
        message.header.frame_id = frame.frame_id
        publisher.publish(message)


def _jpeg(picture: RgbImage) -> CompressedImage:
    import cv2

    _, coded = cv2.imencode(".jpg", picture[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return CompressedImage(format="jpeg", data=array.array("B", coded.tobytes()))
