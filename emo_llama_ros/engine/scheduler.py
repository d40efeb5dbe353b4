"""Which clip the model reads next: labels before reasoning, newest wins, fair between people, nothing late.

Holds at most one waiting label clip and one waiting reasoning per person, so nothing can queue without bound. Every
clip has exactly one fate, and at any moment

    due = labelled + failed + late + stale + superseded + unchanged + gone + flushed + waiting + in_work
    reasoning_due = reasoned + reasoning_(failed + cancelled + superseded + stale + gone + flushed + waiting + in_work)
    asked = answered + unanswered + asking

Times are `time.monotonic_ns()`; the caller brings the clock, so the rules can be tested without waiting. One lock
guards everything: any thread may call any method.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from emo_llama_ros.backends.backend import LabelAnswer
from emo_llama_ros.engine.api import Question
from emo_llama_ros.estimate import Estimate
from emo_llama_ros.frames import SECOND_NS
from emo_llama_ros.options import Options
from emo_llama_ros.perception.clips import Clip


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
        self._max_rate_hz = options.max_rate_hz
        self._lock = threading.Condition()
        self._labels: dict[str, LabelJob] = {}
        self._questions: list[LabelJob] = []
        self._answers: list[ReasoningJob] = []
        self._reasoning: dict[str, ReasoningJob] = {}
        # What the model has now, by identity. A job that is not here any more has met its fate in the meantime.
        self._in_work: dict[int, LabelJob] = {}
        self._running: ReasoningJob | None = None
        self._present: set[str] = set()
        self._served_ns: dict[str, int] = {}
        # When a person's last turn to be explained began; a turn that brought nothing is given back.
        self._turn_ns: dict[str, int] = {}
        # When a person was last explained, or else came into view: who has waited longest comes first.
        self._explained_ns: dict[str, int] = {}
        self._looks: dict[str, np.ndarray] = {}
        self._next_label_ns = 0
        self._closed = False
        self.counts: Counter[str] = Counter()

    # --- bringing work ---

    def add_clips(self, clips: Sequence[Clip], arrived_ns: int) -> None:
        """Let clips wait for their label; an older waiting clip of the same person is superseded."""
        with self._lock:
            for clip in clips:
                self.counts["due"] += 1
                self._present.add(clip.face_id)
                self._explained_ns.setdefault(clip.face_id, arrived_ns)
                if self._closed:
                    self.counts["flushed"] += 1
                elif clip.face_id in self._labels:
                    self.counts["superseded"] += 1
                    self._labels[clip.face_id] = LabelJob(clip, arrived_ns)
                elif self._unchanged(clip):
                    self.counts["unchanged"] += 1
                else:
                    self._labels[clip.face_id] = LabelJob(clip, arrived_ns)
            self._lock.notify_all()

    def ask(self, job: LabelJob) -> None:
        """Let a question wait; questions are answered before anything else and never superseded."""
        with self._lock:
            self.counts["asked"] += 1
            if self._closed:
                self.counts["unanswered"] += 1
                return
            self._questions.append(job)
            self._lock.notify_all()

    def add_reasoning(self, job: ReasoningJob) -> None:
        """Let a labelled clip wait for its reasoning; an older one of the same person is superseded."""
        with self._lock:
            face_id = job.label_job.clip.face_id
            if job.label_job.question is not None:
                if not self._closed:
                    self._answers.append(job)
                else:
                    self.counts["unanswered"] += 1
                return
            self.counts["reasoning_due"] += 1
            if self._closed or face_id not in self._present:
                self.counts["reasoning_gone"] += 1
                return
            if face_id in self._reasoning:
                self.counts["reasoning_superseded"] += 1
            self._reasoning[face_id] = job
            self._lock.notify_all()

    def reasoning_due(self, face_id: str) -> bool:
        """Return whether `reasoning_rate_hz` allows another reasoning for this person, and take that turn.

        A reasoning that is preempted, superseded or too old gives its turn back.
        """
        with self._lock:
            now, last = self._clock(), self._turn_ns.get(face_id)
            if face_id not in self._present or (last is not None and now - last < self._reasoning_ns):
                return False
            self._turn_ns[face_id] = now
            return True

    # --- taking work ---

    def take(self, batch: int, timeout_s: float) -> list[LabelJob] | ReasoningJob | None:
        """Return the next work, waiting for it up to `timeout_s`; None when there is none or after `close`.

        Questions come first, then up to `batch` label clips (who waited longest since being served first), then one
        reasoning. What is older than `max_age_s` is dropped here: an old clip is neither labelled nor explained. The
        caller owes each label job a `settle`, and a reasoning an `end_reasoning`.
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
        """Return whether a running reasoning must stop.

        It must when its person is gone, when everything was flushed, and when a question or a label may start now.
        The answer to a question yields to nothing but its own timeout and `flush(questions=True)`.
        """
        with self._lock:
            if self._closed or self._running is not job:
                return True
            if job.label_job.question is not None:
                return self.expired(job.label_job)
            return bool(self._questions) or (bool(self._labels) and self._clock() >= self._next_label_ns)

    def settle(self, job: LabelJob, answered: bool) -> str:
        """Take back a label job and return its fate: "labelled", "failed", or why its label must not be published.

        That is "late" when it is older than `max_age_s` by now, and "flushed" when all clips were dropped meanwhile. A
        question is "labelled" or "failed" too, or "unanswered" when there is no time or no right to answer it now.
        """
        with self._lock:
            if self._in_work.pop(id(job), None) is None:
                return "flushed" if job.question is None else "unanswered"
            if job.question is not None:
                fate = "unanswered" if self.expired(job) else "labelled" if answered else "failed"
                if fate != "labelled":
                    self.counts["answered" if fate == "failed" else fate] += 1
                return fate
            late = self._clock() > self.deadline_ns(job)
            fate = "late" if late else "labelled" if answered else "failed"
            self.counts[fate] += 1
            if fate == "labelled" and self._skip_unchanged > 0 and job.clip.face_id in self._present:
                self._looks[job.clip.face_id] = _look(job.clip)
            return fate

    def end_reasoning(self, job: ReasoningJob, fate: str) -> bool:
        """Take back a reasoning with its fate ("reasoned", "reasoning_failed" or "reasoning_cancelled").

        Return False when it had met another one in the meantime: then nothing of it must be published.
        """
        with self._lock:
            if self._running is not job:
                return False
            self._running = None
            face_id = job.label_job.clip.face_id
            if job.label_job.question is not None:
                fate = "unanswered" if fate == "reasoning_cancelled" else "answered"
            elif fate == "reasoning_cancelled":
                self._turn_ns.pop(face_id, None)
            elif face_id in self._present:
                self._explained_ns[face_id] = self._clock()
            self.counts[fate] += 1
            return True

    def deadline_ns(self, job: LabelJob) -> int:
        """Return when this clip becomes older than `max_age_s`."""
        return job.arrived_ns + self._max_age_ns

    def expired(self, job: LabelJob) -> bool:
        """Return whether this is a question whose timeout is over: nobody waits for the answer any more."""
        question = job.question
        return question is not None and self._clock() - job.arrived_ns > question.timeout_s * SECOND_NS

    def count(self, fate: str) -> None:
        """Count something that is no clip."""
        with self._lock:
            self.counts[fate] += 1

    def snapshot(self) -> dict[str, int]:
        """Return the counters, and what is waiting and in work now."""
        with self._lock:
            asked = [job for job in self._in_work.values() if job.question is not None]
            answering = self._running is not None and self._running.label_job.question is not None
            return {
                **self.counts,
                "waiting": len(self._labels),
                "in_work": len(self._in_work) - len(asked),
                "asking": len(self._questions) + len(asked) + len(self._answers) + answering,
                "reasoning_waiting": len(self._reasoning),
                "reasoning_in_work": int(self._running is not None and not answering),
            }

    # --- changing the rules ---

    def set_max_rate(self, rate_hz: float) -> None:
        """Let `max_rate_hz` be another from now on."""
        with self._lock:
            self._max_rate_hz = rate_hz
            self._next_label_ns = 0
            self._lock.notify_all()

    # --- ending ---

    def forget(self, face_id: str) -> None:
        """Drop what waits for a person who is gone, and let their reasoning stop; a label in work may still come."""
        with self._lock:
            if self._labels.pop(face_id, None):
                self.counts["gone"] += 1
            if self._reasoning.pop(face_id, None):
                self.counts["reasoning_gone"] += 1
            running = self._running
            if running and running.label_job.question is None and running.label_job.clip.face_id == face_id:
                self.counts["reasoning_gone"] += 1
                self._running = None
            self._present.discard(face_id)
            for memory in (self._served_ns, self._turn_ns, self._explained_ns, self._looks):
                memory.pop(face_id, None)

    def flush(self, questions: bool = False) -> list[Any]:
        """Drop everything that waits or is in work, for example when the clock jumped.

        Questions stay unless `questions` is set; the tickets of those that were dropped are returned.
        """
        with self._lock:
            return self._flush(questions)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def close(self) -> None:
        """Drop everything, wake whoever waits in `take` and let it end."""
        with self._lock:
            self._flush(questions=True)
            self._closed = True
            self._lock.notify_all()

    # --- rules; the lock is held ---

    def _flush(self, questions: bool) -> list[Any]:
        dropped = {number: job for number, job in self._in_work.items() if questions or job.question is None}
        for number in dropped:
            del self._in_work[number]
        tickets = [job.ticket for job in dropped.values() if job.question is not None]
        self.counts["flushed"] += len(self._labels) + len(dropped) - len(tickets)
        self.counts["reasoning_flushed"] += len(self._reasoning)
        self._labels.clear()
        self._reasoning.clear()
        running = self._running
        if running is not None and running.label_job.question is None:
            self.counts["reasoning_flushed"] += 1
            self._running = None
        if questions:
            tickets += [job.ticket for job in self._questions]
            tickets += [job.label_job.ticket for job in self._answers]
            if self._running is not None:
                tickets.append(self._running.label_job.ticket)
            self._questions.clear()
            self._answers.clear()
            self._running = None
            self.counts["unanswered"] += len(tickets)
        # Ids are never given twice, so nobody of now will come back.
        for memory in (self._served_ns, self._turn_ns, self._explained_ns, self._looks, self._present):
            memory.clear()
        return tickets

    def _pop(self, batch: int) -> list[LabelJob] | ReasoningJob | None:
        if self._answers:
            self._running = self._answers.pop(0)
            return self._running
        if self._questions:
            return self._hand_out([self._questions.pop(0)])
        now = self._clock()
        for face_id in [f for f, job in self._labels.items() if now > self.deadline_ns(job)]:
            del self._labels[face_id]
            self.counts["stale"] += 1
        for face_id in [f for f, job in self._reasoning.items() if now > self.deadline_ns(job.label_job)]:
            del self._reasoning[face_id]
            self._turn_ns.pop(face_id, None)
            self.counts["reasoning_stale"] += 1
        if self._labels and now >= self._next_label_ns:
            order = sorted(self._labels, key=lambda f: (self._served_ns.get(f, 0), self._labels[f].arrived_ns, f))
            if self._max_rate_hz > 0:
                batch = min(batch, max(1, int(self._max_rate_hz)))  # never more than a second's worth at once
            jobs = [self._labels.pop(face_id) for face_id in order[:batch]]
            for job in jobs:
                self._served_ns[job.clip.face_id] = now
            if self._max_rate_hz > 0:
                self._next_label_ns = now + round(len(jobs) * SECOND_NS / self._max_rate_hz)
            return self._hand_out(jobs)
        if self._reasoning:
            longest = min(self._reasoning, key=lambda f: self._explained_ns.get(f, 0))
            self._running = self._reasoning.pop(longest)
            return self._running
        return None

    def _hand_out(self, jobs: list[LabelJob]) -> list[LabelJob]:
        self._in_work |= {id(job): job for job in jobs}
        return jobs

    def _unchanged(self, clip: Clip) -> bool:
        before = self._looks.get(clip.face_id)
        return before is not None and float(np.abs(_look(clip) - before).mean()) < self._skip_unchanged


def _look(clip: Clip) -> np.ndarray:
    """Return a 28 × 28 thumbnail of the newest face: enough to see it move, and cheap to keep for every person."""
    return clip.faces[-1].crop[::8, ::8].astype(np.float32) / 255
