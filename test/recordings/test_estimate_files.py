"""Estimates as JSON lines, table and bag."""

import csv
import json
import os
import signal
from dataclasses import replace

import numpy as np
import pytest
from rosbags.rosbag2 import Reader

from emo_llama_ros.errors import BadRecording
from emo_llama_ros.estimate import ActionUnit, Estimate, RegionOfInterest, Stage, StageTiming, Status
from emo_llama_ros.frames import RawFrame
from emo_llama_ros.labels import RAF_DB
from emo_llama_ros.recordings.bag_writer import ESTIMATE, BagWriter, message_types
from emo_llama_ros.recordings.estimate_files import RESULT_NAMES, EstimateFiles, prepare_folder, published

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
    before = {path.name for path in folder.iterdir()}
    prepare_folder(folder, overwrite=True)
    assert {path.name for path in folder.iterdir()} == before  # until there are others to take their place


def results(folder, estimates, fail=False):
    """Write complete results as a replay does."""
    prepare_folder(folder, overwrite=True)
    with published(folder) as partial:
        with EstimateFiles(partial, RAF_DB) as files:
            for estimate in estimates:
                files.write(estimate)
        assert not fail, "stopped"
        (partial / "timeline.png").write_bytes(b"Matplotlib")
        (partial / "report.json").write_text('{"emo_llama_ros": "1"}')


def lines(folder):
    return len((folder / "estimates.jsonl").read_text().splitlines())


def test_results_appear_when_all_are_written_and_earlier_ones_stay_until_then(tmp_path):
    folder = tmp_path / "out"
    results(folder, [HAPPY])
    with pytest.raises(AssertionError, match="stopped"):
        results(folder, [HAPPY, NOBODY], fail=True)
    assert lines(folder) == 1
    results(folder, [HAPPY, NOBODY])
    assert lines(folder) == 2
    with Reader(folder / "bag") as reader:
        assert reader.message_count == 2
    assert sorted(path.name for path in folder.iterdir()) == sorted(RESULT_NAMES)


def test_a_killed_process_leaves_nothing_that_looks_whole_and_every_line_it_had(tmp_path):
    folder = tmp_path / "out"
    results(folder, [HAPPY])
    if os.fork() == 0:
        prepare_folder(folder, overwrite=True)
        with published(folder) as partial, EstimateFiles(partial, RAF_DB) as files:
            for _ in range(3):
                files.write(NOBODY)
            os.kill(os.getpid(), signal.SIGKILL)
    os.wait()
    assert lines(folder) == 1
    assert lines(folder / ".partial") == 3
    assert not (folder / ".partial" / "bag").exists()
    results(folder, [HAPPY, NOBODY])
    assert sorted(path.name for path in folder.iterdir()) == sorted(RESULT_NAMES)


@pytest.mark.parametrize("name", RESULT_NAMES)
def test_files_of_the_user_are_never_overwritten(tmp_path, name):
    mine = tmp_path / name / "notes.txt" if name == "bag" else tmp_path / name
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("mine, and longer than nothing")
    with pytest.raises(BadRecording, match=rf"{name} is no earlier result"):
        prepare_folder(tmp_path, overwrite=True)
    assert mine.read_text().startswith("mine")


def test_a_camera_recording_called_bag_is_never_overwritten(tmp_path):
    with BagWriter(tmp_path / "bag") as bag:
        bag.write_image("/camera/image_raw", RawFrame(5, "", np.zeros(3, np.uint8), "bgr8", 1, 1, 3))
    with pytest.raises(BadRecording, match="bag is no earlier result"):
        prepare_folder(tmp_path, overwrite=True)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadRecording, match="cannot be written"):
        prepare_folder(tmp_path / "file" / "out")
