"""The part of an engine at the camera's side: the door for frames, and the desk where results arrive."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from emo_llama_ros.engine.admission import FrameIntake
from emo_llama_ros.engine.api import EngineStats, LiveStats
from emo_llama_ros.engine.delivery import Desk
from emo_llama_ros.engine.latencies import Latencies
from emo_llama_ros.estimate import Estimate
from emo_llama_ros.frames import RawFrame
from emo_llama_ros.options import Options


class Front:
    """What both engines share."""

    def __init__(self, options: Options, on_estimate: Callable[[Estimate], None]) -> None:
        self.desk = Desk(on_estimate)
        self.intake = FrameIntake(options)
        self.handover = Latencies()

    def offer(self, frame: RawFrame) -> tuple[RawFrame | None, bool]:
        """Take a frame in; return the frame to work on now, and whether the model side must be flushed before."""
        now, jumped = self.intake.offer(frame)
        if jumped:
            self.desk.wipe(frame.received_ns)
        return now, jumped

    def switch(self, enabled: bool) -> None:
        """Turn the privacy switch."""
        self.intake.enable(enabled)
        if not enabled:
            self.desk.wipe(time.monotonic_ns())
            self.desk.refuse_all("The camera was switched off before the question was answered.")

    def close(self) -> None:
        """Account for what is still here, and let nothing more in or out."""
        self.intake.close()
        self.desk.close("The node is stopping.")

    def stats(self, live: LiveStats, **more: Any) -> EngineStats:
        """Return what is counted here and on the model side."""
        frames = self.intake.account()
        return EngineStats(
            state=self.desk.current,
            message=self.desk.message,
            received=frames.received,
            used=frames.used,
            skipped=frames.skipped,
            in_flight=frames.in_flight,
            drops=frames.drops,
            clips=live.clips,
            people=live.people,
            latency_ms={**live.latency_ms, **self.handover.percentiles_ms()},
            last_bad_image=live.last_bad_image,
            converter=live.converter,
            **more,
        )
