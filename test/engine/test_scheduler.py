import itertools
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emo_llama_ros.backends.backend import LabelAnswer
from emo_llama_ros.engine.api import Question, unexplained_clips
from emo_llama_ros.engine.scheduler import LabelJob, ReasoningJob, Scheduler
from emo_llama_ros.faces.face import Box, Face
from emo_llama_ros.frames import SECOND_NS
from emo_llama_ros.options import Options
from emo_llama_ros.perception.clips import Clip

STEPS = ["submit", "ask", "take", "settle", "end", "forget", "flush", "wipe", "pass", "close"]


class Clock:
    def __init__(self):
        self.ns = 1_000 * SECOND_NS

    def __call__(self):
        return self.ns

    def pass_s(self, seconds):
        self.ns += round(seconds * SECOND_NS)


@pytest.fixture
def clock():
    return Clock()


def clip(face_id, stamp=0, shade=0):
    face = Face(Box(0, 0, 9, 9), 1.0, np.full((224, 224, 3), shade, np.uint8))
    return Clip(face_id, "camera", (stamp,), (face,))


def reasoning(face_id, clock):
    return ReasoningJob(LabelJob(clip(face_id), clock()), LabelAnswer(()), None)


def take(scheduler, batch=1):
    return scheduler.take(batch, timeout_s=0.0)


def taken(scheduler, batch=1):
    return [job.clip.face_id for job in take(scheduler, batch)]


def labelled(scheduler, batch=1):
    """Take label jobs and bring their labels; return the fates."""
    return [scheduler.settle(job, answered=True) for job in take(scheduler, batch)]


def running(scheduler, job):
    """Submit a reasoning, take it, and return it."""
    scheduler.add_reasoning(job)
    assert take(scheduler) is job
    return job


def met(scheduler, face_id, clock):
    """Let a person come into view and be labelled."""
    scheduler.add_clips([clip(face_id)], clock())
    labelled(scheduler)


def unexplained_reasonings(counts):
    fates = ["failed", "cancelled", "superseded", "stale", "gone", "flushed", "waiting", "in_work"]
    return (
        counts.get("reasoning_due", 0)
        - counts.get("reasoned", 0)
        - sum(counts.get(f"reasoning_{fate}", 0) for fate in fates)
    )


def test_the_newest_clip_of_a_person_wins_and_the_older_is_counted(clock):
    scheduler = Scheduler(Options(), clock)
    scheduler.add_clips([clip("a", stamp=1)], clock())
    scheduler.add_clips([clip("a", stamp=2)], clock())
    (job,) = take(scheduler)
    assert job.clip.stamp_ns == 2
    assert take(scheduler) is None
    assert scheduler.counts["superseded"] == 1


def test_a_busy_person_does_not_starve_the_others(clock):
    scheduler = Scheduler(Options(max_age_s=100.0), clock)
    order = []
    for _ in range(6):
        scheduler.add_clips([clip(f) for f in ("a", "b", "c")], clock())
        order += taken(scheduler)
        clock.pass_s(0.1)
    assert sorted(order) == ["a", "a", "b", "b", "c", "c"]
    assert sorted(order[:3]) == ["a", "b", "c"]


def test_several_people_are_taken_as_one_batch(clock):
    scheduler = Scheduler(Options(), clock)
    scheduler.add_clips([clip(f) for f in "abcde"], clock())
    assert taken(scheduler, batch=3) == ["a", "b", "c"]
    assert taken(scheduler, batch=3) == ["d", "e"]


def test_a_clip_older_than_max_age_is_dropped_and_counted(clock):
    scheduler = Scheduler(Options(max_age_s=1.0), clock)
    scheduler.add_clips([clip("a")], clock())
    clock.pass_s(1.1)
    assert take(scheduler) is None
    assert scheduler.counts["stale"] == 1


def test_a_label_that_took_too_long_is_late(clock):
    scheduler = Scheduler(Options(max_age_s=1.0), clock)
    for seconds in (0.9, 1.1):
        scheduler.add_clips([clip("a")], clock())
        (job,) = take(scheduler)
        clock.pass_s(seconds)
        scheduler.settle(job, answered=True)
    assert (scheduler.counts["labelled"], scheduler.counts["late"]) == (1, 1)


