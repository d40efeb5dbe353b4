import threading
import time

import numpy as np
import pytest

from emo_llama_ros.backends.backend import LabelAnswer
from emo_llama_ros.clips import SECOND_NS, Clip
from emo_llama_ros.engine import Question
from emo_llama_ros.faces.face import Box, Face
from emo_llama_ros.options import Options
from emo_llama_ros.scheduler import LabelJob, ReasoningJob, Scheduler


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


def test_the_newest_clip_of_a_person_wins_and_the_older_is_counted(clock):
    scheduler = Scheduler(Options(), clock)
    scheduler.submit([clip("a", stamp=1)], clock())
    scheduler.submit([clip("a", stamp=2)], clock())
    (job,) = take(scheduler)
    assert job.clip.stamp_ns == 2
    assert take(scheduler) is None
    assert scheduler.counts["superseded"] == 1


def test_a_busy_person_does_not_starve_the_others(clock):
    scheduler = Scheduler(Options(max_age_s=100.0), clock)
    order = []
    for _ in range(6):
        scheduler.submit([clip(f) for f in ("a", "b", "c")], clock())
        order += taken(scheduler)
        clock.pass_s(0.1)
    assert sorted(order) == ["a", "a", "b", "b", "c", "c"]
    assert sorted(order[:3]) == ["a", "b", "c"]


def test_several_people_are_taken_as_one_batch(clock):
    scheduler = Scheduler(Options(), clock)
    scheduler.submit([clip(f) for f in "abcde"], clock())
    assert taken(scheduler, batch=3) == ["a", "b", "c"]
    assert taken(scheduler, batch=3) == ["d", "e"]


def test_a_clip_older_than_max_age_is_dropped_and_counted(clock):
    scheduler = Scheduler(Options(max_age_s=1.0), clock)
    scheduler.submit([clip("a")], clock())
    clock.pass_s(1.1)
    assert take(scheduler) is None
    assert scheduler.counts["stale"] == 1


def test_a_label_that_took_too_long_is_too_late(clock):
    scheduler = Scheduler(Options(max_age_s=1.0), clock)
    arrived = clock()
    clock.pass_s(0.9)
    assert not scheduler.too_late(arrived)
    clock.pass_s(0.2)
    assert scheduler.too_late(arrived)


def test_labels_go_before_reasoning(clock):
    scheduler = Scheduler(Options(), clock)
    scheduler.submit_reasoning(reasoning("a", clock))
    scheduler.submit([clip("b")], clock())
    assert taken(scheduler) == ["b"]
    assert isinstance(take(scheduler), ReasoningJob)


def test_a_running_reasoning_yields_to_a_waiting_label(clock):
    scheduler = Scheduler(Options(), clock)
    job = reasoning("a", clock)
    assert not scheduler.must_yield(job)
    scheduler.submit([clip("a")], clock())
    assert scheduler.must_yield(job)


def test_reasoning_is_not_stopped_for_a_label_that_may_not_start_yet(clock):
    scheduler = Scheduler(Options(max_rate_hz=1.0), clock)
    scheduler.submit([clip("a")], clock())
    take(scheduler)
    scheduler.submit([clip("a")], clock())
    job = reasoning("a", clock)
    assert not scheduler.must_yield(job)
    clock.pass_s(1.0)
    assert scheduler.must_yield(job)


def test_max_rate_limits_all_people_together(clock):
    scheduler = Scheduler(Options(max_rate_hz=2.0, max_age_s=100.0), clock)
    labelled = 0
    for _ in range(100):
        scheduler.submit([clip("a"), clip("b")], clock())
        labelled += len(take(scheduler) or [])
        clock.pass_s(0.1)
    assert labelled == pytest.approx(20, abs=1)


def test_reasoning_has_a_rate_of_its_own_for_each_person(clock):
    scheduler = Scheduler(Options(reasoning_rate_hz=0.5), clock)
    assert scheduler.reasoning_due("a")
    assert scheduler.reasoning_due("b")
    clock.pass_s(1.9)
    assert not scheduler.reasoning_due("a")
    clock.pass_s(0.2)
    assert scheduler.reasoning_due("a")


def test_a_question_is_answered_first_and_is_not_preempted(clock):
    scheduler = Scheduler(Options(), clock)
    scheduler.submit([clip("a")], clock())
    asked = LabelJob(clip("b"), clock(), Question("b", "Why?"), ticket=7)
    scheduler.ask(asked)
    assert take(scheduler) == [asked]
    answer = ReasoningJob(asked, LabelAnswer(()), None)
    scheduler.submit_reasoning(answer)
    assert take(scheduler) is answer
    assert not scheduler.must_yield(answer)


def test_nothing_waits_for_a_person_who_is_gone(clock):
    scheduler = Scheduler(Options(), clock)
    scheduler.submit([clip("a")], clock())
    scheduler.submit_reasoning(reasoning("a", clock))
    scheduler.forget("a")
    assert take(scheduler) is None
    assert (scheduler.counts["gone"], scheduler.counts["reasoning_gone"]) == (1, 1)


def test_a_still_face_is_skipped_only_when_asked_for(clock):
    scheduler = Scheduler(Options(skip_unchanged=0.02), clock)
    for shade in (100, 101, 140):
        scheduler.submit([clip("a", shade=shade)], clock())
    assert scheduler.counts["unchanged"] == 1
    plain = Scheduler(Options(), clock)
    plain.submit([clip("a")], clock())
    plain.submit([clip("a")], clock())
    assert plain.counts["unchanged"] == 0


def test_every_clip_that_was_due_has_one_fate(clock):
    scheduler = Scheduler(Options(max_age_s=0.25, max_rate_hz=3.0), clock)
    labelled = 0
    for i in range(200):
        scheduler.submit([clip(f) for f in "abcd"[: 1 + i % 4]], clock())
        labelled += len(take(scheduler) or [])
        if i == 100:
            scheduler.forget("a")
        clock.pass_s(0.1)
    counts = scheduler.snapshot()
    fates = sum(counts.get(k, 0) for k in ("superseded", "stale", "gone", "flushed", "unchanged", "waiting"))
    assert counts["due"] == labelled + fates


def test_take_wakes_when_work_arrives_and_ends_when_closed():
    scheduler = Scheduler(Options(), time.monotonic_ns)
    got = []
    thread = threading.Thread(target=lambda: got.append(scheduler.take(1, timeout_s=30.0)))
    thread.start()
    scheduler.submit([clip("a")], time.monotonic_ns())
    thread.join(5.0)
    assert got[0][0].clip.face_id == "a"
    waiter = threading.Thread(target=lambda: got.append(scheduler.take(1, timeout_s=30.0)))
    waiter.start()
    scheduler.close()
    waiter.join(5.0)
    assert got[1] is None
