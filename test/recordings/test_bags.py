"""Bags are written as real ROS 2 tools expect them, and any rosbag2 is read as a stream of frames."""

import contextlib
import json
import os
import sqlite3
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import yaml
from rosbags.rosbag2 import CompressionFormat, CompressionMode, Reader, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from emo_llama_ros.errors import BadRecording
from emo_llama_ros.estimate import ActionUnit, Estimate, RegionOfInterest, Stage, StageTiming, Status
from emo_llama_ros.frames import RawFrame
from emo_llama_ros.recordings.bag_writer import ESTIMATE, BagWriter, message_types
from emo_llama_ros.recordings.bags import ImageBag
from emo_llama_ros.recordings.media import jpeg_frame

T0 = 1_700_000_000_123_456_789
TOPIC = "/camera/image_raw"


def image(stamp_ns=T0, encoding="bgr8", value=0, width=4, height=2):
    channels = {"bgr8": 3, "mono8": 1, "32FC1": 4, "16UC1": 2}[encoding]
    data = (np.arange(width * height * channels) + value).astype(np.uint8)
    return RawFrame(stamp_ns, "cam", data, encoding, width, height, width * channels)


def write(path, content, storage="sqlite3"):
    """Write {topic: frames} into a new bag, in the order of their stamps."""
    pairs = [(topic, frame) for topic, frames in content.items() for frame in frames]
    with BagWriter(path, storage) as bag:
        for topic, frame in sorted(pairs, key=lambda pair: pair[1].stamp_ns):
            bag.write_image(topic, frame)
    return path


def same(one, other):
    return all(np.array_equal(getattr(one, f.name), getattr(other, f.name)) for f in fields(RawFrame))


def read(path, name=None):
    with ImageBag(path) as bag:
        return list(bag.frames(bag.choose(name)))


@pytest.mark.parametrize("storage", ["sqlite3", "mcap"])
@pytest.mark.parametrize("compressed", [False, True])
def test_frames_come_back_as_they_were_written(tmp_path, storage, compressed):
    frames = [image(T0 + i * 10**8, value=i) for i in range(5)]
    if compressed:
        frames = [jpeg_frame(frame) for frame in frames]
    path = write(tmp_path / "bag", {TOPIC: frames}, storage)
    for source in (path, next(p for p in path.iterdir() if p.suffix in (".db3", ".mcap"))):
        assert all(same(a, b) for a, b in zip(read(source), frames, strict=True))
    with ImageBag(path) as bag:
        assert (bag.start_ns, bag.end_ns) == (T0, T0 + 4 * 10**8)
        assert bag.choose().count == 5


