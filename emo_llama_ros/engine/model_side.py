"""The model side beside a live camera: frames are seen as they come, the model reads clips in a thread of its own.

The thread that calls `observe` finds and follows faces, so people are not lost while the model is busy. The model
thread takes the newest clips from the scheduler, publishes each label at once, and streams reasoning only while no
label waits. Whether this object lives in the node's process or in a worker process makes no difference to it.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Protocol

from emo_llama_ros.backends.backend import Backend, LabelAnswer, ModelInfo
from emo_llama_ros.backends.registry import make_backend
from emo_llama_ros.engine.answers import announced, explained, label_estimate, nobody_estimate
from emo_llama_ros.engine.api import EngineState, LiveStats, Question, TimedEstimate
from emo_llama_ros.engine.batch_size import BatchSize
from emo_llama_ros.engine.latencies import Latencies
from emo_llama_ros.engine.scheduler import LabelJob, ReasoningJob, Scheduler
from emo_llama_ros.errors import BadImage, EmoError
from emo_llama_ros.estimate import StageTiming, Status
from emo_llama_ros.faces.make import make_analyzer
from emo_llama_ros.frames import SECOND_NS, Frame, RawFrame
from emo_llama_ros.images.converter import Converter, make_converter
from emo_llama_ros.options import Options
from emo_llama_ros.perception.perception import Observation, Perception

logger = logging.getLogger(__name__)

MAX_BATCH = 8
"""People whose clips go through the model at once, at most."""
_NICER = 5
"""Niceness of the model thread, beyond that of the process."""
_IDLE_S = 0.5
_TIMED_OUT = "The question was not answered in time."
_WITHDRAWN = "The camera was switched off before the question was answered."

MakeBackend = Callable[[Options], Backend]


class Sink(Protocol):
    """Where results go. Called from the model thread and from the thread that calls `observe`; must not block."""

    def on_state(self, state: EngineState, message: str, info: ModelInfo | None) -> None:
        """The model is loading, ready, or has failed."""

    def on_estimate(self, timed: TimedEstimate) -> None:
        """An estimate, for everybody or for who asked a question."""

    def on_text(self, piece: str, ticket: object) -> None:
        """A piece of the answer to a question; "" when it is complete."""

    def on_refused(self, sentence: str, ticket: object) -> None:
        """A question cannot be answered."""


class ModelSide:
    """Perception, scheduler and model around one camera."""

    def __init__(self, options: Options, sink: Sink, make_backend: MakeBackend = make_backend) -> None:
        self._options = options
        self._sink = sink
        self._make_backend = make_backend
        self._backend: Backend | None = None
        self._scheduler = Scheduler(options, time.monotonic_ns)
        self._batch = BatchSize(options, MAX_BATCH)
        self._latencies = Latencies()
        self._perception: Perception | None = None
        self._seeing = threading.Lock()
        """Held while a frame is looked at until its clips are submitted, so that `flush` comes before or after it."""
        self._last_frame_ns = 0
        self._people = 0
        self._trouble = ""
        self._ended: deque[str] = deque()
        self._alive_ns = 0
        """When the model last showed life at its present work; 0 when it has none."""
        self._seeing_ns = 0
        """Since when a frame is looked at; 0 when none is."""
        self._ready = threading.Event()
        self._converter: Converter | None = None
        self._thread = threading.Thread(target=self._run, name="emo_llama model", daemon=True)

    def start(self) -> None:
        """Load the models behind, then answer."""
        self._thread.start()

    def observe(self, raw: RawFrame) -> str:
        """Look at one frame and return its fate: "used" or the reason why it was dropped."""
        if self._perception is None or self._converter is None:
            return "not_ready"
        with self._seeing:
            self._seeing_ns = time.monotonic_ns()
            try:
                return self._look(self._perception, self._converter, raw)
            finally:
                self._seeing_ns = 0

    def _look(self, perception: Perception, converter: Converter, raw: RawFrame) -> str:
        if not self._options.enabled:
            return "disabled"
        try:
            with self._latencies.measure("decode"):
                frame = converter.decode(raw)
        except BadImage as error:
            self._trouble = str(error)
            return "bad_image"
        try:
            with self._latencies.measure("faces"):
                seen = perception.observe(frame)
        except Exception as error:  # one odd frame must not end the stream
            sentence = f"Looking for faces failed: {error!r}."
            if sentence != self._trouble:
                logger.exception(sentence)
            self._trouble = sentence
            return "faces_failed"
        self._note(frame, seen, raw.received_ns)
        return "used"

    def _note(self, frame: Frame, seen: Observation, arrived_ns: int) -> None:
        self._last_frame_ns = arrived_ns
        self._people = len(seen.people)
        for face_id in seen.ended:
            self._scheduler.forget(face_id)
        if not self._ready.is_set() or self._backend is None:
            return
        self._ended.extend(seen.ended)
        if self._options.on_demand:
            return
        if seen.nobody:
            deadline_ns = arrived_ns + round(self._options.max_age_s * SECOND_NS)
            nobody = nobody_estimate(frame.stamp_ns, frame.frame_id, self._backend.info)
            self._scheduler.count("nobody")
            self._sink.on_estimate(TimedEstimate(nobody, "nobody", arrived_ns, deadline_ns))
        self._scheduler.add_clips(seen.due, arrived_ns)

    def ask(self, question: Question, ticket: object) -> None:
        """Answer a question about a person in view; the answer goes to the sink."""
        refusal = "The model is not ready yet: try again when ~/model_info has been published."
        if self._ready.is_set() and self._perception is not None:
            with self._seeing:
                now = time.monotonic_ns()
                silent_s = (now - self._last_frame_ns) / SECOND_NS
                clip = self._perception.clip_of(question.face_id)
                if clip is None:
                    who = f"with the id '{question.face_id}'" if question.face_id else "in view"
                    refusal = f"There is nobody {who}."
                elif silent_s > max(self._options.camera_timeout_s, self._perception.interval.gap_ns(0) / SECOND_NS):
                    refusal = f"The camera has given no frame for {silent_s:.0f} s, so there is nobody to look at."
                else:
                    self._scheduler.ask(LabelJob(clip, now, question, ticket))
                    return
        self._sink.on_refused(refusal, ticket)

    def flush(self, questions: bool = False) -> None:
        """Forget everybody and everything that waits or is in work; questions only if `questions` is set."""
        with self._seeing:
            ended = self._perception.flush() if self._perception is not None else ()
            tickets = self._scheduler.flush(questions)
            if self._ready.is_set():
                self._ended.extend(ended)
        for ticket in tickets:
            self._sink.on_refused(_WITHDRAWN, ticket)

    def set_option(self, name: str, value: object) -> None:
        """Change a live option."""
        self._options = self._options.with_values({name: value})
        if name == "max_rate_hz":
            self._scheduler.set_max_rate(self._options.max_rate_hz)
        elif name == "enabled" and not value:
            self.flush(questions=True)
        elif name == "on_demand" and value:
            self._scheduler.flush()

    def stats(self) -> LiveStats:
        """Return a snapshot of the counters."""
        since_ns = [ns for ns in (self._alive_ns, self._seeing_ns) if ns]
        return LiveStats(
            clips=self._scheduler.snapshot(),
            people=self._people,
            latency_ms=self._latencies.percentiles_ms(),
            last_bad_image=self._trouble,
            busy_s=(time.monotonic_ns() - min(since_ns)) / 1e9 if since_ns else 0.0,
            converter=f"{self._converter.name}. {self._converter.reason}" if self._converter is not None else "",
            frames_with_faces=self._perception.frames_with_faces if self._perception is not None else 0,
        )

    def stop(self, timeout_s: float) -> bool:
        """End the model thread and free the models; return False when it is still busy after `timeout_s`."""
        self._scheduler.close()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    # --- the model thread ---

    def _run(self) -> None:
        _give_way()
        try:
            self._sink.on_state(EngineState.LOADING, "", None)
            # Here, because cv_bridge's self-test takes a while, and fails where it is broken.
            self._converter = make_converter(self._options)
            self._perception = Perception(self._options, make_analyzer(self._options))
            backend = self._backend = self._make_backend(self._options)
            backend.load()
        except EmoError as error:
            self._sink.on_state(EngineState.FAILED, str(error), None)
            return
        except Exception as error:  # a third-party loader may raise anything; the node must live and say so
            self._sink.on_state(EngineState.FAILED, f"The model could not be loaded: {error!r}.", None)
            return
        self._ready.set()
        self._sink.on_state(EngineState.READY, "", backend.info)
        while not self._scheduler.closed:
            while self._ended:
                backend.forget(self._ended.popleft())
            work = self._scheduler.take(self._batch.now, _IDLE_S)
            with self._busy():
                if isinstance(work, ReasoningJob):
                    self._reason(backend, work)
                elif work:
                    self._label(backend, work)
        backend.close()

    @contextmanager
    def _busy(self) -> Iterator[None]:
        self._alive_ns = time.monotonic_ns()
        try:
            yield
        finally:
            self._alive_ns = 0

    def _label(self, backend: Backend, jobs: list[LabelJob]) -> None:
        if self._scheduler.expired(jobs[0]):  # questions come one at a time
            self._scheduler.settle(jobs[0], False)
            self._sink.on_refused(_TIMED_OUT, jobs[0].ticket)
            return
        started = time.monotonic_ns()
        clips = [job.clip for job in jobs]
        with self._latencies.measure("label"):
            answers = _guarded(lambda: backend.label(clips), len(jobs))
        took = time.monotonic_ns() - started
        self._batch.took(len(jobs), took)
        for job, answer in zip(jobs, answers, strict=True):
            wait = started - job.arrived_ns
            self._latencies.add("wait", wait)
            self._publish_label(backend.info, job, answer, (StageTiming("wait", wait), StageTiming("label", took)))

    def _publish_label(
        self, info: ModelInfo, job: LabelJob, answer: LabelAnswer, timings: tuple[StageTiming, ...]
    ) -> None:
        fate = self._scheduler.settle(job, answer.status is Status.OK)
        asked = job.question is not None
        if fate not in ("labelled", "failed"):
            if asked:
                self._sink.on_refused(_TIMED_OUT, job.ticket)
            return
        estimate = label_estimate(job.clip, answer, info, self._options.min_confidence, timings)
        explain = fate == "labelled" and (
            asked or (self._options.reasoning and self._scheduler.reasoning_due(job.clip.face_id))
        )
        deadline_ns = None if asked else self._scheduler.deadline_ns(job)
        first = announced(estimate) if explain else estimate
        self._sink.on_estimate(TimedEstimate(first, fate, job.arrived_ns, deadline_ns, job.ticket))
        if explain:
            self._scheduler.add_reasoning(ReasoningJob(job, answer, estimate))

    def _reason(self, backend: Backend, job: ReasoningJob) -> None:
        label_job = job.label_job
        question = label_job.question.text if label_job.question else ""
        started = time.monotonic_ns()
        pieces = []
        stopped = False

        def cancelled() -> bool:
            nonlocal stopped
            self._alive_ns = time.monotonic_ns()  # a long answer is no hang
            stopped = stopped or self._scheduler.must_yield(job)
            return stopped

        failure = ""
        try:
            for piece in backend.explain(label_job.clip, job.answer, question, cancelled):
                pieces.append(piece)
                if label_job.ticket is not None:
                    self._sink.on_text(piece, label_job.ticket)
        except Exception as error:
            failure = f"The reasoning failed: {error}."
        fate = "reasoning_cancelled" if stopped else "reasoning_failed" if failure else "reasoned"
        if not self._scheduler.end_reasoning(job, fate) or stopped:
            if label_job.ticket is not None:
                self._sink.on_refused(_TIMED_OUT, label_job.ticket)
            return
        took = time.monotonic_ns() - started
        self._latencies.add("reasoning", took)
        final = explained(job.estimate, failure or "".join(pieces), (StageTiming("reasoning", took),))
        if failure:
            final = replace(final, status=Status.ERROR)
        self._sink.on_estimate(TimedEstimate(final, fate, label_job.arrived_ns, None, label_job.ticket))
        if label_job.ticket is not None:
            self._sink.on_text("", label_job.ticket)


def _give_way() -> None:
    """Let the camera's thread go first where the CPU is short; the threads that a model library starts follow suit."""
    thread = threading.get_native_id()  # niceness belongs to threads on Linux
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, thread, min(19, os.getpriority(os.PRIO_PROCESS, thread) + _NICER))


def _guarded(label: Callable[[], list[LabelAnswer]], count: int) -> list[LabelAnswer]:
    """Return the backend's answers; an exception becomes an ERROR answer for every clip, and the thread lives on."""
    try:
        return label()
    except Exception as error:
        sentence = str(error) if isinstance(error, EmoError) else f"The model failed on this clip: {error!r}."
        return [LabelAnswer((), status=Status.ERROR, message=sentence)] * count
