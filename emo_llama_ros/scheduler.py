"""Which clip the model reads next: labels before reasoning, newest wins, fair between people, nothing late.

Holds at most one waiting label clip and one waiting reasoning per person, so nothing can queue without bound. Every
clip that is not read is counted by the reason. Times are `time.monotonic_ns()`; the caller brings the clock, so the
rules can be tested without waiting. One lock guards everything: any thread may call any method.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from emo_llama_ros.backends.backend import LabelAnswer
from emo_llama_ros.clips import SECOND_NS, Clip
from emo_llama_ros.engine import Question
from emo_llama_ros.estimate import Estimate
from emo_llama_ros.options import Options


@dataclass(frozen=True, slots=True)
class LabelJob:
    """A clip waiting for its label. `arrived_ns` is when its newest frame arrived."""

    clip: Clip
    arrived_ns: int
    question: Question | None = None
    ticket: Any = None
    """Whoever asked `question`; None for a clip that came due by itself."""


@dataclass(frozen=True, slots=True)
class ReasoningJob:
    """A labelled clip waiting for its reasoning."""

    label_job: LabelJob
    answer: LabelAnswer
    estimate: Estimate
    """The clip's estimate, complete but for its reasoning."""


class Scheduler:
    """Keeps the newest clip of every person and hands them out in fair order."""

    def __init__(self, options: Options, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._max_age_ns = round(options.max_age_s * SECOND_NS)
        self._reasoning_ns = round(SECOND_NS / options.reasoning_rate_hz)
        self._skip_unchanged = options.skip_unchanged
        self.max_rate_hz = options.max_rate_hz
        self._lock = threading.Condition()
        self._labels: dict[str, LabelJob] = {}
        self._questions: list[LabelJob] = []
        self._answers: list[ReasoningJob] = []
        self._reasoning: dict[str, ReasoningJob] = {}
        self._served_ns: dict[str, int] = {}
        self._reasoned_ns: dict[str, int] = {}
        self._looks: dict[str, np.ndarray] = {}
        self._next_label_ns = 0
        self._closed = False
        self.counts: Counter[str] = Counter()

    # --- bringing work ---

    def submit(self, clips: Sequence[Clip], arrived_ns: int) -> None:
        """Let clips wait for their label; an older waiting clip of the same person is superseded."""
        with self._lock:
            for clip in clips:
                self.counts["due"] += 1
                if self._unchanged(clip):
                    self.counts["unchanged"] += 1
                    continue
                if clip.face_id in self._labels:
                    self.counts["superseded"] += 1
                self._labels[clip.face_id] = LabelJob(clip, arrived_ns)
            self._lock.notify_all()

    def ask(self, job: LabelJob) -> None:
        """Let a question wait; questions are answered before anything else and never superseded."""
        with self._lock:
            self.counts["asked"] += 1
            self._questions.append(job)
            self._lock.notify_all()

    def submit_reasoning(self, job: ReasoningJob) -> None:
        """Let a labelled clip wait for its reasoning; an older one of the same person is superseded."""
        with self._lock:
            face_id = job.label_job.clip.face_id
            if job.label_job.question is not None:
                self._answers.append(job)
            else:
                if face_id in self._reasoning:
                    self.counts["reasoning_superseded"] += 1
                self._reasoning[face_id] = job
            self._lock.notify_all()

    def reasoning_due(self, face_id: str) -> bool:
        """Return whether `reasoning_rate_hz` allows another reasoning for this person, and take that turn."""
        with self._lock:
            now, last = self._clock(), self._reasoned_ns.get(face_id)
            if last is not None and now - last < self._reasoning_ns:
                return False
            self._reasoned_ns[face_id] = now
            return True

    # --- taking work ---

    def take(self, batch: int, timeout_s: float) -> list[LabelJob] | ReasoningJob | None:
        """Return the next work, waiting for it up to `timeout_s`; None when there is none or after `close`.

        Questions come first, then up to `batch` label clips (who waited longest since being served first), then one
        reasoning. Clips older than `max_age_s` are dropped here.
        """
        deadline = self._clock() + round(timeout_s * SECOND_NS)
        with self._lock:
            while not self._closed:
                work = self._pop(batch)
                if work is not None:
                    return work
                left_ns = deadline - self._clock()
                if left_ns <= 0:
                    return None
                if self._labels:  # held back by max_rate_hz only
                    left_ns = min(left_ns, max(self._next_label_ns - self._clock(), 1_000_000))
                self._lock.wait(left_ns / SECOND_NS)
            return None

    def must_yield(self, job: ReasoningJob) -> bool:
        """Return whether a running reasoning must stop: a label is waiting and may start, or its person is gone."""
        with self._lock:
            if self._closed:
                return True
            if job.label_job.question is not None:
                return False
            return bool(self._questions) or (bool(self._labels) and self._clock() >= self._next_label_ns)

    def too_late(self, arrived_ns: int) -> bool:
        """Return whether a clip whose newest frame arrived then is older than `max_age_s`."""
        return self._clock() - arrived_ns > self._max_age_ns

    def count(self, fate: str) -> None:
        """Count the fate of one clip."""
        with self._lock:
            self.counts[fate] += 1

    def snapshot(self) -> dict[str, int]:
        """Return the counters, and what is waiting now."""
        with self._lock:
            waiting = len(self._labels) + len(self._questions)
            return {**self.counts, "waiting": waiting, "reasoning_waiting": len(self._reasoning)}

    # --- ending ---

    def forget(self, face_id: str) -> None:
        """Drop what waits for a person who is gone."""
        with self._lock:
            if self._labels.pop(face_id, None):
                self.counts["gone"] += 1
            if self._reasoning.pop(face_id, None):
                self.counts["reasoning_gone"] += 1
            for memory in (self._served_ns, self._reasoned_ns, self._looks):
                memory.pop(face_id, None)

    def flush(self) -> None:
        """Drop everything that waits, for example when the clock jumped; questions stay."""
        with self._lock:
            self.counts["flushed"] += len(self._labels)
            self.counts["reasoning_flushed"] += len(self._reasoning)
            self._labels.clear()
            self._reasoning.clear()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def close(self) -> None:
        """Wake whoever waits in `take` and let it end."""
        with self._lock:
            self._closed = True
            self._lock.notify_all()

    # --- rules; the lock is held ---

    def _pop(self, batch: int) -> list[LabelJob] | ReasoningJob | None:
        if self._answers:
            return self._answers.pop(0)
        if self._questions:
            return [self._questions.pop(0)]
        now = self._clock()
        for face_id in [f for f, job in self._labels.items() if now - job.arrived_ns > self._max_age_ns]:
            del self._labels[face_id]
            self.counts["stale"] += 1
        if self._labels and now >= self._next_label_ns:
            order = sorted(self._labels, key=lambda f: (self._served_ns.get(f, 0), self._labels[f].arrived_ns, f))
            jobs = [self._labels.pop(face_id) for face_id in order[:batch]]
            for job in jobs:
                self._served_ns[job.clip.face_id] = now
            if self.max_rate_hz > 0:
                self._next_label_ns = now + round(len(jobs) * SECOND_NS / self.max_rate_hz)
            return jobs
        if self._reasoning and not self._labels:
            oldest = min(self._reasoning, key=lambda f: self._reasoning[f].label_job.arrived_ns)
            return self._reasoning.pop(oldest)
        return None

    def _unchanged(self, clip: Clip) -> bool:
        if self._skip_unchanged <= 0:
            return False
        # A 28 × 28 thumbnail is enough to see a face move, and cheap to keep for every person.
        look = clip.faces[-1].crop[::8, ::8].astype(np.float32) / 255
        before = self._looks.get(clip.face_id)
        if before is not None and float(np.abs(look - before).mean()) < self._skip_unchanged:
            return True
        self._looks[clip.face_id] = look
        return False