def test_the_metadata_is_what_rosbag2_reads(tmp_path):
    path = write(tmp_path / "bag", {TOPIC: [image()]})
    info = yaml.safe_load((path / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert info["version"] == 8
    assert info["storage_identifier"] == "sqlite3"
    assert info["message_count"] == 1
    (topic,) = (entry["topic_metadata"] for entry in info["topics_with_message_count"])
    assert (topic["name"], topic["type"]) == (TOPIC, "sensor_msgs/msg/Image")
    # Version 8 wants the QoS profiles as YAML inside a string, with the rmw numbers: keep last, reliable, volatile.
    (qos,) = yaml.safe_load(topic["offered_qos_profiles"])
    assert (qos["history"], qos["depth"], qos["reliability"], qos["durability"]) == (1, 10, 1, 2)
    assert qos["deadline"] == {"sec": 9223372036, "nsec": 854775807}


ESTIMATE_SAMPLE = Estimate(
    stamp_ns=T0,
    frame_id="cam",
    estimate_id="e1",
    stage=Stage.FINAL,
    status=Status.OK,
    clip_start_ns=T0 - 2 * 10**9,
    frame_count=8,
    model="expression",
    face_id="ab12c",
    roi=RegionOfInterest(1, 2, 3, 4),
    label="happiness",
    confidence=0.75,
    label_set="raf-db",
    labels=("happiness", "neutral"),
    probabilities=(0.75, 0.25),
    reasoning="Lip corners are raised: „größer“.",
    action_units=(ActionUnit(12, "lip corner puller", 0.5), ActionUnit(6, "cheek raiser")),
    age_at_publish_ns=5,
    timings=(StageTiming("label", 1_500_000_000),),
)


@pytest.mark.parametrize("storage", ["sqlite3", "mcap"])
def test_an_estimate_keeps_every_field(tmp_path, storage):
    with BagWriter(tmp_path / "bag", storage) as bag:
        bag.write_estimate("/emotion", ESTIMATE_SAMPLE)
    types = message_types()
    with Reader(tmp_path / "bag") as reader:
        ((connection, time_ns, data),) = reader.messages()
    assert (connection.topic, connection.msgtype, time_ns) == ("/emotion", ESTIMATE, T0)
    message = types.deserialize_cdr(data, ESTIMATE)
    e = ESTIMATE_SAMPLE
    assert message.header.stamp.sec * 10**9 + message.header.stamp.nanosec == e.stamp_ns
    assert message.clip_start.sec * 10**9 + message.clip_start.nanosec == e.clip_start_ns
    assert (message.stage, message.status, message.frame_count) == (1, 0, 8)
    for name in ("estimate_id", "face_id", "label", "label_set", "reasoning", "model", "confidence"):
        assert getattr(message, name) == getattr(e, name)
    assert (message.roi.x_offset, message.roi.y_offset, message.roi.height, message.roi.width) == (1, 2, 3, 4)
    assert (tuple(message.labels), message.probabilities.tolist()) == (e.labels, [0.75, 0.25])
    assert [(u.number, u.name) for u in message.action_units] == [(12, "lip corner puller"), (6, "cheek raiser")]
    assert message.action_units[0].intensity == 0.5
    assert np.isnan([message.action_units[1].intensity, message.valence, message.arousal]).all()
    assert (message.timings[0].duration.sec, message.timings[0].duration.nanosec) == (1, 500_000_000)
    assert (message.age_at_publish.sec, message.age_at_publish.nanosec) == (0, 5)


def test_rclpy_reads_what_was_written(tmp_path):
    serialization = pytest.importorskip("rclpy.serialization", reason="needs rclpy")
    messages = pytest.importorskip("emo_llama_ros.msg", reason="needs the generated messages (install the package)")
    sensor_msgs = pytest.importorskip("sensor_msgs.msg")
    frame = image()
    with BagWriter(tmp_path / "bag") as bag:
        bag.write_image(TOPIC, frame)
        bag.write_estimate("/emotion", ESTIMATE_SAMPLE)
    with Reader(tmp_path / "bag") as reader:
        raw = {connection.topic: data for connection, _, data in reader.messages()}
    estimate = serialization.deserialize_message(raw["/emotion"], messages.EmotionEstimate)
    assert (estimate.label, estimate.reasoning) == (ESTIMATE_SAMPLE.label, ESTIMATE_SAMPLE.reasoning)
    assert estimate.header.stamp.sec * 10**9 + estimate.header.stamp.nanosec == T0
    assert (estimate.action_units[0].number, estimate.action_units[0].intensity) == (12, 0.5)
    picture = serialization.deserialize_message(raw[TOPIC], sensor_msgs.Image)
    assert (picture.encoding, picture.step, bytes(picture.data)) == ("bgr8", 12, frame.data.tobytes())


def test_the_type_hash_is_the_one_that_the_message_generator_computed():
    types = message_types()
    prefixes = [*os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep), sys.prefix]
    found = [Path(p, "share/emo_llama_ros/msg/EmotionEstimate.json") for p in prefixes if p]
    generated = next((p for p in found if p.is_file()), None)
    if generated is None:
        pytest.skip("the generated EmotionEstimate.json is not there (build the package with ROS 2 first)")
    hashes = {h["type_name"]: h["hash_string"] for h in json.loads(generated.read_text())["type_hashes"]}
    assert types.hash_rihs01(ESTIMATE) == hashes[ESTIMATE]
    assert types.hash_rihs01("emo_llama_ros/msg/ActionUnit") == hashes["emo_llama_ros/msg/ActionUnit"]


def test_an_existing_bag_is_never_overwritten(tmp_path):
    path = write(tmp_path / "bag", {TOPIC: [image()]})
    with pytest.raises(BadRecording, match="exists already"), BagWriter(path):
        pass
    assert len(read(path)) == 1


def test_a_bag_stays_readable_when_writing_fails_midway(tmp_path):
    with contextlib.suppress(RuntimeError), BagWriter(tmp_path / "bag") as bag:
        bag.write_image(TOPIC, image())
        raise RuntimeError
    assert len(read(tmp_path / "bag")) == 1


# --- which topic ---


def choice(tmp_path, content, name=None):
    with ImageBag(write(tmp_path / "bag", content)) as bag:
        return bag.choose(name).name


def frames_at(count, **kind):
    return [image(T0 + i, **kind) for i in range(count)]


def test_the_only_topic_is_taken_whatever_its_name(tmp_path):
    assert choice(tmp_path, {"/depth/eye": frames_at(1)}) == "/depth/eye"


def test_colour_is_preferred_to_depth_and_infrared(tmp_path):
    content = {
        "/cam/aligned_depth_to_color/image_raw": frames_at(9, encoding="16UC1"),
        "/cam/infra1/image_rect_raw": frames_at(9, encoding="mono8"),
        "/cam/color/image_raw": frames_at(2),
    }
    assert choice(tmp_path, content) == "/cam/color/image_raw"


def test_a_topic_that_can_be_shown_is_preferred_to_measurements(tmp_path):
    assert choice(tmp_path, {"/a/rgb_range": frames_at(3, encoding="32FC1"), "/b/eye": frames_at(1)}) == "/b/eye"


def test_raw_is_preferred_to_compressed(tmp_path):
    compressed = [jpeg_frame(frame) for frame in frames_at(3)]
    assert choice(tmp_path, {f"{TOPIC}/compressed": compressed, TOPIC: frames_at(3)}) == TOPIC


def test_among_equals_the_fuller_topic_wins(tmp_path):
    assert choice(tmp_path, {"/a/image_raw": frames_at(1), "/b/image_raw": frames_at(2)}) == "/b/image_raw"


@pytest.mark.parametrize("name", ["left/image_raw", "/left/image_raw", "/left/image_raw/compressed"])
def test_a_named_topic_is_found_raw_or_compressed(tmp_path, name):
    compressed = [jpeg_frame(frame) for frame in frames_at(2)]
    content = {"/left/image_raw/compressed": compressed, "/right/image_raw": frames_at(5)}
    assert choice(tmp_path, content, name) == "/left/image_raw/compressed"


def test_a_topic_that_is_not_there_is_answered_with_those_that_are(tmp_path):
    with pytest.raises(BadRecording, match="no images on /nose; there are images on /a, /b"):
        choice(tmp_path, {"/a": frames_at(1), "/b": frames_at(1)}, "nose")


# --- strange bags ---


def test_a_frame_without_stamp_gets_the_time_of_recording(tmp_path):
    types = get_typestore(Stores.LATEST)
    with Writer(tmp_path / "bag", version=9) as writer:
        connection = writer.add_connection(TOPIC, "sensor_msgs/msg/Image", typestore=types)
        time, header, kind = (
            types.types[t] for t in ("builtin_interfaces/msg/Time", "std_msgs/msg/Header", "sensor_msgs/msg/Image")
        )
        for stamp in (0, 5):
            message = kind(header(time(stamp, 0), "cam"), 1, 1, "mono8", 0, 1, np.zeros(1, np.uint8))
            writer.write(connection, T0, types.serialize_cdr(message, kind.__msgtype__))
    with ImageBag(tmp_path / "bag") as bag:
        assert [frame.stamp_ns for frame in bag.frames(bag.choose())] == [T0, 5 * 10**9]
        assert bag.unstamped == 1


@pytest.mark.parametrize("mode", [CompressionMode.FILE, CompressionMode.MESSAGE])
def test_compressed_bags_with_foreign_types_and_broken_messages_are_read(tmp_path, mode):
    types = get_typestore(Stores.LATEST)
    types.register(get_types_from_msg("uint8 x\n", "vendor_msgs/msg/Thing"))
    with BagWriter(tmp_path / "plain") as bag:
        bag.write_image(TOPIC, image())
    with Reader(tmp_path / "plain") as reader:
        ((_, _, good),) = reader.messages()
    writer = Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.SQLITE3)
    writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer:
        thing = writer.add_connection("/thing", "vendor_msgs/msg/Thing", typestore=types)
        images = writer.add_connection(TOPIC, "sensor_msgs/msg/Image", typestore=types)
        writer.write(thing, T0 - 10, b"\x00\x01\x00\x00\x07")
        for i, data in enumerate([good, good[:20], b"\x00", good]):
            writer.write(images, T0 + i, data)
    with ImageBag(tmp_path / "bag") as bag:
        assert len(list(bag.frames(bag.choose()))) == 2
        assert bag.unreadable == 2


