import itertools
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emo_llama_ros.engine.admission import FrameIntake
from emo_llama_ros.frames import RawFrame
from emo_llama_ros.options import Options
from emo_llama_ros.perception.clips import SECOND_NS


def frame(seconds):
    return RawFrame(round(seconds * SECOND_NS), "camera", np.zeros(3, np.uint8), "rgb8", 1, 1, 3)


def account(intake):
    return intake.used + intake.skipped + sum(intake.drops.values())


def test_an_idle_worker_gets_the_frame_at_once():
    intake = FrameIntake(Options())
    first = frame(0)
    assert intake.offer(first) == (first, False)


def test_the_newest_frame_waits_and_the_others_are_counted_as_busy():
    intake = FrameIntake(Options())
    intake.offer(frame(0))
    frames = [frame(0.2), frame(0.4), frame(0.6)]
    for f in frames:
        assert intake.offer(f) == (None, False)
    assert intake.done("used") is frames[-1]
    assert intake.drops["busy"] == 2
    assert intake.done("used") is None


def test_a_disabled_intake_lets_nothing_through():
    intake = FrameIntake(Options(enabled=False))
    assert intake.offer(frame(0)) == (None, False)
    assert intake.drops["disabled"] == 1


def test_a_jump_of_the_clock_is_passed_on():
    intake = FrameIntake(Options())
    intake.offer(frame(0))
    _, jumped = intake.offer(frame(100))
    assert jumped


@pytest.mark.parametrize("reason", ["worker_lost", "stopped"])
def test_frames_that_are_abandoned_are_accounted_for(reason):
    intake = FrameIntake(Options())
    intake.offer(frame(0))
    intake.offer(frame(1))
    intake.abandon(reason)
    assert intake.drops[reason] == 2
    again = frame(2)
    assert intake.offer(again)[0] is again


def test_a_closed_intake_counts_what_still_comes():
    intake = FrameIntake(Options())
    intake.offer(frame(0))
    intake.close()
    assert intake.done("used") is None
    assert intake.offer(frame(1)) == (None, False)
    assert (intake.drops["stopped"], intake.used) == (2, 0)


def test_no_frame_slips_through_between_the_account_of_the_stop_and_the_stop():
    """Frames come from another thread than the stop."""
    intake = FrameIntake(Options())
    stop, frames = threading.Event(), itertools.count()

    def camera():
        while not stop.is_set():
            if intake.offer(frame(next(frames) * 0.2))[0] is not None:
                intake.done("used")

    thread = threading.Thread(target=camera)
    thread.start()
    while intake.account().received < 200:
        pass
    intake.close()
    stop.set()
    thread.join()
    account = intake.account()
    assert account.in_flight == 0
    assert account.received == account.used + account.skipped + sum(account.drops.values())


def test_a_waiting_frame_is_dropped_when_the_door_shuts():
    intake = FrameIntake(Options())
    intake.offer(frame(0))
    intake.offer(frame(1))
    intake.enable(False)
    assert intake.done("used") is None
    assert intake.account().drops == {"disabled": 1}


@given(st.lists(st.tuples(st.floats(-2, 2), st.sampled_from(["keep", "used", "bad_image", "abandon"])), max_size=60))
def test_every_frame_is_accounted_for(steps):
    intake = FrameIntake(Options())
    now, in_work = 10.0, False
    for step, event in steps:
        now += step
        in_work = intake.offer(frame(max(now, 0)))[0] is not None or in_work
        if event == "abandon":
            intake.abandon("worker_lost")
            in_work = False
        elif event != "keep" and in_work:
            in_work = intake.done(event) is not None
    if in_work:
        while intake.done("used") is not None:
            pass
    assert intake.received == account(intake)
