import time

import pytest

from emo_llama_ros.backends.backend import ModelInfo
from emo_llama_ros.engine.api import MAX_QUESTION_CHARACTERS, EngineState, Question, TimedEstimate
from emo_llama_ros.engine.delivery import MAX_OPEN_QUESTIONS, Delivery, corrected
from emo_llama_ros.estimate import Estimate, Stage, Status
from emo_llama_ros.labels import RAF_DB


def estimate(stage=Stage.FINAL):
    return Estimate(0, "camera", "a-0", stage, Status.OK, 0, 8, "model")


@pytest.fixture
def delivery():
    delivery = Delivery(lambda e: delivery.out.append(e))
    delivery.out = []
    return delivery


def test_an_estimate_that_became_too_old_on_its_way_is_withheld_and_counted(delivery):
    now = time.monotonic_ns()
    delivery.on_estimate(TimedEstimate(estimate(), "labelled", now, now + 10**12))
    delivery.on_estimate(TimedEstimate(estimate(), "labelled", now, now - 1))
    assert len(delivery.out) == 1
    assert corrected({"due": 2, "labelled": 2}, delivery.withheld()) == {"due": 2, "labelled": 1, "late": 1}


def test_a_finished_reasoning_may_be_older(delivery):
    delivery.on_estimate(TimedEstimate(estimate(), "reasoned", arrived_ns=0, deadline_ns=None))
    assert delivery.out


def test_what_was_seen_before_a_wipe_is_withheld_and_counted(delivery):
    delivery.wipe(before_ns=100)
    for counted_as in ("labelled", "failed", "nobody", "reasoned", "reasoning_failed"):
        delivery.on_estimate(TimedEstimate(estimate(), counted_as, arrived_ns=99))
    assert not delivery.out
    counts = corrected(
        {"labelled": 1, "failed": 1, "nobody": 1, "reasoned": 1, "reasoning_failed": 1}, delivery.withheld()
    )
    assert counts["flushed"] == 2
    assert (counts["nobody_flushed"], counts["reasoning_flushed"]) == (1, 2)
    delivery.on_estimate(TimedEstimate(estimate(), "labelled", arrived_ns=100))
    assert delivery.out


def test_nothing_comes_after_the_stop(delivery):
    heard = []
    delivery.open_ticket(Question(), heard.append, heard.append, heard.append)
    delivery.close("Stopped.")
    delivery.on_state(EngineState.READY, "", ModelInfo("b", "m", RAF_DB))
    delivery.on_estimate(TimedEstimate(estimate(), "labelled", time.monotonic_ns()))
    assert (delivery.out, heard) == ([], ["Stopped."])
    assert delivery.state is EngineState.STOPPED


def test_a_question_hears_label_words_and_final_and_nothing_more(delivery):
    heard = []
    ticket = delivery.open_ticket(Question(), heard.append, heard.append, heard.append)
    label = estimate(Stage.LABEL)
    delivery.on_estimate(TimedEstimate(label, "labelled", 0, None, ticket))
    delivery.on_text("because", ticket)
    final = estimate()
    delivery.on_estimate(TimedEstimate(final, "reasoned", 0, None, ticket))
    delivery.on_text("more", ticket)
    delivery.on_refused("no", ticket)
    assert heard == [label, "because", final]
    assert not delivery.out


def test_open_questions_are_bounded(delivery):
    refusals = []
    tickets = [delivery.open_ticket(Question(), id, id, refusals.append) for _ in range(MAX_OPEN_QUESTIONS + 1)]
    assert tickets[-1] is None
    assert "open already" in refusals[0]
    delivery.on_refused("No.", tickets[0])
    assert delivery.open_ticket(Question(), id, id, refusals.append) is not None


@pytest.mark.parametrize(
    "question", [Question("", "x" * (MAX_QUESTION_CHARACTERS + 1)), Question("", "x" * 10**7), Question("x" * 10**6)]
)
def test_a_question_that_is_too_long_is_refused_in_one_short_sentence(delivery, question):
    refusals = []
    assert delivery.open_ticket(question, id, id, refusals.append) is None
    assert "characters" in refusals[0]
    assert len(refusals[0]) < 100
    assert delivery.open_ticket(Question("", "x" * MAX_QUESTION_CHARACTERS), id, id, refusals.append) is not None


def test_a_restart_says_its_reason_until_the_model_is_ready_again(delivery):
    delivery.on_state(EngineState.RESTARTING, "It ran out of memory.", None)
    delivery.on_state(EngineState.LOADING, "", None)
    assert (delivery.state, delivery.message) == (EngineState.RESTARTING, "It ran out of memory.")
    delivery.on_state(EngineState.READY, "", ModelInfo("b", "m", RAF_DB))
    assert (delivery.state, delivery.message) == (EngineState.READY, "")


def test_a_callback_that_raises_does_not_harm_the_engine(caplog):
    def broken(estimate):
        raise RuntimeError("the consumer's own trouble")

    delivery = Delivery(broken)
    delivery.on_estimate(TimedEstimate(estimate(), "labelled", time.monotonic_ns()))
    assert "consumer's own trouble" in caplog.text
