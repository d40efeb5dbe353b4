"""Every word that the language model is given, in one place and versioned. Free of torch.

The frame around the words is Vicuna's version 1 template, as LLaMA-VID was trained with it (conversation template
`imgsp_v1`): the system sentence, ` USER: <image>\\n{question} ASSISTANT:`, answers closed by `</s>` and followed by the
next `USER:` without a space. The question follows the instruction data of the EMO-LLaMA authors (FERID).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from emo_llama_ros.evidence import ClipFacts, Evidence, Phase, Trend, answer_note, evidence_note
from emo_llama_ros.labels import LABEL_SETS, LabelSet

VERSION = 1
IMAGE = "<image>"
END_OF_ANSWER = "</s>"
SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
CATEGORY_QUESTION = (
    "What is the facial expression of the person in the {medium}? "
    "Please choose one from the following options: {{{options}}}."
)
REASONING_QUESTION = "Which visible facial movements show this expression? Explain briefly."
AGR_TEMPLATE = "The person appears to be {description}."
_ANY_FACTS = ClipFacts(
    readings=(("happiness", 0.7), ("neutral", 0.3)),
    evidences=(Evidence(12, 0.8, Trend.RISING, 1.2), Evidence(25, 0.5, Trend.FALLING, None, 0.4)),
    unknown=frozenset({1}),
    readable=True,
    labels=("happiness", "neutral"),
    probabilities=(0.8, 0.2),
    phases=(Phase("neutral", 2.0, 1.2), Phase("happiness", 1.2)),
    span_s=2.0,
)
"""Something to write a note about, so that a change of its wording shows in the hash."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One question of the user and, unless it is to be generated, the answer."""

    question: str
    answer: str | None = None
    image: Literal["before", "after", "none"] = "before"
    """Where `<image>` stands. Each `<image>` shows the whole clip again, read under this turn's question."""
    context: str = ""
    """A sentence for the language model alone (`agr_sentence`, `evidence`'s notes); the Q-Formers never see it."""


@dataclass(frozen=True, slots=True)
class Attribute:
    """An apparent attribute of a person as a word or two ("20-29-year-old"), with its probability."""

    value: str
    probability: float


def category_question(label_set: LabelSet, *, video: bool) -> str:
    """Return the closed question for a label set, for a clip of several frames (`video`) or for one image."""
    return CATEGORY_QUESTION.format(medium="video" if video else "image", options=", ".join(label_set.labels))


def label_turn(label_set: LabelSet, *, video: bool, answer: str | None = None, context: str = "") -> Turn:
    """Return the turn that asks for the label. Its answer is the bare lower-case label."""
    return Turn(category_question(label_set, video=video), answer, context=context)


def reasoning_turn(answer: str | None = None, *, context: str = "") -> Turn:
    """Return the turn that asks for the reasons of the label just given. It shows no second image.

    `context` is a note of the published answer (`evidence.answer_note`), for a model that was trained with notes.
    """
    return Turn(REASONING_QUESTION, answer, image="none", context=context)


def agr_sentence(
    *,
    age: Attribute | None = None,
    gender: Attribute | None = None,
    race: Attribute | None = None,
    threshold: float = 0.5,
    template: str = AGR_TEMPLATE,
) -> str:
    """Return the age-gender-race sentence, "" when nothing is known well enough.

    Parts that are None or less probable than `threshold` are left out; without a gender the noun is "person".
    """
    words = [part.value for part in (age, race) if part is not None and part.probability >= threshold]
    known_gender = gender is not None and gender.probability >= threshold
    if not words and not known_gender:
        return ""
    words.append(gender.value if gender is not None and known_gender else "person")
    article = "an" if words[0][0].lower() in "aeiou" or words[0].startswith(("8", "11", "18")) else "a"
    return template.format(description=" ".join((article, *words)))


def render(turns: Sequence[Turn]) -> str:
    """Return the conversation as the language model reads it, `<image>` included.

    It ends with `</s>` after the last answer, or with `ASSISTANT:` where the last turn has none. Raise ValueError
    when an earlier turn has no answer.
    """
    if any(turn.answer is None for turn in turns[:-1]):
        raise ValueError("Every turn but the last needs an answer.")
    text = SYSTEM + " "
    for turn in turns:
        text += f"USER: {_message(turn)} ASSISTANT:"
        if turn.answer is not None:
            text += f" {turn.answer}{END_OF_ANSWER}"
    return text


def qformer_prompts(turns: Sequence[Turn]) -> list[str]:
    """Return the text that guides the Q-Formers: the question of each turn that shows the image, on one line."""
    return [one_line(turn.question) for turn in turns if turn.image != "none"]


def one_line(text: str) -> str:
    """Return `text` on one line and without the markers `<image>` and `</s>`, which only the template may set."""
    return " ".join(text.replace(IMAGE, " ").replace(END_OF_ANSWER, " ").split())


def prompt_hash() -> str:
    """Return 12 hex digits that change with any wording: template, questions, label lists, version."""
    wordings = [
        render([label_turn(labels, video=video, answer="", context=AGR_TEMPLATE), reasoning_turn()])
        for _, labels in sorted(LABEL_SETS.items())
        for video in (False, True)
    ]
    wordings += [evidence_note(_ANY_FACTS), answer_note(_ANY_FACTS.labels, _ANY_FACTS.probabilities)]
    return hashlib.sha256(json.dumps([VERSION, wordings]).encode()).hexdigest()[:12]


def _message(turn: Turn) -> str:
    words = one_line(f"{turn.context} {turn.question}")
    if turn.image == "before":
        return f"{IMAGE}\n{words}"
    return f"{words}\n{IMAGE}" if turn.image == "after" else words
