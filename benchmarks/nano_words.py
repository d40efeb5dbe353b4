"""Questions to a backend that talks, and whether its answers say only what was measured."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from labelled_clips import LabelledClip

from emo_llama_ros.backends.backend import Backend, LabelAnswer
from emo_llama_ros.estimate import Status
from emo_llama_ros.evaluation.faithfulness import Tally, check
from emo_llama_ros.evidence import ClipFacts, describe_changes, parse
from emo_llama_ros.evidence.clip_measures import clip_facts, measure
from emo_llama_ros.labels import RAF_DB
from emo_llama_ros.perception.clips import Clip
from emo_llama_ros.training.synthetic import dialogue

TARGET = 0.95
"""Share of sentences about the face that are to hold in every claim; at most the rest of the answers may break off."""
EXAMPLES = 10
ALL = "all"
"""Name of the summary of all answers."""
Rule = Callable[[ClipFacts], str]
"""Makes the answer that the measurements give."""


def drawn(ask: Callable[[np.random.Generator, ClipFacts], tuple[str, str]]) -> Rule:
    """Return the answer part of one of the training's makers of questions, which draw the question alone."""
    return lambda facts: ask(np.random.default_rng(0), facts)[1]


def opened(facts: ClipFacts) -> str:
    """Say whether the mouth is open."""
    return dialogue.movement_answer("", (25, 26, 27), facts)


def changed(facts: ClipFacts) -> str:
    """Say what changed in the last second."""
    if facts.still:
        return dialogue.STILL
    return describe_changes(facts.evidences, facts.course, 1.0)


def declined(facts: ClipFacts) -> str:
    """Say that nothing measured answers it."""
    return dialogue.OFF_TOPIC_ANSWER


@dataclass(frozen=True, slots=True)
class Question:
    """A question; the empty one asks for the reasons behind the label."""

    text: str
    rule: Rule
    trained: bool = False
    """Whether the training asks it in these words."""

    @property
    def off_topic(self) -> bool:
        """Whether no measurement answers it."""
        return self.rule is declined


REASONS = Question("", dialogue.reasoning, trained=True)
SURE, UNITS, ELSE = drawn(dialogue.sure), drawn(dialogue.units_seen), drawn(dialogue.anything_else)
QUESTIONS = (
    REASONS,
    Question("Why do you think so?", dialogue.reasoning, trained=True),
    Question("What changed in the last second?", changed, trained=True),
    Question("Is the mouth open?", opened, trained=True),
    Question("Which action units do you see?", UNITS, trained=True),
    Question("How sure are you?", SURE, trained=True),
    Question("What else could it be?", ELSE, trained=True),
    Question("What leads you to this reading?", dialogue.reasoning),
    Question("Has anything moved during the last second?", changed),
    Question("Are the lips apart?", opened),
    Question("Which movements of the face did you find?", UNITS),
    Question("How reliable is your answer?", SURE),
    Question("How old is he?", declined, trained=True),
    Question("Roughly what age is this person?", declined),
    Question("Which football team does she support?", declined),
    Question("What should we cook tonight?", declined),
)


@dataclass(slots=True)
class Words:
    """What was answered to one question, over many clips."""

    question: Question
    answers: int = 0
    declined: int = 0
    empty: int = 0
    cut: int = 0
    """Ended without a full stop: the token limit came first."""
    exact: int = 0
    """The words that the measurements give, and no others."""
    yes_no: tuple[int, int] = (0, 0)
    """Answers that say yes or no as measured, of those that were to say it."""
    tally: Tally = field(default_factory=Tally)

    def add(self, clip: Clip, answer: LabelAnswer, text: str) -> None:
        """Count one answer that was given after the label."""
        facts = clip_facts(clip, RAF_DB.labels, answer.probabilities)
        expected = self.question.rule(facts)
        self.answers += 1
        self.declined += declines(text)
        self.empty += not text
        self.cut += bool(text) and text[-1] not in ".!?"
        self.exact += text == expected
        if _first_word(expected) in ("yes", "no"):
            self.yes_no = _sum([self.yes_no, (_first_word(text) == _first_word(expected), 1)])
        evidences, phases = measure(clip)
        self.tally.add(check(text, evidences, answer.probabilities, RAF_DB.labels, phases))


def declines(text: str) -> bool:
    """Return whether an answer says that it cannot be given, and nothing about the face."""
    return "cannot be answered" in text.lower() and not parse(text)


def talk(backend: Backend, clips: Iterable[LabelledClip], questions: Sequence[Question]) -> list[Words]:
    """Ask every question about every clip with a face, each anew after the label as ~/ask does; check the answers."""
    words = [Words(question) for question in questions]
    for shown in clips:
        if shown.clip is None:
            continue
        for about in words:
            (answer,) = backend.label([shown.clip])
            if answer.status is Status.OK:
                about.add(shown.clip, answer, "".join(backend.explain(shown.clip, answer, about.question.text)).strip())
        backend.forget(shown.clip.face_id)
    return words


