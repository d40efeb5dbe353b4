"""What a written conversation must be before it becomes training data."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from emo_llama_ros.evidence import About, parse
from emo_llama_ros.prompts import Turn

MAX_ROUNDS = 2
ANSWER_WORDS = (5, 120)
QUESTION_CHARACTERS = 200

_IDENTITY = re.compile(
    r"\b(?:man|woman|boy|girl|lady|gentleman|guy|male|female|actor|actress|celebrity|politician|famous|named|"
    r"years? old|year-old|aged|elderly|teenager|middle-aged|toddler|infant|"
    r"caucasian|asian|african|hispanic|latin[oax]|arab|indian|european|ethnic\w*|race|skin (?:colou?r|tone))\b",
    re.IGNORECASE,
)
_INNER_STATE = re.compile(r"\b(?:feels?|feeling|felt)\b", re.IGNORECASE)
_REFUSAL = re.compile(
    r"\b(?:as an ai|i (?:cannot|can't|can not|am unable|'m unable)|i'm sorry|i am sorry)\b", re.IGNORECASE
)


class BadAnswer(Exception):
    """An answer that cannot be used; the message is a sentence that the writing model can act on."""


def read_turns(text: str) -> tuple[Turn, ...]:
    """Return the turns of `{"rounds": [{"question", "answer"}]}`, which may stand in a code fence or between words.

    Raises BadAnswer when there is no such object.
    """
    match = re.search(r"\{.*\}", text, re.DOTALL)
    try:
        rounds = json.loads(match[0])["rounds"] if match else None
        turns = [Turn(str(r["question"]).strip(), str(r["answer"]).strip(), "none") for r in rounds or ()]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise BadAnswer(f'The reply must be one JSON object {{"rounds": [...]}} ({error}).') from None
    if not turns:
        raise BadAnswer('The reply must be one JSON object {"rounds": [{"question": ..., "answer": ...}]}.')
    return (Turn(turns[0].question, turns[0].answer, "before"), *turns[1:])


def check_turns(turns: Sequence[Turn], label: str) -> None:
    """Raise BadAnswer unless the conversation is short, agrees with `label`, and never says who the person is."""
    if not 1 <= len(turns) <= MAX_ROUNDS:
        raise BadAnswer(f"There must be one or {MAX_ROUNDS} rounds, not {len(turns)}.")
    for turn in turns:
        answer = turn.answer or ""
        words = len(answer.split())
        if not turn.question or len(turn.question) > QUESTION_CHARACTERS:
            raise BadAnswer(f"A question must have 1 to {QUESTION_CHARACTERS} characters.")
        if not ANSWER_WORDS[0] <= words <= ANSWER_WORDS[1]:
            raise BadAnswer(f"An answer must have {ANSWER_WORDS[0]} to {ANSWER_WORDS[1]} words, not {words}.")
        if answer[-1] not in ".!?\"'":
            raise BadAnswer("An answer must end with a full stop; this one is cut off.")
        for text in (turn.question, answer):
            if found := _REFUSAL.search(text):
                raise BadAnswer(f"The answer refuses ('{found[0]}').")
            if found := _IDENTITY.search(text):
                raise BadAnswer(f"'{found[0]}' says who the person is; write 'the person' and 'their'.")
            if found := _INNER_STATE.search(text):
                raise BadAnswer(f"'{found[0]}' is about inner life; describe only the displayed expression.")
    _check_label(turns, label)


def _check_label(turns: Sequence[Turn], label: str) -> None:
    named = False
    for claim in parse(" ".join(turn.answer or "" for turn in turns)):
        if claim.about not in (About.LABEL, About.FIT, About.CHANGE) or not claim.labels:
            continue
        if label in claim.labels and not claim.negated:
            named = True
        elif claim.about is About.LABEL and not claim.negated and claim.certainty not in ("weaker", "possibly"):
            raise BadAnswer(f"The expression is labelled '{label}', but the answer says '{claim.labels[0]}'.")
        elif label in claim.labels and claim.about is About.LABEL:
            raise BadAnswer(f"The expression is labelled '{label}', but the answer denies it.")
    if not named:
        raise BadAnswer(f"The answer must name the expression '{label}'.")
