import time

import pytest

from emo_llama_ros.backends.backend import ModelInfo
from emo_llama_ros.engine.api import Delivery, EngineState
from emo_llama_ros.engine.delivery import MAX_OPEN_QUESTIONS, Desk, corrected
from emo_llama_ros.estimate import Estimate, Stage, Status
from emo_llama_ros.labels import RAF_DB


def estimate(stage=Stage.FINAL):
    return Estimate(0, "camera", "a-0", stage, Status.OK, 0, 8, "model")


@pytest.fixture
def desk():
    desk = Desk(lambda e: desk.out.append(e))
    desk.out = []
    return desk


def test_an_estimate_that_became_too_old_on_its_way_is_withheld_and_counted(desk):
    now = time.monotonic_ns()
    desk.estimate(Delivery(estimate(), "labelled", now, now + 10**12))
    desk.estimate(Delivery(estimate(), "labelled", now, now - 1))
    assert len(desk.out) == 1
    assert corrected({"due": 2, "labelled": 2}, desk.withheld()) == {"due": 2, "labelled": 1, "late": 1}


def test_a_finished_reasoning_may_be_older(desk):
    desk.estimate(Delivery(estimate(), "reasoned", arrived_ns=0, deadline_ns=None))
    assert desk.out


def test_what_was_seen_before_a_wipe_is_withheld_and_counted(desk):
    desk.wipe(before_ns=100)
    for counted_as in ("labelled", "failed", "nobody", "reasoned", "reasoning_failed"):
        desk.estimate(Delivery(estimate(), counted_as, arrived_ns=99))
    assert not desk.out
    counts = corrected({"labelled": 1, "failed": 1, "nobody": 1, "reasoned": 1, "reasoning_failed": 1}, desk.withheld())
    assert counts["flushed"] == 2
    assert (counts["nobody_flushed"], counts["reasoning_flushed"]) == (1, 2)
    desk.estimate(Delivery(estimate(), "labelled", arrived_ns=100))
    assert desk.out


def test_nothing_comes_after_the_stop(desk):
    heard = []
    desk.open_ticket(heard.append, heard.append, heard.append)
    desk.close("Stopped.")
    desk.state(EngineState.READY, "", ModelInfo("b", "m", RAF_DB))
    desk.estimate(Delivery(estimate(), "labelled", time.monotonic_ns()))
    assert (desk.out, heard) == ([], ["Stopped."])
    assert desk.current is EngineState.STOPPED


def test_a_question_hears_label_words_and_final_and_nothing_more(desk):
    heard = []
    ticket = desk.open_ticket(heard.append, heard.append, heard.append)
    label = estimate(Stage.LABEL)
    desk.estimate(Delivery(label, "labelled", 0, None, ticket))
    desk.text("because", ticket)
    final = estimate()
    desk.estimate(Delivery(final, "reasoned", 0, None, ticket))
    desk.text("more", ticket)
    desk.refused("no", ticket)
    assert heard == [label, "because", final]
    assert not desk.out


def test_open_questions_are_bounded(desk):
    refusals = []
    tickets = [desk.open_ticket(id, id, refusals.append) for _ in range(MAX_OPEN_QUESTIONS + 1)]
    assert tickets[-1] is None
    assert "open already" in refusals[0]
    desk.refused("No.", tickets[0])
    assert desk.open_ticket(id, id, refusals.append) is not None


def test_a_callback_that_raises_does_not_harm_the_engine(caplog):
    def broken(estimate):
        raise RuntimeError("the consumer's own trouble")

    desk = Desk(broken)
    desk.estimate(Delivery(estimate(), "labelled", time.monotonic_ns()))
    assert "consumer's own trouble" in caplog.text
