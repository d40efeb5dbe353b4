"""What is judged, and said: a level, its cause, and one sentence with the remedy; each change is logged once."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus

from emo_llama_ros.engine.api import EngineStats

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR


@dataclass(frozen=True, slots=True)
class Verdict:
    """A judgement of one part of the node."""

    level: bytes
    message: str
    cause: str = ""
    """What it is about, without the numbers of the moment: two verdicts of one level and cause are the same news."""


class Announcer:
    """Logs a verdict when it is news: another level or another cause than the last of the same part."""

    def __init__(self, logger: Any) -> None:
        self._logger = logger
        self._last: dict[str, tuple[bytes, str]] = {}

    def tell(self, part: str, verdict: Verdict) -> None:
        """Log `verdict` on the console unless it, or another OK, is what was last told of `part`."""
        level, cause = self._last.get(part, (OK, ""))
        self._last[part] = (verdict.level, verdict.cause)
        if verdict.level == OK:
            if level != OK:
                self._logger.info(f"{part}: fine again: {verdict.message}")
        elif (level, cause) != (verdict.level, verdict.cause):
            text = f"{part}: {verdict.message}"
            # rclpy keeps one severity for each line of code.
            if verdict.level == WARN:
                self._logger.warning(text)
            else:
                self._logger.error(text)

    def told(self, part: str, verdict: Verdict) -> None:
        """Take note that `verdict` has been logged elsewhere."""
        self._last[part] = (verdict.level, verdict.cause)


@dataclass(frozen=True, slots=True)
class Recent:
    """What the engine counted over the last seconds."""

    seconds: float = 0.0
    received: int = 0
    used: int = 0
    drops: Mapping[str, int] = field(default_factory=dict)
    clips: Mapping[str, int] = field(default_factory=dict)
    restarts: int = 0

    @property
    def wanted(self) -> int:
        """Frames that should have been looked at: used, or dropped for a reason that is no wish of the user."""
        return self.used + sum(n for reason, n in self.drops.items() if reason not in ("disabled", "stopped"))

    def share(self, reason: str) -> float:
        """Return the share of `wanted` that was dropped for `reason`."""
        return self.drops.get(reason, 0) / max(self.wanted, 1)


class EngineWindow:
    """Turns the engine's counters, which only grow, into those of the last `seconds`."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._history: deque[tuple[float, EngineStats]] = deque()

    def clear(self) -> None:
        """Forget everything: another engine counts from zero."""
        self._history.clear()

    def add(self, stats: EngineStats, now_s: float) -> Recent:
        """Take in the counters of the moment `now_s` (monotonic) and return what came within the window."""
        if self._history and stats.received < self._history[-1][1].received:
            self.clear()
        if not self._history:
            self._history.append((now_s, EngineStats()))
        self._history.append((now_s, stats))
        while len(self._history) > 2 and self._history[1][0] <= now_s - self._seconds:
            self._history.popleft()
        since, before = self._history[0]
        return Recent(
            now_s - since,
            stats.received - before.received,
            stats.used - before.used,
            _difference(stats.drops, before.drops),
            _difference(stats.clips, before.clips),
            stats.restarts - before.restarts,
        )


def _difference(now: Mapping[str, int], before: Mapping[str, int]) -> dict[str, int]:
    return dict(Counter(dict(now)) - Counter(dict(before)))