def test_a_recording_that_was_never_finished_is_read_without_its_metadata(tmp_path):
    path = write(tmp_path / "bag", {TOPIC: [image(), image(T0 + 1)]})
    (path / "metadata.yaml").unlink()
    assert len(read(path)) == 2


def test_a_humble_bag_without_message_definitions_is_read(tmp_path):
    path = write(tmp_path / "bag", {TOPIC: [image()]})
    (database,) = path.glob("*.db3")
    with sqlite3.connect(database) as connection:
        connection.execute("DROP TABLE message_definitions")
        connection.execute("ALTER TABLE topics DROP COLUMN type_description_hash")
        connection.execute("UPDATE schema SET schema_version = 3")
    text = (path / "metadata.yaml").read_text().replace("version: 8", "version: 5")
    (path / "metadata.yaml").write_text(text)
    assert len(read(path)) == 1


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        (lambda path: None, "There is no bag"),
        (lambda path: path.mkdir(), "holds no rosbag2"),
        (lambda path: path.write_text("hello"), "cannot be read"),
        (lambda path: write(path, {TOPIC: []}), "no image topic"),
        (lambda path: [write(path, {TOPIC: [image()]}), next(path.glob("*.db3")).write_bytes(b"")], "db3 is empty"),
        (lambda path: [write(path, {TOPIC: [image()]}), next(path.glob("*.db3")).unlink()], "names bag.db3, which is"),
        (lambda path: path.write_bytes(b"#ROSBAG V2.0\n"), "is a bag of ROS 1"),
    ],
)
def test_what_is_no_bag_is_refused_with_one_sentence(tmp_path, prepare, reason):
    prepare(tmp_path / "bag")
    with pytest.raises(BadRecording, match=reason) as caught:
        read(tmp_path / "bag")
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")
