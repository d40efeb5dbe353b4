"""The part of an engine at the camera's side: which frames go in, and where results arrive."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from emo_llama_ros.engine.admission import Admission
from emo_llama_ros.engine.api import UNRESPONSIVE_S, EngineState, EngineStats, LiveStats
from emo_llama_ros.engine.delivery import Delivery
from emo_llama_ros.engine.latencies import Latencies
from emo_llama_ros.engine.silence import why_silent
from emo_llama_ros.errors import BadImage
from emo_llama_ros.estimate import Estimate
from emo_llama_ros.frames import RawFrame
from emo_llama_ros.images.headers import check
from emo_llama_ros.options import Options


class CameraSide:
    """What both engines share."""

    def __init__(self, options: Options, on_estimate: Callable[[Estimate], None]) -> None:
        self._options = options
        self.delivery = Delivery(on_estimate)
        self.admission = Admission(options)
        self.handover = Latencies()
        self.last_bad_image = ""
        """Why `is_bad` refused the last frame that it refused, "" when the model side refused a later one."""

    def admit(self, frame: RawFrame) -> tuple[RawFrame | None, bool]:
        """Take a frame in; return the frame to work on now, and whether the model side must be flushed before."""
        now, jumped = self.admission.admit(frame)
        if jumped:
            self.delivery.wipe(frame.received_ns)
        return now, jumped

    def is_bad(self, frame: RawFrame) -> bool:
        """Tell whether the header alone shows that an image is bad, so that its payload need not be copied."""
        try:
            check(frame, self._options.max_image_megapixels)
        except BadImage as error:
            self.last_bad_image = str(error)
            return True
        return False

    def set_option(self, name: str, value: object) -> None:
        """Change a live option; what concerns this side most is the privacy switch."""
        self._options = self._options.with_values({name: value})
        if name != "enabled":
            return
        self.admission.enable(bool(value))
        if not value:
            self.delivery.wipe(time.monotonic_ns())
            self.delivery.refuse_all("The camera was switched off before the question was answered.")

    def close(self) -> None:
        """Account for what is still here, and let nothing more in or out."""
        self.admission.close()
        self.delivery.close("The node is stopping.")

    def stats(self, live: LiveStats, silent_s: float = 0.0, **more: Any) -> EngineStats:
        """Return what is counted here and on the model side, which was last heard of `silent_s` ago."""
        frames = self.admission.account()
        state, message = self.delivery.state, self.delivery.message
        lifeless_s = max(silent_s, live.busy_s)
        if state is EngineState.READY and lifeless_s > UNRESPONSIVE_S:
            state, message = EngineState.UNRESPONSIVE, f"The model has shown no life for {lifeless_s:.0f} s."
        stats = EngineStats(
            state=state,
            message=message,
            received=frames.received,
            used=frames.used,
            skipped=frames.skipped,
            in_flight=frames.in_flight,
            drops=frames.drops,
            clips=live.clips,
            people=live.people,
            latency_ms={**live.latency_ms, **self.handover.percentiles_ms()},
            last_bad_image=self.last_bad_image or live.last_bad_image or frames.bad_image,
            converter=live.converter,
            frames_with_faces=live.frames_with_faces,
            remarks=frames.remarks,
            **more,
        )
        return replace(stats, silence=why_silent(stats, self._options))
