"""Conversations from measurements say what people labelled and what was measured, and nothing else."""

import sys
from pathlib import Path

import pytest

from emo_llama_ros.data.conversations import failures_path, write_conversations
from emo_llama_ros.data.datasets import Sample
from emo_llama_ros.data.datasets.clip_source import Faces
from emo_llama_ros.data.measured import MeasuredWriter, measured_turns
from emo_llama_ros.data.records import read_records
from emo_llama_ros.errors import MissingModel
from emo_llama_ros.evidence import About, Evidence, Phase, Trend, holds, parse
from emo_llama_ros.faces.make import make_analyzer
from emo_llama_ros.labels import RAF_DB
from emo_llama_ros.options import Options

sys.path.insert(0, str(Path(__file__).parent))
from dataset_trees import picture

SMILE = Evidence(12, 0.8, Trend.RISING, 1.0)


def test_a_still_image_has_one_turn_without_words_of_time():
    (turn,) = measured_turns("happiness", [Evidence(12, 0.8)], (), 0.0)
    assert turn.answer == (
        "The face shows happiness. The lip corners are strongly raised (AU12). This movement is typical of happiness."
    )


def test_a_clip_has_a_second_turn_about_its_changes():
    phases = (Phase("neutral", 2.0, 1.1), Phase("happiness", 1.1))
    first, second = measured_turns("happiness", [SMILE], phases, 2.0)
    assert "for the last 1.0 s, growing stronger" in first.answer
    assert second.answer.startswith("The expression changed from neutral to happiness 1.1 s before the end.")
    assert second.image == "none"


def test_a_course_that_contradicts_the_label_is_left_out():
    _, second = measured_turns("anger", [SMILE], (Phase("neutral", 2.0, 1.1), Phase("happiness", 1.1)), 2.0)
    assert "expression" not in second.answer


@pytest.mark.parametrize("label", RAF_DB.labels)
def test_every_statement_holds_under_the_given_label(label):
    certain = [1.0 if name == label else 0.0 for name in RAF_DB.labels]
    for evidences in ([], [SMILE], [Evidence(4, 0.5), Evidence(15, 0.2, Trend.FALLING, None, 0.4)]):
        for turn in measured_turns(label, evidences, (), 2.0):
            claims = parse(turn.answer)
            assert claims
            assert all(holds(c, evidences, certain, RAF_DB.labels) for c in claims), turn.answer
            assert all(c.about is not About.UNMEASURED for c in claims)


def test_real_faces_become_records(media, tmp_path):
    smile, nobody = media("single_face.mp4"), media("no_face.mp4")
    try:
        analyzer = make_analyzer(Options())
    except MissingModel as error:
        pytest.skip(str(error))
    picture(tmp_path / "grey.png")
    samples = [
        Sample("smile", smile, "happiness", "media", "test"),
        Sample("nobody", nobody, "neutral", "media", "test"),
        Sample("grey", tmp_path / "grey.png", "neutral", "media", "test"),
    ]
    writer = MeasuredWriter(analyzer, Faces.DETECT, Options())
    progress = write_conversations(samples, tmp_path / "c.jsonl", writer, concurrency=1, frames=8)
    assert (progress.written, progress.failed) == (1, 2)
    (record,) = read_records(tmp_path / "c.jsonl")
    assert record.medium == "video"
    assert "The lip corners have been strongly raised (AU12)" in record.turns[0].answer
    assert "No face was found" in failures_path(tmp_path / "c.jsonl").read_text()
