"""Closed label sets of the facial-expression datasets, in the order their labels are printed and published.

Sources: RAF-DB and MAFW orders as printed in the FERID data of the EMO-LLaMA authors; AffectNet, FERPlus, DFEW and
FERV39k in the index order of their official releases. DFEW's "happiness" is spelled "joy" by some releases:
`canonical` maps every spelling.
"""

from __future__ import annotations

from dataclasses import dataclass

from emo_llama_ros.errors import BadParameter


@dataclass(frozen=True, slots=True)
class LabelSet:
    """A named, ordered, closed set of labels."""

    name: str
    labels: tuple[str, ...]

    def index(self, word: str) -> int:
        """Return the position of `word` or of its synonym; raise KeyError when it is not in the set."""
        label = canonical(word)
        if label not in self.labels:
            raise KeyError(word)
        return self.labels.index(label)


RAF_DB = LabelSet("raf-db", ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral"))
AFFECTNET = LabelSet(
    "affectnet", ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt")
)
AFFECTNET_7 = LabelSet("affectnet-7", AFFECTNET.labels[:-1])
FERPLUS = LabelSet("ferplus", ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt"))
DFEW = LabelSet("dfew", ("happiness", "sadness", "neutral", "anger", "surprise", "disgust", "fear"))
FERV39K = LabelSet("ferv39k", ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"))
MAFW = LabelSet(
    "mafw",
    (
        "anger",
        "disgust",
        "fear",
        "happiness",
        "neutral",
        "sadness",
        "surprise",
        "contempt",
        "anxiety",
        "helplessness",
        "disappointment",
    ),
)

CONTEMPT = "contempt"

LABEL_SETS = {s.name: s for s in (RAF_DB, AFFECTNET, AFFECTNET_7, FERPLUS, DFEW, FERV39K, MAFW)}

_SYNONYMS = {
    "happiness": ("happy", "joy", "joyful", "smiling", "pleased", "delighted"),
    "sadness": ("sad", "sorrow", "unhappy", "downcast"),
    "anger": ("angry", "mad", "furious", "annoyed"),
    "surprise": ("surprised", "astonished", "amazed"),
    "fear": ("fearful", "afraid", "scared", "frightened"),
    "disgust": ("disgusted", "revolted"),
    "neutral": ("calm", "neutrality", "expressionless", "no expression"),
    "contempt": ("contemptuous", "scornful"),
    "anxiety": ("anxious", "worried"),
    "helplessness": ("helpless",),
    "disappointment": ("disappointed",),
}
_CANONICAL = {word: label for label, words in _SYNONYMS.items() for word in (label, *words)}

LABEL_WORDS = tuple(_CANONICAL)
"""Every word that `canonical` understands, labels and synonyms."""


def canonical(word: str) -> str:
    """Return the label that `word` means ("Joy." → "happiness"), or the cleaned word itself when it means none."""
    cleaned = word.strip().strip(".!,;:\"'").lower()
    return _CANONICAL.get(cleaned, cleaned)


def label_set(name: str) -> LabelSet:
    """Return the label set called `name`; raise BadParameter when there is none."""
    try:
        return LABEL_SETS[name]
    except KeyError:
        known = ", ".join(sorted(LABEL_SETS))
        raise BadParameter(f"There is no label set '{name}'; choose one of: {known}.") from None
