"""Estimates as JSON lines, table and bag."""

import csv
import json
from dataclasses import replace

import pytest
from rosbags.rosbag2 import Reader

from emo_llama_ros.errors import BadRecording
from emo_llama_ros.estimate import ActionUnit, Estimate, RegionOfInterest, Stage, StageTiming, Status
from emo_llama_ros.labels import RAF_DB
from emo_llama_ros.recordings.bag_writer import ESTIMATE, message_types
from emo_llama_ros.recordings.estimate_files import EstimateFiles, prepare_folder

HAPPY = Estimate(
    stamp_ns=1_700_000_000_000_000_001,
    frame_id="cam",
    estimate_id="e1",
    stage=Stage.FINAL,
    status=Status.OK,
    clip_start_ns=1_700_000_000_000_000_000,
    frame_count=8,
    model="m",
    face_id="ab12c",
    roi=RegionOfInterest(1, 2, 30, 40),
    label="happiness",
    confidence=0.75,
    label_set="raf-db",
    labels=RAF_DB.labels,
    probabilities=(0.05, 0.0, 0.0, 0.75, 0.0, 0.0, 0.2),
    reasoning='Smiles, "broadly"; größer.',
    action_units=(ActionUnit(12, "lip corner puller", 0.5), ActionUnit(6, "cheek raiser")),
)
NOBODY = Estimate(5, "cam", "e2", Stage.FINAL, Status.NO_FACE, 5, 1, "m", labels=RAF_DB.labels)


def write(folder, estimates):
    prepare_folder(folder)
    with EstimateFiles(folder, RAF_DB) as files:
        for estimate in estimates:
            files.write(estimate)
    return folder


def test_a_line_of_json_holds_the_message_fields_in_their_own_names(tmp_path, msg_fields):
    folder = write(tmp_path / "out", [HAPPY, NOBODY])
    happy, nobody = map(json.loads, (folder / "estimates.jsonl").read_text().splitlines())
    assert set(happy) == set(msg_fields("EmotionEstimate"))
    assert happy["header"] == {"stamp": 1_700_000_000_000_000_001, "frame_id": "cam"}
    assert happy["reasoning"] == HAPPY.reasoning
    assert happy["action_units"][1] == {"number": 6, "name": "cheek raiser", "intensity": None}
    assert (nobody["status"], nobody["label"], nobody["confidence"]) == (1, "", None)


def test_the_table_has_a_column_for_each_label(tmp_path):
    folder = write(tmp_path / "out", [HAPPY, NOBODY])
    with (folder / "estimates.csv").open(newline="") as file:
        happy, nobody = csv.DictReader(file)
    assert (happy["stage"], happy["status"], happy["label"]) == ("FINAL", "OK", "happiness")
    assert [float(happy[f"p_{label}"]) for label in RAF_DB.labels] == list(HAPPY.probabilities)
    assert (happy["action_units"], happy["reasoning"]) == ("12:0.5 6", HAPPY.reasoning)
    assert (happy["width"], happy["height"]) == ("40", "30")
    assert (nobody["status"], nobody["p_happiness"], nobody["confidence"]) == ("NO_FACE", "", "")


def test_the_bag_holds_the_same_estimates(tmp_path):
    folder = write(tmp_path / "out", [HAPPY, NOBODY])
    with Reader(folder / "bag") as reader:
        found = [(c.topic, time_ns, data) for c, time_ns, data in reader.messages()]
    assert [(topic, time_ns) for topic, time_ns, _ in found] == [("/emotion", 5), ("/emotion", HAPPY.stamp_ns)]
    assert message_types().deserialize_cdr(found[1][2], ESTIMATE).label == "happiness"


def test_what_depends_on_the_moment_is_left_out(tmp_path):
    hurried = replace(HAPPY, age_at_publish_ns=7, timings=(StageTiming("label", 9),))
    one, other = write(tmp_path / "a", [HAPPY]), write(tmp_path / "b", [hurried])
    for name in ("estimates.jsonl", "estimates.csv"):
        assert (one / name).read_bytes() == (other / name).read_bytes()


def test_earlier_results_are_replaced_only_on_demand(tmp_path):
    folder = write(tmp_path / "out", [HAPPY])
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(BadRecording, match="holds earlier results"):
        prepare_folder(folder)
    prepare_folder(folder, overwrite=True)
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadRecording, match="cannot be written"):
        prepare_folder(tmp_path / "file" / "out")
