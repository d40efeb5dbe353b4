"""Conversations about synthetic clips, drawn anew each time a clip comes round."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.special import softmax
from torch.utils.data import Dataset

from emo_llama_ros.evidence import answer_note, evidence_note
from emo_llama_ros.labels import AFFECTNET, AFFECTNET_7, DFEW, FERPLUS, FERV39K, MAFW, RAF_DB, LabelSet
from emo_llama_ros.prompts import REASONING_QUESTION, Turn, label_turn, reasoning_turn
from emo_llama_ros.training.collate import Item
from emo_llama_ros.training.synthetic import dialogue
from emo_llama_ros.training.synthetic.clips import SyntheticClips

_OTHER_SETS = (AFFECTNET, AFFECTNET_7, DFEW, FERPLUS, FERV39K, MAFW)
_OWN_SET = 0.6
_OWN_ORDER = 0.8
"""Shares of category questions with RAF-DB's labels, and with a published set at all; the rest are drawn at random."""
_OWN_WORDS = 0.85
"""Share of conversations about RAF-DB's labels."""
_REASONS_FIRST = 0.55
"""Share of conversations that ask for the reasons before anything else, as the node does."""
_MORE_QUESTIONS = 0.8
"""Chance that one more question follows, up to `_MOST_QUESTIONS`."""
_MOST_QUESTIONS = 6


@dataclass(frozen=True, slots=True)
class SyntheticItems(Dataset[Item]):
    """`length` items about `clips`, item i about clip i modulo their number.

    Every item begins with a note of what was measured. Category items ask for the true label. Conversation items go on
    from a label that is given, with a note of how sure it was published: the words of certainty follow that.
    """

    clips: SyntheticClips
    length: int
    seed: int
    conversations: float = 0.0
    """Share of conversation items."""
    kinds: Mapping[str, float] = field(default_factory=lambda: dialogue.KINDS)
    """Kinds of questions in them, and the share of each."""

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Item:
        turns, label, words = self._turns(index)
        priors = self.clips.priors(self._clip(index))
        return Item(turns, label, face_priors=priors, words=words, given=len(turns) > 1)

    def lengths(self) -> list[int]:
        """Return about how long each conversation is, in characters after the label.

        The label's own turn does not count: with it, a batch of one length would be a batch of one label.
        """
        return [sum(len(said) for turn in self._turns(i)[0][1:] for said in _said(turn)) for i in range(len(self))]

    def _clip(self, index: int) -> int:
        return index % len(self.clips)

    def _turns(self, index: int) -> tuple[tuple[Turn, ...], str, str]:
        """Return the conversation of an item, the label in it, and what the Q-Formers read under (see `Item.words`)."""
        rng = np.random.default_rng((self.seed, index))
        clip = self._clip(index)
        if rng.random() >= self.conversations:
            label = RAF_DB.labels[int(self.clips.labels[clip])]
            return (self._label_turn(clip, _label_set(rng, label), label),), label, ""
        return self._conversation(rng, clip)

    def _conversation(self, rng: np.random.Generator, clip: int) -> tuple[tuple[Turn, ...], str, str]:
        label_set = RAF_DB if rng.random() < _OWN_WORDS else _OTHER_SETS[int(rng.integers(len(_OTHER_SETS)))]
        facts = self.clips.facts(clip, label_set.labels, belief(rng, dict(self.clips.readings(clip)), label_set))
        label = self._label_turn(clip, label_set, facts.label)
        talk: list[Turn] = []
        if rng.random() < _REASONS_FIRST:
            talk.append(reasoning_turn(dialogue.reasoning(facts)))
        while not talk or (len(talk) < _MOST_QUESTIONS and rng.random() < _MORE_QUESTIONS):
            talk.append(Turn(*dialogue.ask(rng, facts, self.kinds), image="none"))
        talk[0] = replace(talk[0], context=answer_note(facts.labels, facts.probabilities))
        # The first answer follows the label's own pass; a later one reads the clip again under its question.
        words = "" if talk[0].question == REASONING_QUESTION and rng.random() < 0.5 else talk[-1].question
        return (label, *talk), facts.label, words

    def _label_turn(self, clip: int, label_set: LabelSet, answer: str) -> Turn:
        video = int(self.clips.frames[clip]) > 1
        note = evidence_note(self.clips.facts(clip, label_set.labels))
        return label_turn(label_set, video=video, answer=answer, context=note)


def belief(rng: np.random.Generator, readings: Mapping[str, float], label_set: LabelSet) -> list[float]:
    """Return probabilities that a model might publish of a clip that the network reads so.

    From flat to sharp, and sometimes for another label than the network's: words follow what was published.
    """
    scores = np.log(np.maximum([readings.get(label, 0.0) for label in label_set.labels], 2e-3))
    scores = scores * rng.uniform(0.4, 1.6) + rng.normal(0, 0.6, len(scores))
    return softmax(scores).tolist()


def label_question(clips: SyntheticClips, clip: int) -> Item:
    """Return the item that asks for the label of a clip and has no answer yet."""
    note = evidence_note(clips.facts(clip, RAF_DB.labels))
    turn = label_turn(RAF_DB, video=int(clips.frames[clip]) > 1, context=note)
    return Item((turn,), face_priors=clips.priors(clip))


def _said(turn: Turn) -> tuple[str, str, str]:
    return turn.context, turn.question, turn.answer or ""


def _label_set(rng: np.random.Generator, label: str) -> LabelSet:
    kind = rng.random()
    if kind < _OWN_SET:
        return RAF_DB
    if kind < _OWN_ORDER:
        return _OTHER_SETS[int(rng.integers(len(_OTHER_SETS)))]
    others = [other for other in RAF_DB.labels if other != label]
    chosen = [label, *rng.choice(others, int(rng.integers(1, len(others) + 1)), replace=False).tolist()]
    return LabelSet("drawn", tuple(rng.permutation(chosen).tolist()))
