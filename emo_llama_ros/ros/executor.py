"""Spin a node so that nothing that arrives can end it.

rclpy's executors raise whatever a callback raises out of `spin`, and rclpy's own callbacks raise too: for a message
that cannot be deserialized, a parameter of a type that does not exist, or a negative time on /clock. One message from
anybody on the network would end the node.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from rclpy.executors import ShutdownException, SingleThreadedExecutor, TimeoutException
from rclpy.node import Node

_LOG_EVERY_S = 10.0
_KEPT = 1000


class GuardedExecutor(SingleThreadedExecutor):
    """Hands every exception of a callback to `on_error(what, error)` and goes on; `what` names who raised it.

    Only what the executor itself cannot go on from (a middleware that has died) leaves `spin`.
    """

    def __init__(self, on_error: Callable[[str, BaseException], None], **arguments: Any) -> None:
        super().__init__(**arguments)
        self._on_error = on_error

    def spin_once(self, timeout_sec: float | None = None) -> None:
        """Run one callback, like rclpy's, but raise nothing that it raises."""
        try:
            ready: Any = self.wait_for_ready_callbacks(timeout_sec=timeout_sec)  # typed in some distributions only
        except (ShutdownException, TimeoutException):
            return
        handler, entity, _ = ready
        handler()
        error = handler.exception()
        if error is not None:
            self._on_error(_name(entity), error)


class CallbackErrors:
    """Counts what callbacks raised, and logs each kind at most once in 10 s."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._logged: dict[tuple[str, str], float] = {}
        self._times: deque[float] = deque(maxlen=_KEPT)
        self.last = ""
        """One sentence on the newest."""

    def note(self, what: str, error: BaseException) -> None:
        """Take note of one exception; never raises."""
        now = time.monotonic()
        self._times.append(now)
        words = " ".join(str(error).split())[:300]
        self.last = f"{what} was left unanswered or ignored: {type(error).__name__}: {words}"
        kind = what, type(error).__name__
        if now - self._logged.get(kind, -_LOG_EVERY_S) >= _LOG_EVERY_S:
            if len(self._logged) >= _KEPT:
                self._logged.clear()
            self._logged[kind] = now
            self._node.get_logger().error(self.last)

    def within(self, seconds: float) -> int:
        """Return how many there were within the last `seconds`, at most 1000."""
        oldest = time.monotonic() - seconds
        return sum(at >= oldest for at in self._times)


def answer_always(node: Node, errors: CallbackErrors) -> None:
    """Let every service of `node` that exists now send an answer, an empty one, also when its callback raises."""
    for service in node.services:
        service.callback = _answered(service.callback, f"A request to {service.srv_name}", errors)


def _answered(callback: Callable[[Any, Any], Any], what: str, errors: CallbackErrors) -> Callable[[Any, Any], Any]:
    def answer(request: Any, response: Any) -> Any:
        try:
            return callback(request, response)
        except Exception as error:
            errors.note(what, error)
            return type(response)()

    return answer


def _name(entity: Any) -> str:
    with suppress(Exception):  # the topic of a subscription that has been destroyed meanwhile
        for kind, attribute in (("A message on", "topic_name"), ("A request to", "srv_name")):
            if hasattr(entity, attribute):
                return f"{kind} {getattr(entity, attribute)}"
    return f"An event of a {type(entity).__name__}"
