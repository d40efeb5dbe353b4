"""Which frames are worked on: rate, privacy switch, newest wins, and an account of every frame."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, replace

from emo_llama_ros.engine.api import MAX_ID_CHARACTERS
from emo_llama_ros.frames import RawFrame
from emo_llama_ros.options import Options
from emo_llama_ros.perception.stamps import CaptureTimes, FrameGate


@dataclass(frozen=True, slots=True)
class FrameAccount:
    """Where all frames went: received = used + skipped + in_flight + the sum of drops."""

    received: int
    used: int
    skipped: int
    in_flight: int
    drops: dict[str, int]
    remarks: tuple[str, ...]
    """Sentences on what is odd about the stream."""
    bad_image: str
    """Why a frame was last refused here, "" when none was."""


class Admission:
    """Lets one frame be in work and one wait. Of several waiting frames the newest stays, the others are counted.

    Every frame is accounted for at any moment, see `FrameAccount`.
    """

    def __init__(self, options: Options) -> None:
        self.enabled = options.enabled
        self._bad_image = ""
        self._times = CaptureTimes()
        self._gate = FrameGate(options)
        self._lock = threading.Lock()
        self._in_work = False
        self._closed = False
        self._waiting: RawFrame | None = None
        self.received = 0
        self.used = 0
        self.skipped = 0
        self.drops: Counter[str] = Counter()

    def admit(self, frame: RawFrame) -> tuple[RawFrame | None, bool]:
        """Take a frame in; return the frame to work on now (None: not yet), and whether the clock has jumped."""
        with self._lock:
            self.received += 1
            if self._closed or not self.enabled:
                self.drops["stopped" if self._closed else "disabled"] += 1
                return None, False
            if max(len(frame.frame_id), len(frame.encoding)) > MAX_ID_CHARACTERS:
                self.drops["bad_image"] += 1
                self._bad_image = f"The frame_id or encoding of an image has more than {MAX_ID_CHARACTERS} characters."
                return None, False
            stamp_ns = self._times.of(frame.stamp_ns, frame.received_ns)
            if stamp_ns != frame.stamp_ns:
                frame = replace(frame, stamp_ns=stamp_ns)
            verdict = self._gate.judge(stamp_ns)
            if verdict == "skipped":
                self.skipped += 1
                return None, self._gate.jumped
            if verdict != "wanted":
                self.drops[verdict] += 1
                return None, self._gate.jumped
            if not self._in_work:
                self._in_work = True
                return frame, self._gate.jumped
            if self._waiting is not None:
                self.drops["busy"] += 1
            self._waiting = frame
            return None, self._gate.jumped

    def done(self, fate: str) -> RawFrame | None:
        """Account for the frame in work ("used" or the reason it was dropped for); return the next one, if any."""
        with self._lock:
            if not self._in_work:  # abandoned in the meantime
                return None
            if fate == "used":
                self.used += 1
            else:
                self.drops[fate] += 1
            frame, self._waiting = self._waiting, None
            self._in_work = frame is not None
            return frame

    def abandon(self, reason: str) -> None:
        """Account for the frame in work and the one that waits as dropped for `reason`."""
        with self._lock:
            self._abandon(reason)

    def enable(self, enabled: bool) -> None:
        """Admit frames or not; a frame that waits is dropped when they are not admitted any more."""
        with self._lock:
            self.enabled = enabled
            if not enabled and self._waiting is not None:
                self._waiting = None
                self.drops["disabled"] += 1

    def close(self) -> None:
        """Account for what is here, and for all that still comes, as dropped because of the stop."""
        with self._lock:
            self._abandon("stopped")
            self._closed = True

    def account(self) -> FrameAccount:
        """Return all counters of one moment."""
        with self._lock:
            in_flight = self._in_work + (self._waiting is not None)
            remarks = tuple(filter(None, (self._times.remark(), self._gate.remark())))
            return FrameAccount(
                self.received, self.used, self.skipped, in_flight, dict(self.drops), remarks, self._bad_image
            )

    def _abandon(self, reason: str) -> None:
        if self._in_work:
            self.drops[reason] += 1 + (self._waiting is not None)
        self._in_work, self._waiting = False, None