@dataclass(frozen=True, slots=True)
class Summary:
    """All answers together. Pairs are (how many, of how many)."""

    sentences: tuple[int, int]
    """Sentences about the face that hold in every claim."""
    off_topic_declined: tuple[int, int]
    others_declined: tuple[int, int]
    yes_no_right: tuple[int, int]
    exact: int
    empty: int
    cut: int
    answers: int
    false_by_kind: dict[str, int]
    examples: tuple[str, ...]

    @staticmethod
    def of(words: Sequence[Words]) -> Summary:
        """Add up."""
        kinds = sum((Counter({a.value: n for a, n in w.tally.false_by_kind.items()}) for w in words), Counter[str]())
        return Summary(
            sentences=_sum((w.tally.sentences_held, w.tally.sentences) for w in words),
            off_topic_declined=_sum((w.declined, w.answers) for w in words if w.question.off_topic),
            others_declined=_sum((w.declined, w.answers) for w in words if not w.question.off_topic),
            yes_no_right=_sum(w.yes_no for w in words),
            exact=sum(w.exact for w in words),
            empty=sum(w.empty for w in words),
            cut=sum(w.cut for w in words),
            answers=sum(w.answers for w in words),
            false_by_kind=dict(kinds.most_common()),
            examples=tuple(_spread(words)),
        )

    @property
    def faithful(self) -> float:
        """Share of sentences that hold; NaN when nothing was said about the face."""
        held, said = self.sentences
        return held / said if said else math.nan

    @property
    def met(self) -> bool:
        """Whether the target is met: by answers that come to an end, for an endless one is no sentence."""
        return self.faithful >= TARGET and self.empty + self.cut <= (1 - TARGET) * self.answers

    @property
    def verdict(self) -> str:
        """Say whether the target is met."""
        endless = self.faithful >= TARGET and not self.met
        return "met" if self.met else f"NOT MET{', too many answers are empty or break off' if endless else ''}"


def by_origin(words: Sequence[Words], more_reasons: Words) -> dict[str, Summary]:
    """Return the answers apart: the reasoning that the node publishes, and questions in known and in new words."""
    asked = [w for w in words if w.question.text]
    return {
        "reasoning, as the node publishes it": Summary.of([*(w for w in words if not w.question.text), more_reasons]),
        "answers to questions in words of the training": Summary.of([w for w in asked if w.question.trained]),
        "answers to questions in words that it never saw": Summary.of([w for w in asked if not w.question.trained]),
        ALL: Summary.of([*words, more_reasons]),
    }


def markdown(words: Sequence[Words], more_reasons: Words, origins: Mapping[str, Summary]) -> str:
    """Return the answers question by question, then what was wrong with them.

    `more_reasons` are the reasons for clips about which nothing else was asked, `origins` what `by_origin` returns.
    """
    rows = [
        (
            f"“{w.question.text}”" if w.question.text else "(reasons)",
            "yes" if w.question.trained else "no",
            _of((w.tally.sentences_held, w.tally.sentences)),
            f"{w.declined}{', rightly' if w.question.off_topic and w.declined else ''}",
            str(w.exact),
            str(w.empty + w.cut),
        )
        for w in words
    ]
    header = ("question", "so asked in training", "faithful sentences", "declined", "word for word", "empty or cut")
    s = origins[ALL]
    other = more_reasons.tally
    lines = [
        table(header, rows),
        f"Each question was asked about {words[0].answers} unaltered held-out clips. Reasons were given for "
        f"{more_reasons.answers} more: {_of((other.sentences_held, other.sentences))} sentences are faithful.",
        table(
            ("sentences about the face that hold in every claim", "share", "", f"target {TARGET}"),
            [(name, f"{part.faithful:.4f}", _of(part.sentences), part.verdict) for name, part in origins.items()],
        ),
        f"False claims by kind: {', '.join(f'{kind} {n}' for kind, n in s.false_by_kind.items()) or 'none'}. "
        f"Off-topic questions declined: {_of(s.off_topic_declined)}; other questions wrongly declined: "
        f"{_of(s.others_declined)}. Yes or no as measured: {_of(s.yes_no_right)}. Of {s.answers} answers {s.exact} are "
        f"word for word what the measurements give, {s.empty} were empty and {s.cut} cut off at the token limit.",
    ]
    if s.examples:
        lines.append("Sentences that do not hold, for example:\n\n" + "\n".join(f"- {e}" for e in s.examples))
    return "\n\n".join(lines)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, ["---"] * len(header), *rows))


def _spread(words: Sequence[Words]) -> Iterator[str]:
    """Yield at most EXAMPLES different unfaithful sentences, one of each question in turn."""
    turns = [w.tally.examples[i] for i in range(EXAMPLES) for w in words if i < len(w.tally.examples)]
    yield from list(dict.fromkeys(turns))[:EXAMPLES]


def _sum(counts: Iterable[tuple[int, int]]) -> tuple[int, int]:
    counted = list(counts)
    return sum(part for part, _ in counted), sum(whole for _, whole in counted)


def _first_word(text: str) -> str:
    return text.split(" ", 1)[0].strip(".,").lower()


def _of(counts: tuple[int, int]) -> str:
    return f"{counts[0]} of {counts[1]}"
