"""Messages on their way to the worker process, which may be slow, stopped or gone."""

from __future__ import annotations

import threading
from collections import deque
from multiprocessing.connection import Connection
from typing import Any

MAX_QUESTIONS = 16
"""Questions that wait to be sent, at most; a worker that has not even taken these is stuck."""


class Outbox:
    """Sends messages in a thread of its own, so that `put` returns at once whatever the worker does.

    What waits is bounded: at most one of each message that replaces its predecessors ("flush", "stop", the value of an
    option), one frame (see `Admission`) and MAX_QUESTIONS questions.
    """

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._waiting: deque[tuple[Any, ...]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="emo_llama to worker", daemon=True)
        self._thread.start()

    def put(self, *message: Any) -> bool:
        """Let a message be sent, its kind first; return False when it will not be."""
        with self._changed:
            if self._closed:
                return False
            if message[0] == "ask":
                if sum(waiting[0] == "ask" for waiting in self._waiting) >= MAX_QUESTIONS:
                    return False
            elif message[0] != "frame":
                replaced = _replaces(message)
                self._waiting = deque(waiting for waiting in self._waiting if _replaces(waiting) != replaced)
            self._waiting.append(message)
            self._changed.notify()
            return True

    def close(self, timeout_s: float) -> None:
        """Send nothing more; wait up to `timeout_s` for the message that is being sent."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                message = self._waiting.popleft()
            try:
                self._pipe.send(message)
            except (OSError, ValueError):  # the worker is gone, or the pipe was closed; the watch notices
                with self._changed:
                    self._closed = True
                return


def _replaces(message: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return what a message is the newest word about. Both values of a switch count, for off wipes what was seen."""
    kind, *content = message
    if kind == "option":
        name, value = content
        return (kind, name, value) if isinstance(value, bool) else (kind, name)
    return (kind, id(message)) if kind in ("ask", "frame") else (kind,)
