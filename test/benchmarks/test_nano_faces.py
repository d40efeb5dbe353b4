"""The measurement of emo-llama-nano on real faces: what is shown to it, and how its words are counted."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest

pytest.importorskip("sklearn", reason="needs scikit-learn (extra: train)")

from emo_llama_ros.backends.expression import ExpressionBackend
from emo_llama_ros.errors import BadData
from emo_llama_ros.evidence.clip_measures import clip_facts
from emo_llama_ros.labels import RAF_DB
from emo_llama_ros.options import Options
from emo_llama_ros.training.synthetic import dialogue
from emo_llama_ros.training.synthetic.recordings import HELD_OUT, SOURCES

PICTURE = cv2.imencode(".png", np.zeros((2, 2), np.uint8))[1].tobytes()


@pytest.fixture(scope="module")
def script(repository):
    sys.path.insert(0, str(repository / "benchmarks"))
    try:
        import nano_faces
    finally:
        sys.path.remove(str(repository / "benchmarks"))
    return nano_faces


@pytest.fixture(scope="module")
def clips(script):
    return sys.modules["labelled_clips"]


@pytest.fixture(scope="module")
def words(script):
    return sys.modules["nano_words"]


@pytest.fixture(scope="module")
def smile(clips, media, analyzer):
    """The clips that the node cuts out of a man's smile."""
    media("single_face.mp4")
    return list(clips.video_clips("single_face.mp4", analyzer, Options(seed=1)))


def test_every_held_out_medium_is_measured_and_nothing_that_trains_counts_as_held_out(clips):
    assert {*clips.PICTURES, clips.HELD_OUT_VIDEO} == set(HELD_OUT)
    assert clips.TRAINED_VIDEO in {source.file for source in SOURCES}
    assert not set(HELD_OUT) & {source.file for source in SOURCES}


