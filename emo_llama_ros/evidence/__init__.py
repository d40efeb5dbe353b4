"""Measured facial evidence in words: one vocabulary to say it, and the same vocabulary to check what was said.

`describe` turns measurements into sentences. `parse` finds the claims in any text, a language model's included, and
`holds` compares a claim with the measurements. A sentence of `describe` is always understood by `parse`.
"""

from emo_llama_ros.evidence.claims import About, Claim, holds
from emo_llama_ros.evidence.course import phases_of
from emo_llama_ros.evidence.facts import ClipFacts, Evidence, Phase, Trend
from emo_llama_ros.evidence.note import answer_note, evidence_note
from emo_llama_ros.evidence.reading import parse, sentences
from emo_llama_ros.evidence.vocabulary import TYPICAL, UNITS, Unit
from emo_llama_ros.evidence.wording import (
    change_sentences,
    describe,
    describe_changes,
    fit_sentence,
    label_sentence,
    movement_sentence,
    noun,
)

__all__ = [
    "TYPICAL",
    "UNITS",
    "About",
    "Claim",
    "ClipFacts",
    "Evidence",
    "Phase",
    "Trend",
    "Unit",
    "answer_note",
    "change_sentences",
    "describe",
    "describe_changes",
    "evidence_note",
    "fit_sentence",
    "holds",
    "label_sentence",
    "movement_sentence",
    "noun",
    "parse",
    "phases_of",
    "sentences",
]
