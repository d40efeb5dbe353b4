"""Where the results of the model side arrive, and the last check before anybody sees them."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

from emo_llama_ros.backends.backend import ModelInfo
from emo_llama_ros.engine.api import EngineState, Question, TimedEstimate
from emo_llama_ros.estimate import Estimate, Stage

logger = logging.getLogger(__name__)

MAX_OPEN_QUESTIONS = 16
_PREFIX = {"nobody": "nobody_", "reasoned": "reasoning_", "reasoning_failed": "reasoning_"}


class Delivery:
    """Keeps the model's state, and passes estimates to whoever is to have them.

    The way from the model to here takes time. What has become too old on it, or was made of frames from before the
    last `wipe`, is withheld and counted. A callback that raises is logged; the engine lives on.
    """

    def __init__(self, on_estimate: Callable[[Estimate], None]) -> None:
        self._on_estimate = on_estimate
        self._askers: dict[object, tuple[Callable[[Any], None], ...]] = {}
        self._tickets = count(1)
        self._withheld: Counter[tuple[str, str]] = Counter()
        self._since_ns = 0
        self._closed = False
        self.state = EngineState.STOPPED
        self.message = ""
        self.info: ModelInfo | None = None

    # --- questions ---

    def open_ticket(
        self,
        question: Question,
        on_estimate: Callable[[Estimate], None],
        on_text: Callable[[str], None],
        on_refused: Callable[[str], None],
    ) -> int | None:
        """Return a number for a question; None when it was refused, being too long or one too many."""
        refusal = question.fault()
        if len(self._askers) >= MAX_OPEN_QUESTIONS:
            refusal = f"{MAX_OPEN_QUESTIONS} questions are open already; ask again when one is answered."
        if refusal:
            _call(on_refused, refusal)
            return None
        ticket = next(self._tickets)
        self._askers[ticket] = (on_estimate, on_text, on_refused)
        return ticket

    def refuse_all(self, sentence: str) -> None:
        """Tell everybody who waits for an answer that there will be none."""
        for ticket in list(self._askers):
            self.on_refused(sentence, ticket)

    # --- what the model side says; see `model_side.Sink` ---

    def on_state(self, state: EngineState, message: str, info: ModelInfo | None) -> None:
        if self._closed:
            return
        if state is EngineState.LOADING and self.state is EngineState.RESTARTING:
            return  # the reason of the restart stays in sight until the model is ready again
        self.state, self.message, self.info = state, message, info

    def on_estimate(self, timed: TimedEstimate) -> None:
        estimate, ticket = timed.estimate, timed.ticket
        if ticket is not None:
            final = estimate.stage is Stage.FINAL
            asker = self._askers.pop(ticket, None) if final else self._askers.get(ticket)
            if asker:
                _call(asker[0], estimate)
        elif self._closed or timed.arrived_ns < self._since_ns:
            self._withheld[timed.counted_as, "flushed"] += 1
        elif timed.deadline_ns is not None and time.monotonic_ns() > timed.deadline_ns:
            self._withheld[timed.counted_as, "late"] += 1
        else:
            _call(self._on_estimate, estimate)

    def on_text(self, piece: str, ticket: object) -> None:
        asker = self._askers.get(ticket)
        if asker and piece:
            _call(asker[1], piece)

    def on_refused(self, sentence: str, ticket: object) -> None:
        asker = self._askers.pop(ticket, None)
        if asker:
            _call(asker[2], sentence)

    # --- withholding ---

    def wipe(self, before_ns: int) -> None:
        """Withhold from now on every estimate whose newest frame arrived before that `time.monotonic_ns()`."""
        self._since_ns = max(self._since_ns, before_ns)

    def close(self, sentence: str) -> None:
        """Withhold everything, refuse open questions with `sentence`, and be STOPPED."""
        self.on_state(EngineState.STOPPED, "", None)
        self._closed = True
        self.refuse_all(sentence)

    def withheld(self) -> Counter[tuple[str, str]]:
        """Return how often which fate of the model side's counters became which other one here, see `corrected`."""
        return Counter(self._withheld)

    def forget_withheld(self) -> None:
        """Begin to count anew, as the model side does after a restart."""
        self._withheld.clear()


def corrected(clips: Mapping[str, int], withheld: Mapping[tuple[str, str], int]) -> dict[str, int]:
    """Return the model side's counters with what was withheld here moved from its fate there to its fate here.

    `clips` must not be older than `withheld`.
    """
    counts = Counter(dict(clips))
    for (counted_as, reason), number in withheld.items():
        counts[counted_as] -= number
        counts[_PREFIX.get(counted_as, "") + reason] += number
    return dict(counts)


def _call(callback: Callable[[Any], None], value: Any) -> None:
    try:
        callback(value)
    except Exception:
        logger.exception("A callback of the engine raised an exception; its estimate is lost, the engine goes on.")
