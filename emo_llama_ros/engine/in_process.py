"""The two engines: a worker process that may crash, hang or run out of memory alone, or this process.

Both keep at most one frame waiting, the newest, and account for every other.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from emo_llama_ros.backends.backend import Backend, ModelInfo
from emo_llama_ros.engine.api import Engine, EngineState, EngineStats, Question
from emo_llama_ros.engine.camera_side import Front
from emo_llama_ros.engine.delivery import corrected
from emo_llama_ros.engine.worker_engine import WorkerEngine
from emo_llama_ros.estimate import Estimate
from emo_llama_ros.frames import RawFrame
from emo_llama_ros.options import Options, check

OnEstimate = Callable[[Estimate], None]


def make_engine(options: Options, on_estimate: OnEstimate) -> Engine:
    """Return the engine that `options.worker` names, not yet started."""
    return WorkerEngine(options, on_estimate) if options.worker == "process" else InProcessEngine(options, on_estimate)


class InProcessEngine:
    """The model side in two threads of this process: for tests, and where a second process is unwanted."""

    def __init__(self, options: Options, on_estimate: OnEstimate, backend: Backend | None = None) -> None:
        # Imported here, because a node whose worker is a process needs none of the networks and libraries behind it.
        from emo_llama_ros.engine.model_side import LiveModelSide, make_backend

        self._front = Front(options, on_estimate)
        self._desk, self._intake = self._front.desk, self._front.intake
        self._side = LiveModelSide(options, self._desk, (lambda _: backend) if backend else make_backend)
        self._frames: deque[RawFrame | None] = deque()
        self._arrived = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, name="emo_llama faces", daemon=True)

    def start(self) -> None:
        self._desk.state(EngineState.LOADING, "", None)
        self._side.start()
        self._thread.start()

    def submit(self, frame: RawFrame) -> None:
        now, jumped = self._front.offer(frame)
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
        ticket = self._desk.open_ticket(on_estimate, on_text, on_refused)
        if ticket is not None:
            self._side.ask(question, ticket)

    def flush(self) -> None:
        self._desk.wipe(time.monotonic_ns())
        self._side.flush()

    def set_live_option(self, name: str, value: object) -> None:
        value = check(name, value)
        if name == "enabled":
            self._front.switch(bool(value))
        self._side.set_option(name, value)

    def stats(self) -> EngineStats:
        withheld, live = self._desk.withheld(), self._side.stats()
        return self._front.stats(replace(live, clips=corrected(live.clips, withheld)))

    @property
    def model_info(self) -> ModelInfo | None:
        return self._desk.info

    def stop(self, timeout_s: float = 1.5) -> None:
        self._put(None)
        if self._thread.is_alive():
            self._thread.join(timeout_s / 2)
        self._side.stop(timeout_s / 2)
        self._front.close()

    def _put(self, frame: RawFrame | None) -> None:
        self._frames.append(frame)
        self._arrived.release()

    def _run(self) -> None:
        while True:
            self._arrived.acquire()
            frame = self._frames.popleft()
            if frame is None:
                return
            self._front.handover.add("receive_to_worker", time.monotonic_ns() - frame.received_ns)
            following = self._intake.done(self._side.see(frame))
            if following is not None:
                self._put(following)