def test_labels_go_before_reasoning(clock):
    scheduler = Scheduler(Options(), clock)
    met(scheduler, "a", clock)
    scheduler.add_reasoning(reasoning("a", clock))
    scheduler.add_clips([clip("b")], clock())
    assert taken(scheduler) == ["b"]
    assert isinstance(take(scheduler), ReasoningJob)


def test_a_running_reasoning_yields_to_a_waiting_label(clock):
    scheduler = Scheduler(Options(), clock)
    met(scheduler, "a", clock)
    job = running(scheduler, reasoning("a", clock))
    assert not scheduler.must_yield(job)
    scheduler.add_clips([clip("a")], clock())
    assert scheduler.must_yield(job)
    assert scheduler.end_reasoning(job, "reasoning_cancelled")


def test_a_running_reasoning_stops_when_its_person_leaves_and_is_not_published(clock):
    scheduler = Scheduler(Options(), clock)
    for face_id in ("a", "b"):
        met(scheduler, face_id, clock)
    job = running(scheduler, reasoning("a", clock))
    scheduler.forget("b")
    assert not scheduler.must_yield(job)
    scheduler.forget("a")
    assert scheduler.must_yield(job)
    assert not scheduler.end_reasoning(job, "reasoned")
    assert scheduler.counts["reasoning_gone"] == 1


def test_nobody_who_has_left_is_explained_later(clock):
    scheduler = Scheduler(Options(), clock)
    scheduler.add_clips([clip("a")], clock())
    (job,) = take(scheduler)
    scheduler.forget("a")
    assert scheduler.settle(job, answered=True) == "labelled"  # it was true when it was seen
    assert not scheduler.reasoning_due("a")
    scheduler.add_reasoning(reasoning("a", clock))
    assert take(scheduler) is None
    assert scheduler.counts["reasoning_gone"] == 1


def test_an_old_clip_is_not_explained(clock):
    scheduler = Scheduler(Options(max_age_s=1.0), clock)
    met(scheduler, "a", clock)
    scheduler.add_reasoning(reasoning("a", clock))
    clock.pass_s(1.1)
    assert take(scheduler) is None
    assert scheduler.counts["reasoning_stale"] == 1


def test_reasoning_is_not_stopped_for_a_label_that_may_not_start_yet(clock):
    scheduler = Scheduler(Options(max_rate_hz=1.0), clock)
    met(scheduler, "a", clock)
    scheduler.add_clips([clip("a")], clock())
    job = running(scheduler, reasoning("a", clock))
    assert not scheduler.must_yield(job)
    clock.pass_s(1.0)
    assert scheduler.must_yield(job)


def test_a_low_max_rate_leaves_time_for_reasoning(clock):
    """With several people, a label always waits for its turn; that must not keep the model idle."""
    scheduler = Scheduler(Options(max_rate_hz=0.5), clock)
    met(scheduler, "a", clock)
    scheduler.add_clips([clip("a"), clip("b")], clock())
    running(scheduler, reasoning("a", clock))


def test_max_rate_limits_all_people_together(clock):
    scheduler = Scheduler(Options(max_rate_hz=2.0, max_age_s=100.0), clock)
    labelled = 0
    for _ in range(100):
        scheduler.add_clips([clip("a"), clip("b")], clock())
        labelled += len(take(scheduler) or [])
        clock.pass_s(0.1)
    assert labelled == pytest.approx(20, abs=1)


@pytest.mark.parametrize(("rate_hz", "most"), [(0.2, 1), (1.0, 1), (2.5, 2), (100.0, 6), (0.0, 6)])
def test_a_batch_holds_no_more_than_max_rate_allows_in_a_second(clock, rate_hz, most):
    scheduler = Scheduler(Options(max_rate_hz=rate_hz), clock)
    scheduler.add_clips([clip(f) for f in "abcdef"], clock())
    assert len(take(scheduler, batch=8)) == most


def test_a_new_max_rate_holds_at_once(clock):
    scheduler = Scheduler(Options(max_rate_hz=0.01), clock)
    met(scheduler, "a", clock)
    scheduler.add_clips([clip("a")], clock())
    assert take(scheduler) is None
    scheduler.set_max_rate(0.0)
    assert taken(scheduler) == ["a"]


