"""The engine whose model side is two threads of this process."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from emo_llama_ros.backends.backend import Backend, ModelInfo
from emo_llama_ros.engine.api import EngineState, EngineStats, Question
from emo_llama_ros.engine.camera_side import CameraSide
from emo_llama_ros.engine.delivery import corrected
from emo_llama_ros.estimate import Estimate
from emo_llama_ros.frames import RawFrame
from emo_llama_ros.options import Options, check

OnEstimate = Callable[[Estimate], None]


class InProcessEngine:
    """The model side in two threads of this process: for tests, and where a second process is unwanted."""

    def __init__(self, options: Options, on_estimate: OnEstimate, backend: Backend | None = None) -> None:
        # Imported here, because a node whose worker is a process needs none of the networks and libraries behind it.
        from emo_llama_ros.engine.model_side import ModelSide, make_backend

        self._camera_side = CameraSide(options, on_estimate)
        self._delivery, self._admission = self._camera_side.delivery, self._camera_side.admission
        self._side = ModelSide(options, self._delivery, (lambda _: backend) if backend else make_backend)
        self._frames: deque[RawFrame | None] = deque()
        self._arrived = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, name="emo_llama faces", daemon=True)

    def start(self) -> None:
        self._delivery.on_state(EngineState.LOADING, "", None)
        self._side.start()
        self._thread.start()

    def submit(self, frame: RawFrame) -> None:
        now, jumped = self._camera_side.admit(frame)
        if jumped:
            self._side.flush()
        if now is not None:
            self._put(now)

    def ask(
        self,
        question: Question,
        on_estimate: OnEstimate,
        on_text: Callable[[str], None],
        on_refused: Callable[[str], None],
    ) -> None:
        ticket = self._delivery.open_ticket(question, on_estimate, on_text, on_refused)
        if ticket is not None:
            self._side.ask(question, ticket)

    def flush(self) -> None:
        self._delivery.wipe(time.monotonic_ns())
        self._side.flush()

    def set_live_option(self, name: str, value: object) -> None:
        value = check(name, value)
        self._camera_side.set_option(name, value)
        self._side.set_option(name, value)

    def stats(self) -> EngineStats:
        withheld, live = self._delivery.withheld(), self._side.stats()
        return self._camera_side.stats(replace(live, clips=corrected(live.clips, withheld)))

    @property
    def model_info(self) -> ModelInfo | None:
        return self._delivery.info

    def stop(self, timeout_s: float = 1.5) -> None:
        self._put(None)
        if self._thread.is_alive():
            self._thread.join(timeout_s / 2)
        self._side.stop(timeout_s / 2)
        self._camera_side.close()

    def _put(self, frame: RawFrame | None) -> None:
        self._frames.append(frame)
        self._arrived.release()

    def _run(self) -> None:
        while True:
            self._arrived.acquire()
            frame = self._frames.popleft()
            if frame is None:
                return
            self._camera_side.handover.add("receive_to_worker", time.monotonic_ns() - frame.received_ns)
            following = self._admission.done(self._side.observe(frame))
            if following is not None:
                self._put(following)
