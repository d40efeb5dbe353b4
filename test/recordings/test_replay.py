"""Offline replay of real recordings: what is read, what comes out, and that it repeats."""

import json
import re
import sqlite3
import struct
from collections import Counter
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from rosbags.rosbag2 import Reader

from emo_llama_ros.engine.offline import OfflineEngine
from emo_llama_ros.errors import BadParameter, BadRecording, EmoError, MissingModel
from emo_llama_ros.frames import RawFrame
from emo_llama_ros.install.fetch import model_file
from emo_llama_ros.options import Options, specs
from emo_llama_ros.recordings.bag_writer import BagWriter
from emo_llama_ros.recordings.bags import ImageBag
from emo_llama_ros.recordings.media import bgr_frame, file_frames, jpeg_frame
from emo_llama_ros.recordings.replay import LIVE_ONLY, refuse_live_only, replay

TOPIC = "/camera/image_raw"
OPTIONS = Options(image_converter="builtin")


@pytest.fixture(scope="module", autouse=True)
def networks():
    try:
        model_file("face_landmarks_detector.tflite")
    except MissingModel as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def bag_of(media, tmp_path_factory):
    """Return a bag of the named media; made once."""
    bags: dict[tuple, Path] = {}

    def make(*names, compressed=False, **options):
        key = names, compressed, *options.items()
        if key not in bags:
            bags[key] = tmp_path_factory.mktemp("bags") / Path(names[0]).stem
            with BagWriter(bags[key], "mcap" if compressed else "sqlite3") as bag:
                for frame in file_frames([media(name) for name in names], **options):
                    bag.write_image(TOPIC, jpeg_frame(frame) if compressed else frame)
        return bags[key]

    return make


@pytest.fixture(scope="module")
def smile(bag_of, tmp_path_factory):
    """A replay of the smile video, with its folder."""
    folder = tmp_path_factory.mktemp("smile") / "out"
    return replay(bag_of("single_face.mp4"), folder, OPTIONS), folder


def answers(result):
    """The estimates with one entry for each clip."""
    return list({e.estimate_id: e for e in result.estimates}.values())


def test_all_results_are_written(smile):
    _, folder = smile
    assert sorted(path.name for path in folder.iterdir()) == [
        "bag",
        "estimates.csv",
        "estimates.jsonl",
        "report.json",
        "timeline.png",
    ]
    lines = [json.loads(line) for line in (folder / "estimates.jsonl").read_text().splitlines()]
    with Reader(folder / "bag") as reader:
        assert [c.topic for c in reader.connections] == ["/emotion"]
        assert reader.message_count == len(lines) > 3
    assert (folder / "estimates.csv").read_text().count("\n") == len(lines) + 1


def test_every_stamp_is_that_of_a_frame(smile, media):
    result, _ = smile
    assert {e.stamp_ns for e in result.estimates} <= {f.stamp_ns for f in file_frames([media("single_face.mp4")])}


def test_the_same_bag_gives_the_same_bytes(smile, bag_of, tmp_path):
    _, folder = smile
    replay(bag_of("single_face.mp4"), tmp_path / "again", OPTIONS)
    for name in ("estimates.jsonl", "estimates.csv"):
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_the_report_accounts_for_every_frame(smile):
    result, folder = smile
    report = json.loads((folder / "report.json").read_text())
    frames = report["frames"]
    assert frames["read"] == 72 == frames["used"] + frames["skipped"] + frames["bad_image"] + frames["old_stamp"]
    assert report["estimates"]["written"] == len(result.estimates)
    assert sum(report["estimates"]["by_status"].values()) == len(answers(result))
    assert report["latency_ms"]["faces"]["p50"] > 0
    assert report["options"] == {"image_converter": "builtin", "seed": 1}
    assert report["model"].startswith("emo-llama-nano")
    assert not report["interrupted"]


@pytest.mark.parametrize("backend", ["emo_llama", "expression"])
def test_the_smile_is_seen_when_it_comes(smile, bag_of, tmp_path, backend):
    options = replace(OPTIONS, backend=backend)
    result = smile[0] if options == OPTIONS else replay(bag_of("single_face.mp4"), tmp_path / "out", options)
    found = [((e.stamp_ns - result.start_ns) / 1e9, e.label) for e in answers(result)]
    assert len(result.people) == 1
    assert found[0][1] == "neutral"
    first_smile = min(time for time, label in found if label == "happiness")
    assert first_smile <= 0.5 + 1.0  # the smile begins at about frame 15 of 30 per second


