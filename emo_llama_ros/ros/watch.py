"""`emo_llama watch`: what is said on /emotion, as it is said, and why nothing is."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rich.console import Console
from rich.live import Live

from emo_llama_ros.errors import BadParameter
from emo_llama_ros.estimate import Estimate
from emo_llama_ros.msg import EmotionEstimate
from emo_llama_ros.ros.conversion import estimate_of
from emo_llama_ros.ros.emotion_view import EmotionView, line
from emo_llama_ros.ros.process import init_ros
from emo_llama_ros.ros.verdicts import OK

TYPE = "emo_llama_ros/msg/EmotionEstimate"
NOBODY_S = 3.0
"""After so long without a publisher, that is said."""
_FORGET_S = 10.0
_QUIET_S = 5.0
_STALE_S = 3.0
"""Diagnostics come once a second."""
_LOOK_S = 0.25


def watch(
    topic: str,
    over: threading.Event,
    nobody_s: float = NOBODY_S,
    ended: Callable[[], bool] = lambda: False,
    console: Console | None = None,
) -> None:
    """Show the estimates on `topic` until `over` is set or `ended()`; raise BadParameter for a name that is none.

    A terminal shows each person's newest estimate; anything else gets one line per message, and notes on stderr. After
    `nobody_s` seconds without a publisher, that is one of the notes.
    """
    console = console or Console(highlight=False)
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    view = EmotionView(topic, _FORGET_S)
    live = Live(view, console=console, refresh_per_second=8) if console.is_terminal else nullcontext()

    def show(estimate: Estimate) -> None:
        if console.is_terminal:
            view.add(estimate)
        else:
            try:
                print(line(estimate), file=console.file, flush=True)
            except BrokenPipeError:  # `| head` has read enough
                over.set()

    with _listening(topic, nobody_s, show) as listener, live:
        said: set[str] = set()
        while not over.wait(_LOOK_S) and not ended():
            notes = tuple(listener.notes())
            view.notes = notes
            if not console.is_terminal:
                for note in notes:
                    if _without_numbers(note) not in said:
                        errors.print(f"emo_llama watch: {note}", markup=False)
            said = {_without_numbers(note) for note in notes}


def _without_numbers(note: str) -> str:
    """Return what a note is about: the same news with other numbers is not told again."""
    return re.sub(r"[\d.]+", "", note)


class _Listener:
    """Knows who publishes the topic, and what they say about themselves."""

    def __init__(self, node: Node, topic: str, nobody_s: float, show: Callable[[Estimate], None]) -> None:
        self._node = node
        self._topic = topic
        self._nobody_s = nobody_s
        self._show = show
        self._seen_s = self._heard_s = time.monotonic()
        self._troubles: dict[str, tuple[float, str]] = {}
        self._models: dict[str, str] = {}
        self._silences: dict[str, str] = {}
        try:
            node.create_subscription(EmotionEstimate, topic, self._take, QoSProfile(depth=100))
        except Exception as error:  # rclpy has no common class for its name errors
            reason = " ".join(str(error).split(":\n")[0].split())
            raise BadParameter(f"'{topic}' is no topic name: {reason}.") from None
        node.create_subscription(DiagnosticArray, "/diagnostics", self._take_diagnostics, 10)

    def notes(self) -> Iterator[str]:
        """Yield what keeps estimates away now, one sentence each."""
        now = time.monotonic()
        publishers = self._node.get_publishers_info_by_topic(self._topic)
        ours = [p for p in publishers if p.topic_type == TYPE]
        if not ours:
            if now - self._seen_s >= self._nobody_s:
                yield self._nobody({p.topic_type for p in publishers})
            return
        self._seen_s = now
        names = {f"{p.node_namespace.rstrip('/')}/{p.node_name}" for p in ours}
        troubles = [
            f"{status}: {words}"
            for status, (heard_s, words) in sorted(self._troubles.items())
            if now - heard_s < _STALE_S and status.partition(": ")[0] in names
        ]
        yield from troubles
        if not troubles and now - self._heard_s >= _QUIET_S:
            for name in sorted(names):
                why = self._silences.get(name) or self._models.get(name) or "it says nothing on /diagnostics"
                yield f"No estimate of {name} for {now - self._heard_s:.0f} s: {why}"

    def _nobody(self, others: set[str]) -> str:
        if others:
            return f"{self._topic} carries {', '.join(sorted(others))}, not {TYPE}: name another topic with --topic."
        elsewhere = sorted(
            name
            for name, kinds in self._node.get_topic_names_and_types()
            if TYPE in kinds and name != self._topic and self._node.count_publishers(name)
        )
        if elsewhere:
            return f"Nobody publishes {self._topic}, but {', '.join(elsewhere)}: name it with --topic."
        return (
            f"Nobody publishes {self._topic}: start the node with `emo_llama run --webcam 0` or `ros2 launch "
            "emo_llama_ros emo.launch.py`; where it runs already, its ROS_DOMAIN_ID must be the one here "
            f"({os.environ.get('ROS_DOMAIN_ID') or '0'})."
        )

    def _take(self, message: EmotionEstimate) -> None:
        self._heard_s = time.monotonic()
        with suppress(ValueError):  # a status or stage of a later version
            self._show(estimate_of(message))

    def _take_diagnostics(self, message: DiagnosticArray) -> None:
        now = time.monotonic()
        for status in message.status:
            name, _, part = status.name.partition(": ")
            if part == "model":
                self._models[name] = status.message
            if part == "estimates":
                values = {pair.key: pair.value for pair in status.values}
                self._silences[name] = values.get("why there is no estimate", "")
            if status.level == OK:
                self._troubles.pop(status.name, None)
            else:
                self._troubles[status.name] = (now, status.message)


@contextmanager
def _listening(topic: str, nobody_s: float, show: Callable[[Estimate], None]) -> Iterator[_Listener]:
    context = rclpy.Context()
    init_ros(context=context)
    node = rclpy.create_node("emo_llama_watch", context=context, use_global_arguments=False)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)

    def spin() -> None:
        with suppress(ExternalShutdownException):
            executor.spin()

    thread = threading.Thread(target=spin, name="emo_llama watch", daemon=True)
    try:
        listener = _Listener(node, topic, nobody_s, show)
        thread.start()
        yield listener
    finally:
        executor.shutdown(timeout_sec=1.0)
        if thread.is_alive():
            thread.join(1.0)
        node.destroy_node()
        rclpy.try_shutdown(context=context)
