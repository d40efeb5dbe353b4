import itertools
import threading
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emo_llama_ros.engine.admission import Admission
from emo_llama_ros.frames import SECOND_NS, RawFrame
from emo_llama_ros.options import Options


def frame(seconds):
    return RawFrame(round(seconds * SECOND_NS), "camera", np.zeros(3, np.uint8), "rgb8", 1, 1, 3)


def account(admission):
    return admission.used + admission.skipped + sum(admission.drops.values())


def test_an_idle_worker_gets_the_frame_at_once():
    admission = Admission(Options())
    first = frame(0)
    assert admission.admit(first) == (first, False)


def test_the_newest_frame_waits_and_the_others_are_counted_as_busy():
    admission = Admission(Options())
    admission.admit(frame(0))
    frames = [frame(0.2), frame(0.4), frame(0.6)]
    for f in frames:
        assert admission.admit(f) == (None, False)
    assert admission.done("used") is frames[-1]
    assert admission.drops["busy"] == 2
    assert admission.done("used") is None


def test_a_disabled_camera_lets_nothing_through():
    admission = Admission(Options(enabled=False))
    assert admission.admit(frame(0)) == (None, False)
    assert admission.drops["disabled"] == 1


def test_a_jump_of_the_clock_is_passed_on():
    admission = Admission(Options())
    admission.admit(frame(0))
    _, jumped = admission.admit(frame(1000))
    assert jumped


@pytest.mark.parametrize("reason", ["worker_lost", "stopped"])
def test_frames_that_are_abandoned_are_accounted_for(reason):
    admission = Admission(Options())
    admission.admit(frame(0))
    admission.admit(frame(1))
    admission.abandon(reason)
    assert admission.drops[reason] == 2
    again = frame(2)
    assert admission.admit(again)[0] is again


def test_a_closed_admission_counts_what_still_comes():
    admission = Admission(Options())
    admission.admit(frame(0))
    admission.close()
    assert admission.done("used") is None
    assert admission.admit(frame(1)) == (None, False)
    assert (admission.drops["stopped"], admission.used) == (2, 0)


def test_no_frame_slips_through_between_the_account_of_the_stop_and_the_stop():
    """Frames come from another thread than the stop."""
    admission = Admission(Options())
    stop, frames = threading.Event(), itertools.count()

    def camera():
        while not stop.is_set():
            if admission.admit(frame(next(frames) * 0.2))[0] is not None:
                admission.done("used")

    thread = threading.Thread(target=camera)
    thread.start()
    while admission.account().received < 200:
        pass
    admission.close()
    stop.set()
    thread.join()
    account = admission.account()
    assert account.in_flight == 0
    assert account.received == account.used + account.skipped + sum(account.drops.values())


def test_a_waiting_frame_is_dropped_when_the_camera_is_disabled():
    admission = Admission(Options())
    admission.admit(frame(0))
    admission.admit(frame(1))
    admission.enable(False)
    assert admission.done("used") is None
    assert admission.account().drops == {"disabled": 1}


@given(st.lists(st.tuples(st.floats(-2, 2), st.sampled_from(["keep", "used", "bad_image", "abandon"])), max_size=60))
def test_every_frame_is_accounted_for(steps):
    admission = Admission(Options())
    now, in_work = 10.0, False
    for step, event in steps:
        now += step
        in_work = admission.admit(frame(max(now, 0)))[0] is not None or in_work
        if event == "abandon":
            admission.abandon("worker_lost")
            in_work = False
        elif event != "keep" and in_work:
            in_work = admission.done(event) is not None
    if in_work:
        while admission.done("used") is not None:
            pass
    assert admission.received == account(admission)


@pytest.mark.parametrize("field", ["frame_id", "encoding"])
def test_a_frame_with_an_endless_name_is_refused(field):
    admission = Admission(Options())
    assert admission.admit(replace(frame(1), **{field: "x" * 10**6})) == (None, False)
    assert admission.account().drops == {"bad_image": 1}
    assert "256 characters" in admission.account().bad_image


def test_frames_that_are_stamped_alike_are_timed_by_their_arrival_and_a_remark_says_so():
    admission = Admission(Options())
    for number in range(40):
        now, _ = admission.admit(replace(frame(1000), received_ns=round((5 + number / 10) * SECOND_NS)))
        if now is not None:
            last = now.stamp_ns
            admission.done("used")
    assert last == pytest.approx(1003.9 * SECOND_NS)
    assert "same stamp" in admission.account().remarks[0]
