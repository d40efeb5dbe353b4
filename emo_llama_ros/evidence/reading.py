"""Find the claims in a text about a face."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from emo_llama_ros.evidence.claims import FROM_THE_START, About, Claim, Span
from emo_llama_ros.evidence.vocabulary import (
    CERTAINTY_WORDS,
    MEANINGS,
    STRENGTH_WORDS,
    TREND_WORDS,
    UNITS,
    UNMEASURED,
)
from emo_llama_ros.labels import LABEL_WORDS, canonical


def parse(text: str) -> list[Claim]:
    """Return the claims of `text` in order; a sentence that says nothing about face or expression gives none."""
    return [claim for sentence in sentences(text) for claim in _claims(sentence)]


def sentences(text: str) -> list[str]:
    """Split `text` after full stops, semicolons, question and exclamation marks and at line ends."""
    return [s.strip() for s in re.split(r"(?<=[.;!?])\s+|\n+", text) if re.search(r"\w", s)]


_VERB = r"is|are|was|were|looks?|appears?|stays?|remain(?:s|ed)?|bec(?:o|a)mes?|gets?|(?:has|have) been"
_COPULA = rf"(?:(?:{_VERB})(?: \w+){{0,2}}? )?"
_GAP = r"(?:(?:slightly|clearly|strongly|very|more|not|still) )?"
_THE = r"(?:(?:the|her|his|their|both) )?"
_NEGATION = re.compile(r"\b(?:no|not|never|without|neither|nor|rather than|instead of|lacks?)\b|n't\b")
_SEPARATOR = re.compile(r",| and | while | but | with |\(")
_NUMBER = r"(\d+(?:\.\d+)?)"
_SECONDS = r" ?(?:s\b|sec\b|seconds?\b)"
_LABEL = "|".join(sorted(map(re.escape, LABEL_WORDS), key=len, reverse=True))
_ARTICLE = r"(?:an? |the )?"


def _compile() -> list[tuple[re.Pattern[str], tuple[int, ...]]]:
    patterns = []
    for subject, state, units in MEANINGS:
        said = (
            rf"(?:{subject}) {_COPULA}{_GAP}(?:{state})|(?:{state}) {_THE}(?:{subject})" if subject else f"(?:{state})"
        )
        patterns.append((re.compile(rf"\b(?:{said})\b"), units))
    patterns += [(re.compile(rf"\b{unit.name}\b"), (number,)) for number, unit in UNITS.items()]
    return patterns


_PATTERNS = _compile()
_NUMBERED = re.compile(r"\b(?:au|action unit) ?(\d+)\b")
_SUBJECTS = "|".join(sorted({subject for subject, _, _ in MEANINGS if subject}, key=len, reverse=True))
_SHARED = re.compile(rf"\b({_SUBJECTS}) and {_THE}({_SUBJECTS}) (are|were|have been) ((?:\w+ )?\w+)")
_LABEL_WORD = re.compile(rf"\b({_LABEL})\b(?! (?:face|baseline|position|pose|reference))")
_CHANGE = re.compile(
    rf"\b(?:from {_ARTICLE}({_LABEL})(?: expression)? (?:in)?to"
    rf"|(?:chang|turn|shift|mov)\w+ (?:in)?to) {_ARTICLE}({_LABEL})\b"
)
_STAYED = re.compile(r"\bexpression (?:\w+ )?(?:stay\w*|remain\w*|is|was) (?:the same|unchanged|stable)\b")
_FIT = re.compile(
    r"\b(?:typical (?:of|for)|characteristic of|consistent with|fits?|speaks? for|match(?:es)?"
    r"|suggest\w*|indicat\w*|points? to)\b"
)
_STILLNESS = re.compile(
    r"\b(?:no (?:\w+ ){0,3}(?:movements?|action units?|evidence|changes?)"
    r"|nothing (?:\w+ )?(?:changed|moved|changes|moves))\b"
)
_UNMEASURED = re.compile(rf"\b(?:{UNMEASURED})(?:e?s)?\b")


@dataclass(frozen=True, slots=True)
class _Hit:
    start: int
    end: int
    units: tuple[int, ...]


def _claims(sentence: str) -> Iterator[Claim]:
    text = re.sub(r"\s+", " ", sentence.lower().replace("-", " ").replace("’", "'"))
    text = _SHARED.sub(r"\1 \3 \4 and \2 \3 \4", text)
    hits, left = _unit_hits(text)
    for hit, (start, end) in zip(hits, _clauses(text, hits), strict=True):
        clause = text[start:end]
        yield Claim(
            About.UNIT if hit.units[0] in UNITS else About.UNMEASURED,
            sentence,
            negated=bool(_NEGATION.search(text[start : hit.end])),
            units=hit.units,
            strength=_first(STRENGTH_WORDS, clause),
            trend=next((t for t, words in TREND_WORDS.items() if re.search(rf"\b(?:{words})\b", clause)), None),
            span=_span(clause),
        )
    if not hits and _STILLNESS.search(left):
        yield Claim(About.STILLNESS, sentence, span=_span(text))
        return
    yield from _expression_claims(sentence, left)
    if _UNMEASURED.search(left):
        yield Claim(About.UNMEASURED, sentence)


def _unit_hits(text: str) -> tuple[list[_Hit], str]:
    """Return the non-overlapping movements of `text`, leftmost longest, and the text with them blanked out."""
    found = [_Hit(m.start(), m.end(), units) for pattern, units in _PATTERNS for m in pattern.finditer(text)]
    found += [_Hit(m.start(), m.end(), (int(m[1]),)) for m in _NUMBERED.finditer(text)]
    hits: list[_Hit] = []
    for hit in sorted(found, key=lambda h: (h.start, -h.end)):
        last = hits[-1] if hits else None
        if last and (hit.start, hit.end) == (last.start, last.end):
            hits[-1] = _Hit(hit.start, hit.end, last.units + hit.units)
        elif last and hit.start >= last.end and text[last.end : hit.start] == " (" and hit.units[0] in last.units:
            hits[-1] = _Hit(last.start, hit.end, hit.units)
        elif not last or hit.start >= last.end:
            hits.append(hit)
    left = text
    for hit in hits:
        left = left[: hit.start] + " " * (hit.end - hit.start) + left[hit.end :]
    return hits, left


def _clauses(text: str, hits: Sequence[_Hit]) -> list[tuple[int, int]]:
    bounds = [0]
    for before, after in pairwise(hits):
        separators = [m.start() for m in _SEPARATOR.finditer(text, before.end, after.start)]
        bounds.append(separators[-1] if separators else after.start)
    bounds.append(len(text))
    return list(pairwise(bounds))[: len(hits)]


def _expression_claims(sentence: str, text: str) -> Iterator[Claim]:
    change = _CHANGE.search(text)
    if change:
        labels = tuple(canonical(word) for word in change.groups() if word)
        negated = bool(_NEGATION.search(text[: change.start()]))
        yield Claim(About.CHANGE, sentence, negated, labels=labels, span=_span(text))
        text = text[: change.start()] + text[change.end() :]
    elif _STAYED.search(text):
        yield Claim(About.CHANGE, sentence)
    fit = _FIT.search(text)
    start = 0
    for match in _LABEL_WORD.finditer(text):
        before = text[start : match.start()]
        negated = bool(_NEGATION.search(before))
        label = (canonical(match[1]),)
        if fit and fit.end() <= match.start():
            yield Claim(About.FIT, sentence, negated, labels=label)
        else:
            yield Claim(About.LABEL, sentence, negated, labels=label, certainty=_first(CERTAINTY_WORDS, before))
        start = match.end()


def _first(words: dict[str, str], text: str) -> str:
    return next((word for word, pattern in words.items() if re.search(rf"\b(?:{pattern})\b", text)), "")


def _span(text: str) -> Span:
    if m := re.search(rf"from (?:the (?:start|beginning)|{_NUMBER}{_SECONDS}) (?:to|until) {_NUMBER}{_SECONDS}", text):
        return Span(float(m[1]) if m[1] else FROM_THE_START, float(m[2]))
    if m := re.search(rf"until {_NUMBER}{_SECONDS}", text):
        return Span(offset_s=float(m[1]))
    if m := re.search(rf"(?:within|in|during) the (?:last|past|final) (?:{_NUMBER}{_SECONDS}|second)", text):
        return Span(within_s=float(m[1] or 1))
    if m := re.search(rf"(?:for|over) the (?:last|past|final) (?:{_NUMBER}{_SECONDS}|second)", text):
        return Span(float(m[1] or 1), 0.0)
    if m := re.search(rf"{_NUMBER}{_SECONDS} (?:ago|before the end)", text):
        return Span(float(m[1]))
    if re.search(r"throughout|the whole (?:clip|time)|all the time", text):
        return Span(FROM_THE_START, 0.0)
    if re.search(r"from the (?:start|beginning)|at the (?:start|beginning)", text):
        return Span(FROM_THE_START)
    return Span()
