"""The model side beside a live camera: frames are seen as they come, the model reads clips in a thread of its own.

The thread that calls `see` finds and follows faces, so people are not lost while the model is busy. The model thread
takes the newest clips from the scheduler, publishes each label at once, and streams reasoning only while no label
waits. Whether this object lives in the node's process or in a worker process makes no difference to it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol

from emo_llama_ros.answers import announced, explained, label_estimate, nobody_estimate
from emo_llama_ros.backends.backend import Backend, LabelAnswer, ModelInfo
from emo_llama_ros.backends.registry import make_backend
from emo_llama_ros.engine import EngineState, LiveStats, Question
from emo_llama_ros.errors import BadImage, EmoError
from emo_llama_ros.estimate import Estimate, StageTiming, Status
from emo_llama_ros.faces.analyzer import make_analyzer
from emo_llama_ros.frames import RawFrame
from emo_llama_ros.images import make_converter
from emo_llama_ros.latencies import Latencies
from emo_llama_ros.options import Options
from emo_llama_ros.perception import Perception
from emo_llama_ros.scheduler import LabelJob, ReasoningJob, Scheduler

MAX_BATCH = 8
"""People whose clips go through the model at once."""
_IDLE_S = 0.5


class Sink(Protocol):
    """Where results go. Called from the model thread and from the thread that calls `see`; must not block."""

    def state(self, state: EngineState, message: str, info: ModelInfo | None) -> None:
        """The model is loading, ready, or has failed."""

    def estimate(self, estimate: Estimate, ticket: object) -> None:
        """An estimate; `ticket` is that of the question it answers, else None."""

    def text(self, piece: str, ticket: object) -> None:
        """A piece of the answer to a question; "" when it is complete."""

    def refused(self, sentence: str, ticket: object) -> None:
        """A question cannot be answered."""


class LiveModelSide:
    """Perception, scheduler and model around one camera."""

    def __init__(self, options: Options, sink: Sink, backend: Backend | None = None) -> None:
        self._options = options
        self._sink = sink
        self._backend = backend
        self._scheduler = Scheduler(options, time.monotonic_ns)
        self._latencies = Latencies()
        self._perception: Perception | None = None
        self._perception_lock = threading.Lock()
        self._people = 0
        self._last_bad_image = ""
        self._ended: deque[str] = deque()
        self._busy_since_ns = 0
        self._ready = threading.Event()
        self._converter = make_converter(options)
        self._thread = threading.Thread(target=self._run, name="emo_llama model", daemon=True)

    def start(self) -> None:
        """Load the models behind, then answer."""
        self._thread.start()

    def see(self, raw: RawFrame) -> str:
        """Look at one frame and return its fate: "used", "bad_image" or "not_ready"."""
        if self._perception is None:
            return "not_ready"
        try:
            with self._latencies.measure("decode"):
                frame = self._converter.decode(raw)
        except BadImage as error:
            self._last_bad_image = str(error)
            return "bad_image"
        with self._perception_lock, self._latencies.measure("faces"):
            seen = self._perception.see(frame)
        self._people = len(seen.people)
        for face_id in seen.ended:
            self._scheduler.forget(face_id)
        self._ended.extend(seen.ended)
        if not self._ready.is_set() or self._options.on_demand:
            return "used"
        if seen.nobody and self._backend is not None:
            self._scheduler.count("nobody")
            self._sink.estimate(nobody_estimate(frame.stamp_ns, frame.frame_id, self._backend.info), None)
        self._scheduler.submit(seen.due, raw.received_ns)
        return "used"

    def ask(self, question: Question, ticket: object) -> None:
        """Answer a question about a person in view; the answer goes to the sink."""
        if not self._ready.is_set() or self._perception is None:
            self._sink.refused("The model is not ready yet: try again when ~/model_info has been published.", ticket)
            return
        with self._perception_lock:
            clip = self._perception.clip_of(question.face_id)
        if clip is None:
            who = f"with the id '{question.face_id}'" if question.face_id else "in view"
            self._sink.refused(f"There is nobody {who}.", ticket)
            return
        self._scheduler.ask(LabelJob(clip, time.monotonic_ns(), question, ticket))

    def flush(self) -> None:
        """Forget everybody and everything that waits."""
        with self._perception_lock:
            if self._perception is not None:
                self._perception.flush()
        self._scheduler.flush()

    def set_option(self, name: str, value: object) -> None:
        """Change a live option."""
        self._options = self._options.with_values({name: value})
        self._scheduler.max_rate_hz = self._options.max_rate_hz

    def stats(self) -> LiveStats:
        """Return a snapshot of the counters."""
        busy_since = self._busy_since_ns
        return LiveStats(
            clips=self._scheduler.snapshot(),
            people=self._people,
            latency_ms=self._latencies.percentiles_ms(),
            last_bad_image=self._last_bad_image,
            busy_s=(time.monotonic_ns() - busy_since) / 1e9 if busy_since else 0.0,
        )

    def stop(self, timeout_s: float) -> bool:
        """End the model thread and free the models; return False when it is still busy after `timeout_s`."""
        self._scheduler.close()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    # --- the model thread ---

    def _run(self) -> None:
        try:
            self._sink.state(EngineState.LOADING, "", None)
            self._perception = Perception(self._options, make_analyzer(self._options))
            backend = self._backend = self._backend or make_backend(self._options)
            backend.load()
        except EmoError as error:
            self._sink.state(EngineState.FAILED, str(error), None)
            return
        except Exception as error:  # a third-party loader may raise anything; the node must live and say so
            self._sink.state(EngineState.FAILED, f"The model could not be loaded: {error!r}.", None)
            return
        self._ready.set()
        self._sink.state(EngineState.READY, "", backend.info)
        while not self._scheduler.closed:
            while self._ended:
                backend.forget(self._ended.popleft())
            work = self._scheduler.take(MAX_BATCH, _IDLE_S)
            with self._busy():
                if isinstance(work, ReasoningJob):
                    self._reason(backend, work)
                elif work:
                    self._label(backend, work)
        backend.close()

    @contextmanager
    def _busy(self) -> Iterator[None]:
        self._busy_since_ns = time.monotonic_ns()
        try:
            yield
        finally:
            self._busy_since_ns = 0

    def _label(self, backend: Backend, jobs: list[LabelJob]) -> None:
        started = time.monotonic_ns()
        clips = [job.clip for job in jobs]
        with self._latencies.measure("label"):
            answers = _guarded(lambda: backend.label(clips), len(jobs))
        took = time.monotonic_ns() - started
        for job, answer in zip(jobs, answers, strict=True):
            wait = started - job.arrived_ns
            self._latencies.add("wait", wait)
            self._publish_label(backend.info, job, answer, (StageTiming("wait", wait), StageTiming("label", took)))

    def _publish_label(
        self, info: ModelInfo, job: LabelJob, answer: LabelAnswer, timings: tuple[StageTiming, ...]
    ) -> None:
        asked = job.question is not None
        if not asked and self._scheduler.too_late(job.arrived_ns):
            self._scheduler.count("late")
            return
        estimate = label_estimate(job.clip, answer, info, self._options.min_confidence, timings)
        self._scheduler.count("labelled" if answer.status is Status.OK else "failed")
        explain = answer.status is Status.OK and (
            asked or (self._options.reasoning and self._scheduler.reasoning_due(job.clip.face_id))
        )
        if not explain:
            self._sink.estimate(estimate, job.ticket)
            return
        self._sink.estimate(announced(estimate), job.ticket)
        self._scheduler.submit_reasoning(ReasoningJob(job, answer, estimate))

    def _reason(self, backend: Backend, job: ReasoningJob) -> None:
        label_job = job.label_job
        question = label_job.question.text if label_job.question else ""
        started = time.monotonic_ns()
        pieces = []
        stopped = False

        def cancelled() -> bool:
            nonlocal stopped
            stopped = stopped or self._scheduler.must_yield(job)
            return stopped

        try:
            for piece in backend.explain(label_job.clip, job.answer, question, cancelled):
                pieces.append(piece)
                if label_job.ticket is not None:
                    self._sink.text(piece, label_job.ticket)
        except Exception as error:
            self._scheduler.count("reasoning_failed")
            self._finish(job, f"The reasoning failed: {error}.", Status.ERROR, started)
            return
        if stopped:
            self._scheduler.count("reasoning_cancelled")
            return
        self._scheduler.count("reasoned")
        self._finish(job, "".join(pieces), None, started)

    def _finish(self, job: ReasoningJob, text: str, status: Status | None, started_ns: int) -> None:
        took = time.monotonic_ns() - started_ns
        self._latencies.add("reasoning", took)
        estimate = explained(job.estimate, text, (StageTiming("reasoning", took),))
        ticket = job.label_job.ticket
        self._sink.estimate(estimate if status is None else replace(estimate, status=status), ticket)
        if ticket is not None:
            self._sink.text("", ticket)


def _guarded(label: Callable[[], list[LabelAnswer]], count: int) -> list[LabelAnswer]:
    """Return the backend's answers; an exception becomes an ERROR answer for every clip, and the thread lives on."""
    try:
        return label()
    except Exception as error:
        sentence = str(error) if isinstance(error, EmoError) else f"The model failed on this clip: {error!r}."
        return [LabelAnswer((), status=Status.ERROR, message=sentence)] * count