def test_reasoning_has_a_rate_of_its_own_for_each_person(clock):
    scheduler = Scheduler(Options(reasoning_rate_hz=0.5), clock)
    for face_id in ("a", "b"):
        met(scheduler, face_id, clock)
    assert scheduler.reasoning_due("a")
    assert scheduler.reasoning_due("b")
    clock.pass_s(1.9)
    assert not scheduler.reasoning_due("a")
    clock.pass_s(0.2)
    assert scheduler.reasoning_due("a")


def test_a_question_is_answered_first_and_is_not_preempted(clock):
    scheduler = Scheduler(Options(), clock)
    scheduler.add_clips([clip("a")], clock())
    asked = LabelJob(clip("b"), clock(), Question("b", "Why?"), ticket=7)
    scheduler.ask(asked)
    assert take(scheduler) == [asked]
    assert scheduler.settle(asked, answered=True) == "labelled"
    answer = ReasoningJob(asked, LabelAnswer(()), None)
    scheduler.add_reasoning(answer)
    assert take(scheduler) is answer
    assert not scheduler.must_yield(answer)
    assert scheduler.end_reasoning(answer, "reasoned")
    assert scheduler.counts["answered"] == scheduler.counts["asked"] == 1


def test_nothing_is_done_for_a_question_whose_timeout_is_over(clock):
    scheduler = Scheduler(Options(), clock)
    jobs = [LabelJob(clip("a"), clock(), Question("a", "Why?", timeout_s=2.0), ticket=n) for n in range(2)]
    for job in jobs:
        scheduler.ask(job)
        assert take(scheduler) == [job]
    assert scheduler.settle(jobs[0], answered=True) == "labelled"
    answer = running(scheduler, ReasoningJob(jobs[0], LabelAnswer(()), None))
    clock.pass_s(2.1)
    assert scheduler.must_yield(answer)
    assert scheduler.end_reasoning(answer, "reasoning_cancelled")
    assert scheduler.settle(jobs[1], answered=True) == "unanswered"
    assert scheduler.counts["unanswered"] == scheduler.counts["asked"] == 2


def test_nothing_waits_for_a_person_who_is_gone(clock):
    scheduler = Scheduler(Options(), clock)
    met(scheduler, "a", clock)
    scheduler.add_clips([clip("a")], clock())
    scheduler.add_reasoning(reasoning("a", clock))
    scheduler.forget("a")
    assert take(scheduler) is None
    assert (scheduler.counts["gone"], scheduler.counts["reasoning_gone"]) == (1, 1)


def test_a_flush_takes_away_what_waits_and_what_is_in_work_but_no_question(clock):
    scheduler = Scheduler(Options(), clock)
    question = LabelJob(clip("b"), clock(), Question("b"), ticket=7)
    scheduler.add_clips([clip("a")], clock())
    (job,) = take(scheduler)
    scheduler.add_clips([clip("a"), clip("b")], clock())
    scheduler.add_reasoning(reasoning("a", clock))
    scheduler.ask(question)
    assert scheduler.flush() == []
    assert scheduler.settle(job, answered=True) == "flushed"
    assert take(scheduler) == [question]
    assert (scheduler.counts["flushed"], scheduler.counts["reasoning_flushed"]) == (3, 1)


def test_a_flush_stops_a_running_reasoning(clock):
    scheduler = Scheduler(Options(), clock)
    met(scheduler, "a", clock)
    job = running(scheduler, reasoning("a", clock))
    scheduler.flush()
    assert scheduler.must_yield(job)
    assert not scheduler.end_reasoning(job, "reasoned")


