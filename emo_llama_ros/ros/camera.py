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

from emo_llama_ros.errors import BadImage, BadParameter
from emo_llama_ros.frames import RawFrame
from emo_llama_ros.options import Options
from emo_llama_ros.ros.serialized import compressed_image_view, image_view

try:
    from rclpy.event_handler import SubscriptionEventCallbacks, UnsupportedEventTypeError
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks, UnsupportedEventTypeError

WINDOW_S = 10.0
"""Over how long rates and shares are taken."""
TYPES = {"raw": "sensor_msgs/msg/Image", "compressed": "sensor_msgs/msg/CompressedImage"}
"""The message type of each image_transport."""
_SUFFIX = "/compressed"
_STAMPS_KEPT = 1500
_ANOTHER_CLOCK_NS = 1_000_000_000
_Counts = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class CameraReport:
    """How the camera stream did over the last `WINDOW_S`."""

    topic: str
    transport: str
    reliability: str
    """That of the subscription as it is now: best_effort or reliable."""
    publishers: int
    """Of the type that is read; see `other_types` for the others."""
    received: int
    """Frames received since the subscription was made."""
    lost: int
    """Frames that were published but never arrived, since the subscription was made."""
    damaged: int
    """Messages that are no image at all, since the subscription was made."""
    received_hz: float
    published_hz: float
    lost_percent: float
    damaged_percent: float
    silent_s: float
    """Time since the last frame, or since the subscription was made when there was none."""
    period_s: float
    """Median time between the last few frames; 0 when too few have come."""
    stamp_age_s: float | None
    """Node clock minus stamp of the last frame, at its arrival; None before the first frame."""
    stamps_stand_still: bool
    clock_jumps_percent: float = 0.0
    """Share of the frames that are stamped more than a second before the frame that came before them."""
    incompatible: tuple[str, ...] = ()
    """For each publisher whose QoS does not fit: what it offers and what this node asks for."""
    other_types: tuple[str, ...] = ()
    """Message types that are published on the topic and are not the one that is read."""
    publisher_names: tuple[str, ...] = ()
    follows_sim_time: bool = False
    sim_time_stands: bool = False
    """The node follows /clock, and nothing has come on it."""
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


def camera_topic(node: Node, options: Options) -> str:
    """Return the full name of the topic that the options name, remapped.

    As with image_transport, image_topic names the base topic, and remappings are of that; 'compressed' reads
    <resolved base>/compressed. A name that ends so already is taken as it is. Raises BadParameter for a name that is
    none.
    """
    compressed = options.image_transport == "compressed"
    base = options.image_topic.removesuffix(_SUFFIX) if compressed else options.image_topic
    if base.strip() in ("", "~"):  # "~" is the node's own name, and YAML's word for nothing
        raise BadParameter("image_topic is empty: set it to the camera's topic, as in image_topic:=/camera/image_raw.")
    try:
        return node.resolve_topic_name(base) + (_SUFFIX if compressed else "")
    except Exception as error:  # rclpy has no common class for its name errors
        reason = " ".join(str(error).split(":\n")[0].split())
        raise BadParameter(f"image_topic is {options.image_topic!r}, which is no topic name: {reason}.") from None


