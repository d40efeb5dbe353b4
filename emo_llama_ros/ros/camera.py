"""The camera subscription: every message becomes a frame at once, and the state of the stream is known."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

from emo_llama_ros.errors import BadImage
from emo_llama_ros.frames import RawFrame
from emo_llama_ros.options import Options
from emo_llama_ros.ros.serialized import compressed_image_view, image_view

try:
    from rclpy.event_handler import SubscriptionEventCallbacks, UnsupportedEventTypeError
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks, UnsupportedEventTypeError

_STAMPS_KEPT = 150


@dataclass(frozen=True, slots=True)
class CameraReport:
    """How the camera stream did since the last report."""

    topic: str
    transport: str
    publishers: int
    received: int
    """Frames received since the subscription was made."""
    lost: int
    """Frames that were published but never arrived, since the subscription was made."""
    damaged: int
    """Messages that are no image at all, since the subscription was made."""
    received_hz: float
    published_hz: float
    lost_percent: float
    silent_s: float
    """Time since the last frame, or since the subscription was made when there was none."""
    stamp_age_s: float | None
    """Node clock minus stamp of the last frame, at its arrival; None before the first frame."""
    stamps_stand_still: bool
    incompatible: tuple[str, ...]
    """For each publisher whose QoS does not fit: what it offers and what this node asks for."""
    last_damage: str = ""
    """One sentence on the last of the `damaged`, "" when there was none."""


def camera_qos(reliability: str) -> QoSProfile:
    """Return the QoS of the camera subscription: 'best_effort' or 'reliable'.

    Best effort keeps one image, the newest. A reliable reader must also have room for images that are still coming in
    pieces: with a depth of one, a large image is thrown away whenever the next one starts. No queue builds up, because
    the callback only hands the image over.
    """
    return QoSProfile(
        depth=1 if reliability == "best_effort" else 10,
        reliability=ReliabilityPolicy[reliability.upper()],
        durability=DurabilityPolicy.VOLATILE,
    )


class Camera:
    """Subscribes to the camera topic, from construction to `close`."""

    def __init__(self, node: Node, options: Options, on_frame: Callable[[RawFrame], None]) -> None:
        self._node = node
        self._on_frame = on_frame
        compressed = options.image_transport == "compressed"
        self._transport = options.image_transport
        self._view = compressed_image_view if compressed else image_view
        self._qos = camera_qos(options.input_reliability)
        self._received = self._lost = self._damaged = 0
        self._last_damage = ""
        self._refused_publishers = 0
        self._stamps: deque[int] = deque(maxlen=_STAMPS_KEPT)
        self._last_ns = self._made_ns = time.monotonic_ns()
        self._last_age_ns: int | None = None
        self._reported = (self._made_ns, 0, 0)
        self._subscription = self._subscribe(
            CompressedImage if compressed else Image, options.image_topic + ("/compressed" if compressed else "")
        )
        self.topic = self._subscription.topic_name

    def close(self) -> None:
        """End the subscription; no frame is handed over after this."""
        self._node.destroy_subscription(self._subscription)

    def report(self) -> CameraReport:
        """Return the state of the stream; rates are means since the last report."""
        now = time.monotonic_ns()
        since, received_before, lost_before = self._reported
        received, lost = self._received - received_before, self._lost - lost_before
        if not self._counts_losses:
            lost = self._lost_by_stamps(received)
            self._lost += lost
        self._reported = (now, self._received, self._lost)
        seconds = max((now - since) / 1e9, 1e-3)
        stamps = list(self._stamps)[-received:] if received else []
        return CameraReport(
            topic=self.topic,
            transport=self._transport,
            publishers=self._node.count_publishers(self.topic),
            received=self._received,
            lost=self._lost,
            damaged=self._damaged,
            received_hz=received / seconds,
            published_hz=(received + lost) / seconds,
            lost_percent=100.0 * lost / max(received + lost, 1),
            silent_s=(now - self._last_ns) / 1e9,
            stamp_age_s=None if self._last_age_ns is None else self._last_age_ns / 1e9,
            stamps_stand_still=len(stamps) > 1 and len(set(stamps)) == 1,
            incompatible=tuple(self._incompatible()) if self._refused_publishers else (),
            last_damage=self._last_damage,
        )

    def _subscribe(self, message: type, topic: str) -> Any:
        def create(**events: Any) -> Any:
            callbacks = SubscriptionEventCallbacks(**events)
            return self._node.create_subscription(
                message, topic, self._on_message, self._qos, event_callbacks=callbacks, raw=True
            )

        try:
            subscription = create(incompatible_qos=self._on_incompatible_qos, message_lost=self._on_lost)
            self._counts_losses = True
        except UnsupportedEventTypeError:
            subscription = create()
            self._counts_losses = False
        return subscription

    def _on_message(self, data: bytes) -> None:
        self._last_ns = time.monotonic_ns()
        self._received += 1
        try:
            frame = self._view(data, self._last_ns)
        except BadImage as error:
            self._damaged += 1
            self._last_damage = str(error)
            return
        self._stamps.append(frame.stamp_ns)
        self._last_age_ns = self._node.get_clock().now().nanoseconds - frame.stamp_ns
        self._on_frame(frame)

    def _on_lost(self, event: Any) -> None:
        self._lost += event.total_count_change

    def _on_incompatible_qos(self, event: Any) -> None:
        self._refused_publishers = event.total_count

    def _incompatible(self) -> list[str]:
        reliable = self._qos.reliability is ReliabilityPolicy.RELIABLE
        return [
            f"{_full_name(publisher)} offers best_effort, this node asks for reliable (input_reliability)"
            for publisher in self._node.get_publishers_info_by_topic(self.topic)
            if reliable and publisher.qos_profile.reliability is ReliabilityPolicy.BEST_EFFORT
        ]

    def _lost_by_stamps(self, received: int) -> int:
        """Estimate losses from holes in the stamps, for a middleware that does not report them."""
        gaps = sorted(b - a for a, b in pairwise(self._stamps) if b > a)
        if len(gaps) < 10 or not received:
            return 0
        period = gaps[len(gaps) // 10]
        newest = list(self._stamps)[-received - 1 :]
        return sum(round((b - a) / period) - 1 for a, b in pairwise(newest) if b > a)


def _full_name(publisher: Any) -> str:
    return f"{publisher.node_namespace.rstrip('/')}/{publisher.node_name}"
