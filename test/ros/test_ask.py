import threading

import pytest
from patience import PATIENCE_S

from emo_llama_ros.estimate import Stage, Status

pytestmark = pytest.mark.usefixtures("ros")

SUCCEEDED, CANCELED, ABORTED = 4, 5, 6


class Asker:
    def __init__(self, corner):
        from emo_llama_ros.action import AskEmotion
        from rclpy.action import ActionClient

        self.corner = corner
        self.type = AskEmotion
        self.feedback = []
        self.client = ActionClient(corner.helper, AskEmotion, corner.name("emo_llama_node/ask"))
        assert self.client.wait_for_server(timeout_sec=PATIENCE_S)
        for service in ("send_goal", "get_result", "cancel_goal"):
            corner.wait_matched(corner.name(f"emo_llama_node/ask/_action/{service}"))

    def send(self, seconds=0.0, **goal):
        from emo_llama_ros.ros.conversion import duration_message

        request = self.type.Goal(**goal, timeout=duration_message(round(seconds * 1e9)))
        future = self.client.send_goal_async(request, feedback_callback=lambda m: self.feedback.append(m.feedback))
        self.corner.until(future.done, "the reply to the goal")
        return future.result()

    def result(self, handle):
        future = handle.get_result_async()
        self.corner.until(future.done, "the result")
        return future.result().status, future.result().result


@pytest.fixture
def active(corner, scripted):
    corner.emo_llama_node(scripted)
    corner.change_state("configure")
    corner.change_state("activate")
    return scripted.made[0]


@pytest.fixture
def asker(corner, active):
    asker = Asker(corner)
    yield asker
    asker.client.destroy()


def answer(engine, estimate, number=0, text="Because of the smile.", said=True, final=True):
    """Let the engine answer its question from another thread, as real engines do: the words, and the final estimate."""
    _, on_estimate, on_text, _ = engine.questions[number]

    def speak():
        if said:
            on_estimate(estimate(stage=Stage.LABEL, label="happiness"))
            for word in text.split():
                on_text(word + " ")
        if final:
            on_estimate(estimate(stage=Stage.FINAL, label="happiness", reasoning=text))

    thread = threading.Thread(target=speak)
    thread.start()
    thread.join()


def test_a_question_gets_label_text_and_answer(corner, active, asker, estimate):
    handle = asker.send(face_id="a", question="Why?", seconds=3.5)
    assert handle.accepted
    corner.until(lambda: active.questions, "the question")
    question = active.questions[0][0]
    assert (question.face_id, question.text, question.timeout_s) == ("a", "Why?", 3.5)
    # rclpy's client forgets the feedback of a goal whose result has come, so the result waits for the feedback here.
    answer(active, estimate, final=False)
    corner.until(lambda: len(asker.feedback) == 5, "the feedback")
    assert asker.feedback[0].estimate.label == "happiness"
    assert asker.feedback[0].partial_answer == ""
    assert asker.feedback[-1].partial_answer == "Because of the smile. "
    answer(active, estimate, said=False)
    status, result = asker.result(handle)
    assert status == SUCCEEDED
    assert result.success
    assert (result.message, result.answer) == ("", "Because of the smile.")
    assert result.estimate.label == "happiness"
    assert result.estimate.stage == Stage.FINAL


def test_without_a_question_there_is_an_estimate_and_no_answer(corner, active, asker, estimate):
    handle = asker.send()
    corner.until(lambda: active.questions, "the question")
    assert active.questions[0][0].timeout_s == 10.0
    answer(active, estimate)
    status, result = asker.result(handle)
    assert (status, result.success, result.answer) == (SUCCEEDED, True, "")
    assert result.estimate.reasoning == "Because of the smile."


def test_a_refusal_aborts_with_the_reason(corner, active, asker):
    handle = asker.send(face_id="nobody")
    corner.until(lambda: active.questions, "the question")
    active.questions[0][3]("There is nobody with the id 'nobody'.")
    status, result = asker.result(handle)
    assert (status, result.success) == (ABORTED, False)
    assert result.message == "There is nobody with the id 'nobody'."


def test_a_failed_model_is_an_abort_not_an_empty_answer(corner, active, asker, estimate):
    handle = asker.send()
    corner.until(lambda: active.questions, "the question")
    active.questions[0][1](estimate(status=Status.ERROR, reasoning="The model failed on this clip."))
    status, result = asker.result(handle)
    assert (status, result.success, result.message) == (ABORTED, False, "The model failed on this clip.")
    assert result.estimate.status == Status.ERROR


def test_silence_ends_at_the_timeout(corner, active, asker):
    status, result = asker.result(asker.send(seconds=0.3))
    assert (status, result.message) == (ABORTED, "There was no answer within 0.3 s.")


@pytest.mark.parametrize("spoken", [0, 1, 3], ids=["before the label", "after the label", "amid the text"])
def test_a_goal_can_be_cancelled_at_each_stage(corner, active, asker, estimate, spoken):
    handle = asker.send(question="Why?")
    corner.until(lambda: active.questions, "the question")
    _, on_estimate, on_text, _ = active.questions[0]
    if spoken:
        on_estimate(estimate(stage=Stage.LABEL))
    for _ in range(spoken - 1):
        on_text("word ")
    corner.until(lambda: len(asker.feedback) == spoken, "the feedback so far")
    cancelling = handle.cancel_goal_async()
    corner.until(cancelling.done, "the reply to the cancel")
    status, result = asker.result(handle)
    assert (status, result.success) == (CANCELED, False)
    assert result.message == "The question was cancelled."
    answer(active, estimate)  # nobody listens any more, and nothing breaks


def test_two_goals_keep_their_own_answers(corner, active, asker, estimate):
    first, second = asker.send(question="First?"), asker.send(question="Second?")
    corner.until(lambda: len(active.questions) == 2, "both questions")
    answer(active, estimate, 1, "Second.")
    answer(active, estimate, 0, "First.")
    assert asker.result(second)[1].answer == "Second."
    assert asker.result(first)[1].answer == "First."


def test_a_goal_is_rejected_while_the_node_is_not_active(corner, scripted):
    corner.emo_llama_node(scripted)
    asker = Asker(corner)
    assert not asker.send().accepted
    corner.change_state("configure")
    assert not asker.send().accepted
    asker.client.destroy()


def test_deactivate_ends_open_goals_and_reactivation_serves_again(corner, active, asker, scripted, estimate):
    handle = asker.send()
    corner.until(lambda: active.questions, "the question")
    assert corner.change_state("deactivate")
    status, result = asker.result(handle)
    assert (status, result.message) == (ABORTED, "The node was deactivated.")

    assert corner.change_state("activate")
    handle = asker.send(question="Again?")
    engine = corner.until(lambda: scripted.made[-1].questions and scripted.made[-1], "the question")
    answer(engine, estimate)
    assert asker.result(handle)[0] == SUCCEEDED


def test_a_client_that_dies_does_no_harm(corner, active, asker, estimate):
    mortal = Asker(corner)
    mortal.send(seconds=0.3)
    corner.until(lambda: active.questions, "the question")
    mortal.client.destroy()
    handle = asker.send(question="Still there?")
    corner.until(lambda: len(active.questions) == 2, "the next question")
    answer(active, estimate, 1)
    assert asker.result(handle)[0] == SUCCEEDED