class Camera:
    """Subscribes to the camera topic, from construction to `close`."""

    def __init__(self, node: Node, options: Options, on_frame: Callable[[RawFrame], None]) -> None:
        """Subscribe; raise BadParameter when the options name no topic."""
        self._node = node
        self._on_frame = on_frame
        self._transport = options.image_transport
        compressed = options.image_transport == "compressed"
        self._message = CompressedImage if compressed else Image
        self._view = compressed_image_view if compressed else image_view
        self._name = camera_topic(node, options)
        self._asked = options.input_reliability
        self._received = self._lost = self._damaged = self._jumps = 0
        self._last_damage = ""
        self._refused_publishers = 0
        self._stamps: deque[int] = deque(maxlen=_STAMPS_KEPT)
        self._last_ns = time.monotonic_ns()
        self._last_age_ns: int | None = None
        self._arrivals: deque[int] = deque(maxlen=6)
        self._reported_received = 0
        self._history: deque[tuple[float, _Counts]] = deque([(time.monotonic(), (0, 0, 0, 0))])
        self.topic = self._name
        self.reliability = self._wanted_reliability() or "best_effort"
        self._subscription = self._subscribe()
        self.topic = self._subscription.topic_name

    def close(self) -> None:
        """End the subscription; no frame is handed over after this."""
        self._node.destroy_subscription(self._subscription)

    def follow_publishers(self) -> bool:
        """With input_reliability 'auto', subscribe anew where the publishers now offer something else; True if so.

        Call it now and then: the graph tells nobody when a publisher comes or goes.
        """
        wanted = self._wanted_reliability()
        if wanted is None or wanted == self.reliability:
            return False
        self._node.destroy_subscription(self._subscription)
        self.reliability = wanted
        self._refused_publishers = 0
        self._subscription = self._subscribe()
        return True

    def report(self) -> CameraReport:
        """Return the state of the stream; rates and shares are those of the last `WINDOW_S`."""
        now_ns = time.monotonic_ns()
        newest = self._received - self._reported_received
        self._reported_received = self._received
        if not self._counts_losses:
            self._lost += self._lost_by_stamps(newest)
        seconds, (received, lost, damaged, jumps) = self._window()
        stamps = list(self._stamps)[-received:] if received else []
        clock = self._node.get_clock()
        follows = bool(self._node.get_parameter_or("use_sim_time").value)
        publishers = self._publishers()
        fitting = [p for p in publishers if p.topic_type == TYPES[self._transport]]
        return CameraReport(
            topic=self.topic,
            transport=self._transport,
            reliability=self.reliability,
            publishers=len(fitting),
            received=self._received,
            lost=self._lost,
            damaged=self._damaged,
            received_hz=received / seconds,
            published_hz=(received + lost) / seconds,
            lost_percent=100.0 * lost / max(received + lost, 1),
            damaged_percent=100.0 * damaged / max(received, 1),
            silent_s=(now_ns - self._last_ns) / 1e9,
            period_s=self._period_s(),
            stamp_age_s=None if self._last_age_ns is None else self._last_age_ns / 1e9,
            stamps_stand_still=len(stamps) > 1 and len(set(stamps[-max(newest, 2) :])) == 1,
            clock_jumps_percent=100.0 * jumps / max(received, 1) if jumps > 1 else 0.0,
            incompatible=tuple(self._incompatible(fitting)) if self._refused_publishers else (),
            other_types=tuple(sorted({p.topic_type for p in publishers} - {TYPES[self._transport]})),
            publisher_names=tuple(_full_name(p) for p in fitting),
            follows_sim_time=follows,
            sim_time_stands=follows and clock.now().nanoseconds == 0,
            last_damage=self._last_damage,
        )

    def _window(self) -> tuple[float, _Counts]:
        """Return the seconds of the window and what was counted in it: received, lost, damaged, jumps."""
        now, counts = time.monotonic(), (self._received, self._lost, self._damaged, self._jumps)
        self._history.append((now, counts))
        while len(self._history) > 2 and self._history[1][0] <= now - WINDOW_S:
            self._history.popleft()
        since, before = self._history[0]
        received, lost, damaged, jumps = (a - b for a, b in zip(counts, before, strict=True))
        return max(now - since, 1e-3), (received, lost, damaged, jumps)

    def _period_s(self) -> float:
        gaps = sorted(b - a for a, b in pairwise(list(self._arrivals)))
        return gaps[len(gaps) // 2] / 1e9 if gaps else 0.0

    def _subscribe(self) -> Any:
        def create(**events: Any) -> Any:
            return self._node.create_subscription(
                self._message, self._name, self._on_message, camera_qos(self.reliability),
                event_callbacks=SubscriptionEventCallbacks(**events), raw=True,
            )  # fmt: skip

        try:
            subscription = create(incompatible_qos=self._on_incompatible_qos, message_lost=self._on_lost)
            self._counts_losses = True
        except UnsupportedEventTypeError:
            subscription = create()
            self._counts_losses = False
        except Exception as error:  # rclpy has no common class for what the middleware refuses
            words = " ".join(str(error).split())
            raise BadParameter(f"{self._name} cannot be subscribed to as {TYPES[self._transport]}: {words}.") from None
        return subscription

    def _on_message(self, data: bytes) -> None:
        self._last_ns = time.monotonic_ns()
        self._arrivals.append(self._last_ns)
        self._received += 1
        try:
            frame = self._view(data, self._last_ns)
        except BadImage as error:
            self._damaged += 1
            self._last_damage = str(error)
            return
        self._note_stamp(frame.stamp_ns)
        self._on_frame(frame)

    def _note_stamp(self, stamp_ns: int) -> None:
        if self._stamps and stamp_ns < self._stamps[-1] - _ANOTHER_CLOCK_NS:
            self._jumps += 1
        self._stamps.append(stamp_ns)
        self._last_age_ns = self._node.get_clock().now().nanoseconds - stamp_ns

    def _on_lost(self, event: Any) -> None:
        self._lost += event.total_count_change

    def _on_incompatible_qos(self, event: Any) -> None:
        self._refused_publishers = event.total_count

    def _publishers(self) -> list[Any]:
        return list(self._node.get_publishers_info_by_topic(self.topic))

    def _wanted_reliability(self) -> str | None:
        """Return what to ask for now; None when there is no publisher to follow."""
        if self._asked != "auto":
            return self._asked
        offered = [p.qos_profile.reliability for p in self._publishers() if p.topic_type == TYPES[self._transport]]
        if not offered:
            return None
        return "reliable" if all(kind is ReliabilityPolicy.RELIABLE for kind in offered) else "best_effort"

    def _incompatible(self, publishers: list[Any]) -> list[str]:
        if self.reliability != "reliable":
            return []
        return [
            f"{_full_name(publisher)} offers best_effort, this node asks for reliable (input_reliability)"
            for publisher in publishers
            if publisher.qos_profile.reliability is ReliabilityPolicy.BEST_EFFORT
        ]

    def _lost_by_stamps(self, received: int) -> int:
        """Estimate losses from holes in the stamps, for a middleware that does not report them."""
        gaps = sorted(b - a for a, b in pairwise(self._stamps) if b > a)
        if len(gaps) < 10 or not received:
            return 0
        period = gaps[len(gaps) // 10]
        newest = list(self._stamps)[-received - 1 :]
        return sum(round((b - a) / period) - 1 for a, b in pairwise(newest) if b > a)


def image_topics(node: Node) -> dict[str, str]:
    """Return the image topics that somebody else publishes now: name → image_transport that reads it."""
    transports = {kind: transport for transport, kind in TYPES.items()}
    own = node.get_fully_qualified_name() + "/"
    return {
        name: transports[kind]
        for name, kinds in node.get_topic_names_and_types()
        for kind in kinds
        if kind in transports and not name.startswith(own) and node.count_publishers(name)
    }


def how_to_read(topic: str, transport: str) -> str:
    """Return the parameters that read an image topic, as they are typed."""
    base = topic.removesuffix(_SUFFIX) if transport == "compressed" else topic
    return f"image_topic:={base} image_transport:={transport}"


def _full_name(publisher: Any) -> str:
    return f"{publisher.node_namespace.rstrip('/')}/{publisher.node_name}"