def test_a_folder_or_the_first_letters_of_a_file_name_the_label(clips, tmp_path):
    for name in ("joy/a.jpg", "angry.jpg", "surprised_2.png", "sad3.jpg", "amy1.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"names" if name.endswith(".txt") else PICTURE)
    said = []
    found = {path.name: label for path, label in clips.labelled_pictures(tmp_path, said.append)}
    assert found == {"a.jpg": "happiness", "angry.jpg": "anger", "surprised_2.png": "surprise", "sad3.jpg": "sadness"}
    assert said[0].startswith("1 of 5 pictures")


def test_a_folder_without_labels_is_refused_with_the_labels(clips, tmp_path):
    (tmp_path / "amy1.png").write_bytes(PICTURE)
    with pytest.raises(BadData, match="surprise, fear, disgust"):
        clips.labelled_pictures(tmp_path)


def test_each_picture_is_shown_still_and_held_and_its_copies_are_the_same_every_time(clips, media, analyzer):
    pictures = [(media("0-f15-hao-ph.jpg"), "happiness")]
    one, two = (list(clips.picture_clips(pictures, clips.PACKAGED, 1, 3, analyzer, Options())) for _ in range(2))
    assert [(c.still, c.altered, len(c.clip.faces)) for c in one] == [
        (True, False, 1), (False, False, 8), (True, True, 1), (False, True, 8),
    ]  # fmt: skip
    assert len({c.name for c in one}) == 4
    for a, b in zip(one, two, strict=True):
        assert np.array_equal(a.clip.faces[-1].crop, b.clip.faces[-1].crop)
    assert not np.array_equal(one[0].clip.faces[0].crop, one[2].clip.faces[0].crop)


def test_a_picture_without_a_face_is_wrong_for_everybody(clips, script, analyzer, tmp_path):
    cv2.imwrite(str(tmp_path / "happy.png"), np.full((200, 200, 3), 120, np.uint8))
    shown = list(clips.picture_clips([(tmp_path / "happy.png", "happiness")], clips.GIVEN, 0, 1, analyzer, Options()))
    answers = script.predictions(script.loaded(backend="expression"), shown)
    assert [script.said(a) for a in answers] == ["no_face", "no_face"]
    assert script.right(answers) == 0


def test_the_doubtful_stretch_of_the_video_has_no_label(clips):
    assert [clips.held_out_label(t) for t in (1.0, 5.9, 8.0, 12.0)] == ["sadness", "sadness", "", "happiness"]


def test_paraphrases_are_no_questions_of_the_training(words):
    lists = (value for value in vars(dialogue).values() if isinstance(value, tuple))
    trained = {text for found in lists for text in found if isinstance(text, str)}
    trained |= {question for _, questions in dialogue.MOVEMENTS for question in questions}
    trained |= {"", "What changed in the last second?"}
    for question in words.QUESTIONS:
        assert (question.text in trained) == question.trained


class Speaker(ExpressionBackend):
    """Labels as the expression backend does, and says what it is told to."""

    def __init__(self, say):
        super().__init__(Options())
        self.load()
        self._say = say

    def explain(self, clip, answer, question="", cancelled=lambda: False):
        yield self._say(question, clip_facts(clip, RAF_DB.labels, answer.probabilities))


def summary(words, smile, say):
    return words.Summary.of(words.talk(Speaker(say), smile, words.QUESTIONS))


def test_who_says_what_was_measured_is_faithful_word_for_word(words, smile):
    rules = {question.text: question.rule for question in words.QUESTIONS}
    found = summary(words, smile, lambda question, facts: rules[question](facts))
    assert found.answers == found.exact == len(smile) * len(words.QUESTIONS)
    assert found.met
    assert found.faithful == 1
    assert found.sentences[1] > len(smile)
    assert found.off_topic_declined == (4 * len(smile), 4 * len(smile))
    assert found.others_declined[0] == found.empty == found.cut == 0
    assert found.yes_no_right[0] == found.yes_no_right[1] > 0


def test_reasoning_and_answers_to_known_and_new_questions_are_judged_apart(words, smile):
    known = {question.text for question in words.QUESTIONS if question.trained}

    def say(question, facts):
        return "There are tears in the eyes." if question not in known else words.dialogue.reasoning(facts)

    spoken = Speaker(say)
    (more,) = words.talk(spoken, smile, [words.REASONS])
    reasoning, trained, new, every = words.by_origin(words.talk(spoken, smile, words.QUESTIONS), more).values()
    assert (reasoning.faithful, trained.faithful, new.faithful) == (1, 1, 0)
    assert (reasoning.verdict, new.verdict) == ("met", "NOT MET")
    assert reasoning.answers == 2 * len(smile)
    assert every.answers == reasoning.answers + trained.answers + new.answers


def test_who_invents_tears_is_not(words, smile):
    found = summary(words, smile, lambda question, facts: "There are tears in the eyes.")
    assert found.faithful == 0
    assert not found.met
    assert found.false_by_kind == {"unmeasured": found.answers}
    assert found.examples == ("There are tears in the eyes.",)
    assert found.off_topic_declined[0] == 0


def test_true_words_that_never_end_do_not_meet_the_target(words, smile):
    found = summary(words, smile, lambda question, facts: f"{facts.label} " * 90)
    assert found.faithful == 1
    assert found.cut == found.answers
    assert not found.met


def test_drift_counts_changed_labels_and_the_largest_step(script):
    def answer(*probabilities):
        return script.Prediction("a", "fear", "ok", probabilities)

    plain, quantized = [answer(0.6, 0.4), answer(0.9, 0.1)], [answer(0.45, 0.55), answer(0.8, 0.2)]
    assert script.Drift.between(plain, quantized) == script.Drift(2, 1, pytest.approx(0.15))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_packaged_nano_is_measured_to_the_end(repository, media, analyzer, tmp_path):
    if not (repository / "emo_llama_ros" / "model" / "nano" / "config.json").is_file():
        pytest.skip("emo_llama_ros/model/nano holds no model")
    for name in HELD_OUT:
        media(name)
    done = subprocess.run(
        [
            sys.executable,
            "benchmarks/nano_faces.py",
            "--quick",
            "--copies",
            "0",
            "--markdown",
            str(tmp_path / "card.md"),
        ],
        cwd=repository,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=580,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["clips"] > 30
    assert figures["words"]["answers"] > 0
    assert figures["nf4"]["clips"] > figures["clips"]
    assert "### NF4" in (tmp_path / "card.md").read_text()
