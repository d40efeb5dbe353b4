"""The ~/ask action: one question about one person, one answer."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.task import Future

from emo_llama_ros.action import AskEmotion
from emo_llama_ros.engine.api import Engine, Question
from emo_llama_ros.estimate import Estimate, Stage, Status
from emo_llama_ros.ros.conversion import estimate_message, nanoseconds

DEFAULT_TIMEOUT_S = 10.0


@dataclass(eq=False, slots=True)
class _Conversation:
    """A goal that is being answered. `ended` resolves to a sentence why there is no answer, or to ""."""

    goal: Any
    ended: Future = field(default_factory=Future)
    label: Estimate | None = None
    final: Estimate | None = None
    text: str = ""


class AskServer:
    """Serves ~/ask for the node's whole life, and refuses goals while no engine runs.

    The engine answers from threads of its own; its words are queued and handled in the node's executor, so a goal is
    only ever touched by one thread.
    """

    def __init__(self, node: Node, engine: Callable[[], Engine | None]) -> None:
        """Make the server; `engine` returns the engine that can be asked now, None while the node is not active or is
        switched off."""
        self._node = node
        self._engine = engine
        self._open: dict[bytes, _Conversation] = {}
        self._heard: deque[tuple[_Conversation, Estimate | str | None, str]] = deque()
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._wake = node.create_guard_condition(self._deliver)
        self._server = ActionServer(
            node,
            AskEmotion,
            "~/ask",
            execute_callback=self._execute,
            goal_callback=self._on_goal,
            cancel_callback=self._on_cancel,
        )

    def abort_all(self, reason: str) -> None:
        """End every goal with `reason`."""
        for conversation in self._open.values():
            _end(conversation, reason)

    def close(self) -> None:
        """Remove the action from the graph."""
        self._server.destroy()
        self._node.destroy_guard_condition(self._wake)

    def _on_goal(self, _request: Any) -> GoalResponse:
        if self._engine() is None:
            self._node.get_logger().warning("A question was rejected: the node is not active, or enabled is false.")
            return GoalResponse.REJECT
        return GoalResponse.ACCEPT

    def _on_cancel(self, goal: Any) -> CancelResponse:
        conversation = self._open.get(bytes(goal.goal_id.uuid))
        if conversation is not None:
            _end(conversation, "The question was cancelled.")
        return CancelResponse.ACCEPT

    async def _execute(self, goal: Any) -> AskEmotion.Result:
        conversation = _Conversation(goal)
        engine = self._engine()
        if engine is None:
            _end(conversation, "The node is not active any more.")
            return self._result(conversation)
        request = goal.request
        timeout_s = nanoseconds(request.timeout) / 1e9
        question = Question(request.face_id, request.question, timeout_s if timeout_s > 0 else DEFAULT_TIMEOUT_S)
        key = bytes(goal.goal_id.uuid)
        self._open[key] = conversation
        timer = self._node.create_timer(
            question.timeout_s,
            lambda: _end(conversation, f"There was no answer within {question.timeout_s:g} s."),
            clock=self._steady,
        )
        try:
            engine.ask(
                question,
                lambda estimate: self._hear(conversation, estimate),
                lambda piece: self._hear(conversation, None, piece),
                lambda reason: self._hear(conversation, reason),
            )
            await conversation.ended
        finally:
            self._node.destroy_timer(timer)
            del self._open[key]
        return self._result(conversation)

    def _hear(self, conversation: _Conversation, news: Estimate | str | None, text: str = "") -> None:
        self._heard.append((conversation, news, text))
        self._wake.trigger()

    def _deliver(self) -> None:
        while self._heard:
            conversation, news, text = self._heard.popleft()
            if conversation.ended.done():
                continue
            if isinstance(news, str):
                _end(conversation, news)
            elif news is not None and news.stage is Stage.FINAL:
                conversation.final = news
                _end(conversation, news.reasoning if news.status is Status.ERROR else "")
            else:
                conversation.label = news or conversation.label
                conversation.text += text
                self._tell(conversation)

    def _tell(self, conversation: _Conversation) -> None:
        feedback = AskEmotion.Feedback(partial_answer=conversation.text)
        if conversation.label is not None:
            feedback.estimate = estimate_message(conversation.label, self._age_ns(conversation.label))
        conversation.goal.publish_feedback(feedback)

    def _result(self, conversation: _Conversation) -> AskEmotion.Result:
        goal, final = conversation.goal, conversation.final
        reason = conversation.ended.result()
        result = AskEmotion.Result(success=not reason, message=reason)
        if final is not None:
            result.estimate = estimate_message(final, self._age_ns(final))
            if goal.request.question and not reason:
                result.answer = final.reasoning
        if not reason:
            goal.succeed()
        elif goal.is_cancel_requested:
            goal.canceled()
        else:
            goal.abort()
        return result

    def _age_ns(self, estimate: Estimate) -> int:
        return int(self._node.get_clock().now().nanoseconds - estimate.stamp_ns)


def _end(conversation: _Conversation, reason: str) -> None:
    if not conversation.ended.done():
        conversation.ended.set_result(reason)
