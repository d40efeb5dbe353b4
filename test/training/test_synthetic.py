"""The sampled clips of nano: what they look like, and that what is said about them holds."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from emo_llama_ros.errors import BadParameter
from emo_llama_ros.evaluation.faithfulness import Tally, check
from emo_llama_ros.evidence.priors import UNIT_NUMBERS
from emo_llama_ros.labels import RAF_DB
from emo_llama_ros.training.synthetic import dialogue, readings, recordings, synthesis, trajectories
from emo_llama_ros.training.synthetic.clips import SyntheticClips
from emo_llama_ros.training.synthetic.items import SyntheticItems

RECORDINGS = Path(__file__).parents[2] / "config" / "train" / "nano_recordings.npz"


@pytest.fixture(scope="module")
def mean_face() -> np.ndarray:
    return recordings.load(RECORDINGS)[1]


@pytest.fixture(scope="module")
def clips(mean_face: np.ndarray) -> SyntheticClips:
    return synthesis.generate(synthesis.CHUNK, seed=3, max_frames=8, mean_face=mean_face, processes=1)


def test_the_same_seed_gives_the_same_clips(clips: SyntheticClips, mean_face: np.ndarray) -> None:
    again = synthesis.generate(synthesis.CHUNK, seed=3, max_frames=8, mean_face=mean_face, processes=1)
    np.testing.assert_array_equal(clips.evidence, again.evidence)
    np.testing.assert_array_equal(clips.expression, again.expression)


def test_every_label_comes_about_as_often() -> None:
    course = trajectories.sample(np.random.default_rng(0), 4000, 8)
    shares = np.bincount(course.labels, minlength=7) / 4000
    assert shares.min() > 0.08
    assert shares.max() < 0.3


def test_the_network_is_mostly_right_and_never_always() -> None:
    rng = np.random.default_rng(0)
    course = trajectories.sample(rng, 4000, 8)
    newest = readings.sample(rng, course)[:, -1].argmax(-1)
    right = (newest == trajectories.visible(course.shares[:, -1]).argmax(-1)).mean()
    assert 0.8 < right < 0.97


def test_sad_faces_may_close_their_eyes_and_draw_up_their_lip_corners(clips: SyntheticClips) -> None:
    sad = clips.movements[clips.labels == RAF_DB.index("sadness")]
    for unit in (12, 43):
        assert (sad[:, UNIT_NUMBERS.index(unit), 0] > 0).mean() > 0.03


def test_everything_drawn_to_be_said_holds(clips: SyntheticClips) -> None:
    rng, tally = np.random.default_rng(1), Tally()
    for draw in range(2000):
        facts = clips.facts(draw % len(clips), RAF_DB.labels, rng.dirichlet(np.full(7, 0.4)).tolist())
        for answer in (dialogue.ask(rng, facts)[1], dialogue.reasoning(facts)):
            tally.add(check(answer, facts.evidences, facts.probabilities, RAF_DB.labels, facts.phases))
    assert tally.sentences > 3000
    assert tally.share == 1.0, tally.examples


def test_a_conversation_is_told_what_was_measured_and_published_and_says_nothing_else(clips: SyntheticClips) -> None:
    items = SyntheticItems(clips, 300, seed=2, conversations=1.0)
    numbers = re.compile(r"\d\.\d s|AU\d+")
    for i in range(len(items)):
        label, first, *later = items[i].turns
        assert label.context.startswith("Measured ")
        assert first.context.startswith("Published: ")
        assert not any(turn.context for turn in later)
        for turn in (first, *later):
            assert turn.answer is not None
            said = set(numbers.findall(turn.answer)) - {f"{s:.1f} s" for s in (0.5, 1.0, 1.5, 2.0)}
            assert said <= set(numbers.findall(label.context)), (label.context, turn.answer)


def test_a_conversation_is_as_long_as_what_is_said_after_the_label(clips: SyntheticClips) -> None:
    items = SyntheticItems(clips, 64, seed=2, conversations=0.5)
    said = [sum(len(t.context + t.question + (t.answer or "")) for t in items[i].turns[1:]) for i in range(64)]
    assert items.lengths() == said


def test_the_length_of_an_item_does_not_tell_its_label(clips: SyntheticClips) -> None:
    assert set(SyntheticItems(clips, 64, seed=2).lengths()) == {0}


def test_the_same_draw_gives_the_same_dialogue(clips: SyntheticClips) -> None:
    facts = clips.facts(5, RAF_DB.labels, [0.05, 0.05, 0.05, 0.6, 0.15, 0.05, 0.05])
    assert dialogue.ask(np.random.default_rng(4), facts) == dialogue.ask(np.random.default_rng(4), facts)


def test_a_stage_may_ask_some_kinds_of_questions_more_often() -> None:
    kinds = dialogue.kinds_of({"changed": 0.4, "movement": 0.35})
    assert sum(kinds.values()) == pytest.approx(1.0)
    assert kinds["changed"] == 0.4
    assert kinds["why"] / kinds["sure"] == pytest.approx(dialogue.KINDS["why"] / dialogue.KINDS["sure"])
    assert dialogue.kinds_of({}) == dialogue.KINDS


@pytest.mark.parametrize(("changed", "said"), [({"weather": 0.1}, "'weather'"), ({"why": 0.9, "sure": 0.2}, "add up")])
def test_wrong_kinds_of_questions_are_refused(changed: dict[str, float], said: str) -> None:
    with pytest.raises(BadParameter, match=said):
        dialogue.kinds_of(changed)


def test_only_the_kinds_that_a_stage_wants_are_asked(clips: SyntheticClips) -> None:
    facts = clips.facts(5, RAF_DB.labels, [0.05, 0.05, 0.05, 0.6, 0.15, 0.05, 0.05])
    rng = np.random.default_rng(1)
    asked = {dialogue.ask(rng, facts, dialogue.kinds_of({"sure": 1.0}))[1] for _ in range(20)}
    assert asked == {dialogue.label_said(facts)}
