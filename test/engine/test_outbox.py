"""What waits for a worker that takes nothing."""

import threading
import time
from multiprocessing import Pipe

import pytest

from emo_llama_ros.engine.outbox import MAX_QUESTIONS, Outbox


@pytest.fixture
def ends():
    here, there = Pipe()
    yield here, there
    here.close()
    there.close()


@pytest.fixture
def stuck(ends):
    """An outbox whose pipe is full."""
    outbox = Outbox(ends[0])
    outbox.put("ask", "x" * 10**6)
    while outbox._waiting:
        time.sleep(0.001)
    yield outbox
    ends[1].close()
    outbox.close(5.0)


def received(there):
    messages = []
    while there.poll(0.2):
        messages.append(there.recv())
    return messages[1:]


def test_messages_arrive_in_their_order(ends):
    outbox = Outbox(ends[0])
    messages = [("start", 1), ("frame", 2), ("ask", 3), ("option", "seed", 4), ("flush",), ("frame", 5), ("stop",)]
    assert all(outbox.put(*message) for message in messages)
    assert [ends[1].recv() for _ in messages] == messages
    outbox.close(5.0)


def test_what_waits_for_a_stuck_worker_is_bounded_and_putting_it_never_waits(stuck, ends):
    taken = [stuck.put("ask", number) for number in range(100)]
    for number in range(1000):
        stuck.put("option", "min_confidence", number / 1000)
        stuck.put("flush")
    assert taken.count(True) == MAX_QUESTIONS
    assert len(stuck._waiting) == MAX_QUESTIONS + 2
    there = received(ends[1])
    assert there[-2:] == [("option", "min_confidence", 0.999), ("flush",)]


def test_a_switch_that_went_off_and_on_again_is_sent_as_both(stuck, ends):
    for value in (False, True, False, True):
        stuck.put("option", "enabled", value)
    assert received(ends[1]) == [("option", "enabled", False), ("option", "enabled", True)]


def test_nothing_is_taken_for_a_worker_that_is_gone(ends):
    outbox = Outbox(ends[0])
    ends[1].close()
    outbox.put("flush")
    outbox._thread.join(5.0)
    assert not outbox.put("flush")


def test_closing_wakes_the_thread_that_waits_for_messages(ends):
    before = threading.active_count()
    outbox = Outbox(ends[0])
    outbox.close(5.0)
    assert threading.active_count() == before
    assert not outbox.put("flush")