def test_a_compressed_bag_shows_the_same_smile(bag_of, tmp_path):
    result = replay(bag_of("single_face.mp4", compressed=True), tmp_path / "out", OPTIONS)
    labels = [e.label for e in answers(result)]
    assert result.topic.compressed
    assert (labels[0], labels[-1]) == ("neutral", "happiness")


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["emo_llama", "expression"])
def test_sadness_turns_into_happiness(bag_of, tmp_path, backend):
    options = replace(OPTIONS, backend=backend)
    result = replay(bag_of("WolfgangLanger_Pexels.mp4"), tmp_path / "out", options)
    third = result.seconds / 3
    found = [((e.stamp_ns - result.start_ns) / 1e9, e.label) for e in answers(result)]
    assert len(result.people) == 1
    assert Counter(label for time, label in found if time < third).most_common(1)[0][0] == "sadness"
    assert {label for time, label in found if time > 2 * third} == {"happiness"}


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["emo_llama", "expression"])
def test_a_group_is_followed_and_everybody_smiles(bag_of, tmp_path, backend):
    options = replace(OPTIONS, backend=backend)
    result = replay(bag_of("multi_face.jpg", hold_s=2.0), tmp_path / "out", options, thumbnails=True)
    by_person = {face_id: {e.label for e in answers(result) if e.face_id == face_id} for face_id in result.people}
    assert 4 <= len(by_person) <= 5
    assert sum("happiness" in labels for labels in by_person.values()) >= 3


def test_where_nobody_is_the_status_says_so(bag_of, tmp_path):
    result = replay(bag_of("no_face.mp4", fps=10), tmp_path / "out", OPTIONS)
    assert set(result.statuses()) == {"NO_FACE"}
    assert not any(e.label or e.face_id for e in result.estimates)


def test_an_interrupted_replay_keeps_what_it_has(bag_of, tmp_path):
    def stop_early(done, total):
        assert total == 72
        if done == 40:
            raise KeyboardInterrupt

    result = replay(bag_of("single_face.mp4"), tmp_path / "out", OPTIONS, progress=stop_early)
    assert result.interrupted
    assert result.frames == 40
    assert (tmp_path / "out" / "timeline.png").exists()
    assert json.loads((tmp_path / "out" / "report.json").read_text())["interrupted"] is True
    with Reader(tmp_path / "out" / "bag") as reader:
        assert reader.message_count == len(result.estimates)


def test_bad_images_are_counted_and_the_rest_is_read(bag_of, media, tmp_path):
    frames = list(file_frames([media("single_face.mp4")]))
    frames[3] = replace(frames[3], step=7)
    frames[6] = RawFrame(frames[6].stamp_ns, "camera", np.zeros(0, np.uint8), "bgr8", 0, 0, 0)
    with BagWriter(tmp_path / "bag") as bag:
        for frame in frames:
            bag.write_image(TOPIC, frame)
    result = replay(tmp_path / "bag", tmp_path / "out", OPTIONS)
    assert result.stats.drops["bad_image"] == 2
    assert result.stats.used + result.stats.skipped == 70
    assert result.people


def test_a_bag_without_a_single_good_image_is_an_error_with_the_reason(tmp_path):
    with BagWriter(tmp_path / "bag") as bag:
        for i in range(3):
            bag.write_image(TOPIC, RawFrame(10**18 + i * 10**9, "", np.zeros(4, np.uint8), "bgr8", 2, 2, 6))
    with pytest.raises(BadRecording, match=r"None of the 3 images on \S+ could be used: .* needs 12 bytes"):
        replay(tmp_path / "bag", tmp_path / "out", OPTIONS)


# --- when there is nothing to say ---

FAST = replace(OPTIONS, backend="expression")