@pytest.mark.parametrize("place", ["waiting", "label", "answer", "running"])
def test_a_flush_with_questions_returns_their_tickets_wherever_they_are(clock, place):
    scheduler = Scheduler(Options(), clock)
    job = LabelJob(clip("a"), clock(), Question("a"), ticket=7)
    scheduler.ask(job)
    if place != "waiting":
        take(scheduler)
    if place in ("answer", "running"):
        scheduler.settle(job, answered=True)
        scheduler.add_reasoning(ReasoningJob(job, LabelAnswer(()), None))
    if place == "running":
        take(scheduler)
    assert scheduler.snapshot()["asking"] == 1
    assert scheduler.flush(questions=True) == [7]
    assert take(scheduler) is None
    assert scheduler.counts["unanswered"] == 1
    assert scheduler.snapshot()["asking"] == 0


def test_nothing_is_remembered_of_people_who_are_gone(clock):
    scheduler = Scheduler(Options(skip_unchanged=0.1), clock)
    memories = ("_present", "_served_ns", "_turn_ns", "_explained_ns", "_looks", "_labels", "_reasoning", "_in_work")
    for end in (lambda: scheduler.forget("a"), scheduler.flush):
        met(scheduler, "a", clock)
        assert scheduler.reasoning_due("a")
        scheduler.add_clips([clip("a")], clock())
        end()
        scheduler.reasoning_due("a")
        assert not any(getattr(scheduler, name) for name in memories)


@pytest.mark.parametrize(("threshold", "unchanged"), [(0.02, 1), (0.0, 0)])
def test_a_still_face_is_skipped_only_when_asked_for(clock, threshold, unchanged):
    scheduler = Scheduler(Options(skip_unchanged=threshold), clock)
    for shade in (100, 101, 140):
        scheduler.add_clips([clip("a", shade=shade)], clock())
        for job in take(scheduler) or ():
            scheduler.settle(job, answered=True)
    assert scheduler.counts["unchanged"] == unchanged


def test_a_change_that_was_never_published_is_not_taken_for_known(clock):
    scheduler = Scheduler(Options(skip_unchanged=0.02, max_age_s=1.0), clock)
    scheduler.add_clips([clip("a", shade=100)], clock())
    labelled(scheduler)
    scheduler.add_clips([clip("a", shade=200)], clock())
    clock.pass_s(1.1)
    assert take(scheduler) is None
    scheduler.add_clips([clip("a", shade=200)], clock())
    assert labelled(scheduler) == ["labelled"]


def test_a_face_that_is_as_before_takes_the_place_of_a_waiting_change(clock):
    scheduler = Scheduler(Options(skip_unchanged=0.02), clock)
    for stamp, shade in enumerate((100, 200, 100)):
        scheduler.add_clips([clip("a", stamp=stamp, shade=shade)], clock())
        if stamp == 0:
            labelled(scheduler)
    assert take(scheduler)[0].clip.stamp_ns == 2


@given(st.lists(st.sampled_from(STEPS), max_size=80))
def test_every_clip_reasoning_and_question_has_one_fate(steps):
    clock, random = Clock(), itertools.cycle("abcd")
    scheduler = Scheduler(Options(max_age_s=0.25, max_rate_hz=3.0, skip_unchanged=0.01), clock)
    jobs, explaining = [], None
    for step in steps:
        face_id = next(random)
        if step == "submit":
            scheduler.add_clips([clip(face_id), clip("a")], clock())
        elif step == "ask":
            scheduler.ask(LabelJob(clip(face_id), clock(), Question(face_id, timeout_s=0.3), ticket=object()))
        elif step == "take" and not jobs and explaining is None:
            work = take(scheduler, batch=2)
            jobs, explaining = (work or [], None) if not isinstance(work, ReasoningJob) else ([], work)
        elif step == "settle":
            for job in jobs:
                if scheduler.settle(job, answered=face_id != "d") == "labelled":
                    scheduler.add_reasoning(ReasoningJob(job, LabelAnswer(()), None))
            jobs = []
        elif step == "end" and explaining is not None:
            scheduler.end_reasoning(
                explaining, "reasoning_cancelled" if scheduler.must_yield(explaining) else "reasoned"
            )
            explaining = None
        elif step == "forget":
            scheduler.forget(face_id)
        elif step in ("flush", "wipe"):
            scheduler.flush(questions=step == "wipe")
        elif step == "pass":
            clock.pass_s(0.15)
        elif step == "close":
            scheduler.close()
        counts = scheduler.snapshot()
        assert unexplained_clips(counts) == 0
        assert unexplained_reasonings(counts) == 0
        assert counts.get("asked", 0) == counts.get("answered", 0) + counts.get("unanswered", 0) + counts["asking"]


