"""Conversations about clue clips, drawn anew each time a clip comes round."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from torch.utils.data import Dataset

from emo_llama_ros.labels import AFFECTNET, AFFECTNET_7, DFEW, FERPLUS, FERV39K, MAFW, RAF_DB, LabelSet
from emo_llama_ros.prompts import REASONING_QUESTION, Turn, label_turn, reasoning_turn
from emo_llama_ros.training.clue_clips import dialogue
from emo_llama_ros.training.clue_clips.clue_clips import ClueClips
from emo_llama_ros.training.collate import Item

_OTHER_SETS = (AFFECTNET, AFFECTNET_7, DFEW, FERPLUS, FERV39K, MAFW)
_OWN_SET = 0.6
_OWN_ORDER = 0.8
"""Shares of category questions with RAF-DB's labels, and with a published set at all; the rest are drawn at random."""
_AGAIN = 0.25
"""Share of conversations in which the reasons were given before another question."""


@dataclass(frozen=True, slots=True)
class ClueItems(Dataset[Item]):
    """`length` items about `clips`, item i about clip i modulo their number.

    Category items ask for the true label. Conversation items go on from the model's own label: what they say of
    certainty is `posteriors`, what the model itself made of the clips, so that words and published numbers agree.
    """

    clips: ClueClips
    length: int
    seed: int
    conversations: float = 0.0
    """Share of conversation items."""
    posteriors: np.ndarray | None = None
    """(N, 7) calibrated probabilities of RAF-DB's labels; needed for conversations."""

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Item:
        rng = np.random.default_rng((self.seed, index))
        clip = index % len(self.clips)
        if rng.random() < self.conversations:
            return self._conversation(rng, clip)
        return self._category(rng, clip)

    def _category(self, rng: np.random.Generator, clip: int) -> Item:
        label = RAF_DB.labels[int(self.clips.labels[clip])]
        turn = label_turn(_label_set(rng, label), video=self._is_video(clip), answer=label)
        return Item((turn,), label, face_priors=self.clips.priors(clip))

    def _conversation(self, rng: np.random.Generator, clip: int) -> Item:
        assert self.posteriors is not None
        facts = self.clips.facts(clip, self.posteriors[clip].tolist())
        turns = [label_turn(RAF_DB, video=self._is_video(clip), answer=facts.label)]
        reasons = reasoning_turn(dialogue.reasoning(facts))
        words = ""
        if rng.random() < 0.5:
            turns.append(reasons)
        else:
            question, answer = dialogue.ask(rng, facts)
            if rng.random() < _AGAIN:
                turns.append(reasons)
            turns.append(Turn(question, answer, image="none"))
            words = question
        if rng.random() < 0.05:
            words = REASONING_QUESTION
        priors = self.clips.priors(clip)
        return Item(tuple(turns), facts.label, face_priors=priors, words=words, given=1)

    def _is_video(self, clip: int) -> bool:
        return int(self.clips.frames[clip]) > 1


def label_question(clips: ClueClips, clip: int) -> Item:
    """Return the item that asks for the label of a clip and has no answer yet."""
    turn = label_turn(RAF_DB, video=int(clips.frames[clip]) > 1)
    return Item((replace(turn, answer=None),), face_priors=clips.priors(clip))


def _label_set(rng: np.random.Generator, label: str) -> LabelSet:
    kind = rng.random()
    if kind < _OWN_SET:
        return RAF_DB
    if kind < _OWN_ORDER:
        return _OTHER_SETS[int(rng.integers(len(_OTHER_SETS)))]
    others = [other for other in RAF_DB.labels if other != label]
    chosen = [label, *rng.choice(others, int(rng.integers(1, len(others) + 1)), replace=False).tolist()]
    return LabelSet("drawn", tuple(rng.permutation(chosen).tolist()))