def face_bag(path, media, stamps_s, header_s=None):
    """A bag of one face, recorded at `stamps_s` seconds, with other stamps in the headers if given."""
    face = cv2.resize(cv2.imread(str(media("single_face.jpg"))), (320, 314))
    with BagWriter(path) as bag:
        for seconds in stamps_s:
            frame = bgr_frame(face, 10**18 + round(seconds * 1e9), "cam")
            bag.write_image(TOPIC, frame)
    if header_s is not None:
        with sqlite3.connect(path / f"{path.name}.db3") as database:
            for i, seconds in enumerate(header_s, 1):
                (data,) = database.execute("SELECT data FROM messages WHERE id = ?", (i,)).fetchone()
                head = struct.pack("<iI", *divmod(round(seconds * 1e9), 10**9))
                database.execute("UPDATE messages SET data = ? WHERE id = ?", (data[:4] + head + data[12:], i))
    return path


@pytest.mark.parametrize("header", [lambda i: 7, lambda i: 0, lambda i: 100 - i])
def test_a_driver_that_stamps_every_frame_alike_is_read_by_the_times_of_recording(media, tmp_path, header):
    times = [i / 10 for i in range(20)]
    bag = face_bag(tmp_path / "bag", media, times, [header(i) for i in range(20)])
    result = replay(bag, tmp_path / "out", FAST)
    assert result.statuses()["OK"] >= 2
    assert result.seconds == pytest.approx(1.9)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["frames"]["without_stamp"] == 20
    assert "the times of recording were taken" in report["notes"][0]


@pytest.mark.parametrize(
    ("times", "options", "reason"),
    [
        ([0.0, 0.1, 0.2], {}, r"span 0\.2 s, and a person gets a first estimate when seen for clip_min_s \(0\.5 s\)"),
        ([0.0, 0.0, 0.0, 0.0], {}, r"3 of 4 frames carry a stamp no later than that of the frame before"),
    ],
)
def test_an_empty_result_says_why(media, tmp_path, times, options, reason):
    result = replay(face_bag(tmp_path / "bag", media, times), tmp_path / "out", FAST.with_values(options))
    assert not result.estimates
    assert re.search(reason, result.reason)
    assert json.loads((tmp_path / "out" / "report.json").read_text())["no_estimates_because"] == result.reason


@pytest.mark.parametrize("interval_s", [2.0, 5.0])
def test_a_camera_of_a_frame_in_seconds_is_read(media, tmp_path, interval_s):
    result = replay(face_bag(tmp_path / "bag", media, [i * interval_s for i in range(4)]), tmp_path / "out", FAST)
    assert result.statuses()["OK"] >= 2
    assert not result.reason


def test_messages_that_are_no_images_are_an_error(media, tmp_path):
    bag = face_bag(tmp_path / "bag", media, [0.0, 0.1])
    with sqlite3.connect(bag / "bag.db3") as database:
        database.execute("UPDATE messages SET data = x'0001000000'")
    with pytest.raises(BadRecording, match=rf"None of the 2 images on {TOPIC} could be used: none is a valid message"):
        replay(bag, tmp_path / "out", FAST)
    assert list((tmp_path / "out").iterdir()) == []


def test_options_that_an_offline_replay_never_reads_are_refused(media, tmp_path):
    read = set()

    class Watched(Options):
        def __getattribute__(self, name):
            read.add(name)
            return super().__getattribute__(name)

    engine = OfflineEngine(Watched(backend="expression", seed=1))
    engine.load()
    read_while_made = frozenset(read)
    with ImageBag(face_bag(tmp_path / "bag", media, [i / 10 for i in range(10)])) as bag:
        for frame in bag.frames(bag.choose()):
            engine.process(frame)
    assert "reasoning" in read
    assert "analysis_rate_hz" in read_while_made
    assert set(specs()) >= LIVE_ONLY
    assert not read & LIVE_ONLY
    with pytest.raises(BadParameter, match="'worker_nice' changes nothing in an offline replay"):
        refuse_live_only(["clip_s", "worker_nice"])


def test_results_are_never_overwritten_unasked_nor_the_bag_that_is_read(smile, bag_of):
    _, folder = smile
    with pytest.raises(BadRecording, match="earlier results"):
        replay(bag_of("single_face.mp4"), folder, OPTIONS)
    with pytest.raises(EmoError, match=r"no image topic|holds the bag"):
        replay(folder / "bag", folder, OPTIONS, overwrite=True)
    assert (folder / "bag" / "metadata.yaml").exists()