def test_take_wakes_when_work_arrives_and_ends_when_closed():
    scheduler = Scheduler(Options(), time.monotonic_ns)
    got = []
    thread = threading.Thread(target=lambda: got.append(scheduler.take(1, timeout_s=30.0)))
    thread.start()
    scheduler.add_clips([clip("a")], time.monotonic_ns())
    thread.join(5.0)
    assert got[0][0].clip.face_id == "a"
    waiter = threading.Thread(target=lambda: got.append(scheduler.take(1, timeout_s=30.0)))
    waiter.start()
    scheduler.close()
    waiter.join(5.0)
    assert got[1] is None


class SlowModel:
    """Does what the model side does, in the time of a clock: labels a batch, explains word by word, and yields."""

    def __init__(self, clock, people, label_s, word_s, words):
        self.scheduler = Scheduler(Options(label_rate_hz=2.0, reasoning_rate_hz=0.5), clock)
        self.clock, self.people, self.label_s, self.word_s, self.words = clock, people, label_s, word_s, words
        self.due_s, self.reasons = 0.0, dict.fromkeys(people, 0)
        self.start_ns = clock()

    def pass_s(self, seconds):
        """Let time pass; everybody's clip comes due every half second."""
        self.clock.pass_s(seconds)
        while (self.clock() - self.start_ns) / SECOND_NS >= self.due_s:
            self.scheduler.add_clips([clip(face_id) for face_id in self.people], self.clock())
            self.due_s += 0.5

    def run(self, seconds):
        while self.clock() - self.start_ns < seconds * SECOND_NS:
            work = take(self.scheduler, batch=8)
            if isinstance(work, ReasoningJob):
                self.explain(work)
            elif work:
                self.pass_s(self.label_s)
                for job in work:
                    fate = self.scheduler.settle(job, answered=True)
                    if fate == "labelled" and self.scheduler.reasoning_due(job.clip.face_id):
                        self.scheduler.add_reasoning(ReasoningJob(job, LabelAnswer(()), None))
            else:
                self.pass_s(0.01)

    def explain(self, job):
        for _ in range(self.words):
            if self.scheduler.must_yield(job):
                self.scheduler.end_reasoning(job, "reasoning_cancelled")
                return
            self.pass_s(self.word_s)
        if self.scheduler.end_reasoning(job, "reasoned"):
            self.reasons[job.label_job.clip.face_id] += 1


@pytest.mark.parametrize("people", ["ab", "ba", "abc", "abcde"])
@pytest.mark.parametrize("explaining_s", [0.05, 0.15, 0.25, 0.4])
def test_people_are_explained_equally_often_however_long_it_takes(clock, people, explaining_s):
    model = SlowModel(clock, people, label_s=0.05, word_s=explaining_s / 20, words=20)
    model.run(seconds=120)
    assert min(model.reasons.values()) >= 120 / 2 / len(people) * 0.9
    assert max(model.reasons.values()) <= 1.1 * min(model.reasons.values())


def test_a_preempted_reasoning_gets_its_turn_back(clock):
    scheduler = Scheduler(Options(reasoning_rate_hz=0.5), clock)
    met(scheduler, "a", clock)
    assert scheduler.reasoning_due("a")
    assert not scheduler.reasoning_due("a")
    scheduler.end_reasoning(running(scheduler, reasoning("a", clock)), "reasoning_cancelled")
    assert scheduler.reasoning_due("a")


def test_who_waited_longest_for_a_reason_comes_first_whatever_their_id(clock):
    scheduler = Scheduler(Options(), clock)
    for face_id in "ba":
        met(scheduler, face_id, clock)
        clock.pass_s(0.1)
    explained = []
    for _ in range(3):
        for face_id in "ab":
            scheduler.add_reasoning(reasoning(face_id, clock))
        job = take(scheduler)
        clock.pass_s(0.1)
        scheduler.end_reasoning(job, "reasoned")
        explained.append(job.label_job.clip.face_id)
    assert explained == ["b", "a", "b"]
