"""Does the reasoning say only what was measured?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from emo_llama_ros.evaluation.prediction import Prediction
from emo_llama_ros.evidence import About, Claim, Evidence, Phase, holds, parse


@dataclass(frozen=True, slots=True)
class Faithfulness:
    """The claims of one text, each checked."""

    checked: tuple[tuple[Claim, bool], ...] = ()

    @property
    def claims(self) -> int:
        """Number of claims."""
        return len(self.checked)

    @property
    def claims_held(self) -> int:
        """Number of claims that are true of the measurements."""
        return sum(true for _, true in self.checked)

    @property
    def sentences(self) -> int:
        """Number of sentences that claim anything about the face."""
        return len(self._by_sentence())

    @property
    def sentences_held(self) -> int:
        """Number of these sentences that are true in every claim."""
        return sum(self._by_sentence().values())

    @property
    def unfaithful(self) -> tuple[str, ...]:
        """The sentences with a false claim."""
        return tuple(sentence for sentence, true in self._by_sentence().items() if not true)

    def _by_sentence(self) -> dict[str, bool]:
        found: dict[str, bool] = {}
        for claim, true in self.checked:
            found[claim.sentence] = found.get(claim.sentence, True) and true
        return found


def check(
    text: str,
    evidences: Sequence[Evidence],
    probabilities: Sequence[float],
    labels: Sequence[str],
    phases: Sequence[Phase] = (),
) -> Faithfulness:
    """Return each claim of `text` with whether it holds; sentences without a claim about the face do not count.

    A sentence about the face in words that nothing measures ("tears in the eyes") is a false claim. Arguments as in
    `evidence.holds`.
    """
    return Faithfulness(tuple((claim, holds(claim, evidences, probabilities, labels, phases)) for claim in parse(text)))


@dataclass(slots=True)
class Tally:
    """Sums over many texts."""

    texts: int = 0
    sentences: int = 0
    sentences_held: int = 0
    false_by_kind: Counter[About] = field(default_factory=Counter)
    """What false claims are about."""
    examples: list[str] = field(default_factory=list)
    """Some unfaithful sentences, for people."""

    def add(self, found: Faithfulness, most_examples: int = 20) -> None:
        """Count one text."""
        self.texts += 1
        self.sentences += found.sentences
        self.sentences_held += found.sentences_held
        self.false_by_kind.update(claim.about for claim, true in found.checked if not true)
        self.examples += found.unfaithful[: most_examples - len(self.examples)]

    @property
    def share(self) -> float:
        """Share of sentences that hold; 1 when nothing was said."""
        return self.sentences_held / self.sentences if self.sentences else 1.0


def tally_of(predictions: Sequence[Prediction], most_examples: int = 20) -> Tally:
    """Return the sums over predictions whose reasoning was checked."""
    tally = Tally()
    for p in predictions:
        if p.reasoning:
            tally.texts += 1
            tally.sentences += p.sentences
            tally.sentences_held += p.sentences_held
            tally.false_by_kind.update(About(name) for name in p.false_claims)
            tally.examples += p.unfaithful[: most_examples - len(tally.examples)]
    return tally
