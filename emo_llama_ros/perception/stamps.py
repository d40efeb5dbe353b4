"""When frames were captured: how often they come, and what to do where a camera's stamps tell nothing."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from statistics import median_low

from emo_llama_ros.frames import SECOND_NS
from emo_llama_ros.options import Options

GAP_INTERVALS = 2.5
"""A gap of so many usual intervals is still none: one frame in a row may be lost."""
_SLOWEST_NS = 120 * SECOND_NS
"""No camera is believed to be slower than this: a longer step is a gap, or a clock that was set."""
_DELTAS, _OUTCOMES = 5, 30
_ALIKE, _STANDS_STILL_NS = 3, SECOND_NS
"""Equal stamps on so many frames after the first, and for so long, are no duplicates of a frame any more."""


class FrameInterval:
    """The usual time between the frames of a stream: the median of the last few steps forward."""

    def __init__(self) -> None:
        self._deltas: deque[int] = deque(maxlen=_DELTAS)
        self._last_ns: int | None = None
        self._went_back = False
        self.ns = 0
        """Nanoseconds; 0 before the second frame."""

    def add(self, stamp_ns: int) -> None:
        """Learn from the next stamp; a step back is no interval, nor is the step that follows it."""
        step_ns = 0 if self._last_ns is None else stamp_ns - self._last_ns
        if 0 < step_ns <= _SLOWEST_NS and not self._went_back:
            self._deltas.append(step_ns)
            self.ns = median_low(self._deltas)
        self._went_back = step_ns < 0
        self._last_ns = stamp_ns

    def gap_ns(self, max_gap_ns: int) -> int:
        """Return the longest gap that interrupts nothing: `max_gap_s`, or more where the camera is slow."""
        return max(max_gap_ns, round(GAP_INTERVALS * self.ns))


class CaptureTimes:
    """Gives every frame its capture time: the camera's stamp, or the time of arrival where stamps stand still.

    A driver that stamps all frames alike, or not at all (stamp 0), would otherwise have its frames taken for one and
    the same. A frame that comes twice is dropped by its stamp all the same.
    """

    def __init__(self, now: Callable[[], int] = time.time_ns) -> None:
        """Make one; `now` is the clock, in nanoseconds, for frames that were never stamped."""
        self._now = now
        self._stamp_ns: int | None = None
        self._alike = 0
        self._since_ns = 0
        self._base_ns = 0
        self.standing_still = False
        """Whether the last frame was timed by its arrival."""

    def of(self, stamp_ns: int, received_ns: int) -> int:
        """Return the capture time of a frame with this stamp and this arrival (any steady clock; 0 is unknown)."""
        if stamp_ns != self._stamp_ns:
            self._stamp_ns, self._alike, self._since_ns = stamp_ns, 0, received_ns
            self.standing_still = False
            return stamp_ns
        self._alike += 1
        if not received_ns:
            return stamp_ns
        if not self.standing_still:
            if not self._stands_still(stamp_ns, received_ns):
                return stamp_ns
            self.standing_still = True
            self._base_ns = stamp_ns or self._now() - (received_ns - self._since_ns)
        return self._base_ns + received_ns - self._since_ns

    def remark(self) -> str:
        """Return one sentence when frames are timed by their arrival now, else ""."""
        if not self.standing_still:
            return ""
        return (
            "The camera gives every frame the same stamp, so frames are timed by their arrival: let the camera driver "
            "stamp each frame with its capture time."
        )

    def _stands_still(self, stamp_ns: int, received_ns: int) -> bool:
        if stamp_ns == 0:
            return received_ns > self._since_ns
        return self._alike >= _ALIKE and received_ns - self._since_ns >= _STANDS_STILL_NS


class StampGrid:
    """Divides time into cells of `period_ns` and tells when a stamp enters a cell later than all before."""

    def __init__(self, period_ns: int) -> None:
        self.period_ns = max(1, period_ns)
        self._cell: int | None = None

    def enters(self, stamp_ns: int) -> bool:
        """Return whether `stamp_ns` lies in a new cell, and remember that cell."""
        if not self.would_enter(stamp_ns):
            return False
        self._cell = stamp_ns // self.period_ns
        return True

    def would_enter(self, stamp_ns: int) -> bool:
        """Return whether `stamp_ns` lies in a new cell."""
        return self._cell is None or stamp_ns // self.period_ns > self._cell

    def reset(self) -> None:
        """Forget the last cell: the next stamp enters one."""
        self._cell = None


class FrameGate:
    """Lets through as many frames as `analysis_rate_hz` (or the clips themselves) ask for, in the order of time.

    A jump in either direction by more than `max_gap_s` tells the caller to flush, because nothing before it belongs
    to what follows. Forward, a camera that always takes its time does not jump: see `FrameInterval.gap_ns`.
    """

    def __init__(self, options: Options) -> None:
        rate_hz = max(options.analysis_rate_hz, options.clip_frames / options.clip_s)
        self._grid = StampGrid(round(SECOND_NS / rate_hz))
        self._max_gap_ns = round(options.max_gap_s * SECOND_NS)
        self._interval = FrameInterval()
        self._last_ns: int | None = None
        self._outcomes: deque[str] = deque(maxlen=_OUTCOMES)
        self._jump_ns = 0
        self.jumped = False
        """Whether the last stamp lay further from the one before than any frame of this camera should."""

    def judge(self, stamp_ns: int) -> str:
        """Return "wanted", "skipped" (more than the rate asks for) or "old_stamp" (it stands still or goes back).

        Sets `jumped`.
        """
        step_ns = 0 if self._last_ns is None else stamp_ns - self._last_ns
        first = self._last_ns is None
        back = step_ns < -self._max_gap_ns
        if not first and step_ns <= 0 and not back:
            self.jumped = False
            self._outcomes.append("old")
            return "old_stamp"
        self._interval.add(stamp_ns)
        self.jumped = back or step_ns > self._interval.gap_ns(self._max_gap_ns)
        self._outcomes.append("back" if back else "forward" if self.jumped else "")
        if self.jumped:
            self._jump_ns = abs(step_ns)
            self._grid.reset()
        self._last_ns = stamp_ns
        return "wanted" if self._grid.enters(stamp_ns) else "skipped"

    def remark(self) -> str:
        """Return one sentence on what is odd about the last few stamps, "" when nothing is."""
        old, back, forward = (self._outcomes.count(kind) for kind in ("old", "back", "forward"))
        if back >= 2 and forward >= 2:
            return (
                f"The stamps jump to and fro by {self._jump_ns / SECOND_NS:.1f} s, and each jump discards what was "
                "seen: let only one camera publish on the topic, and synchronize the clocks."
            )
        if forward > 2:
            return (
                f"The frames come in bursts with gaps of {self._jump_ns / SECOND_NS:.1f} s, and each gap discards what "
                "was seen: raise max_gap_s, or let the camera publish evenly."
            )
        if old > len(self._outcomes) // 2:
            return (
                "Most frames have a stamp that stands still or goes back, and cannot be put in order: let the camera "
                "driver stamp each frame with its capture time."
            )
        return ""
