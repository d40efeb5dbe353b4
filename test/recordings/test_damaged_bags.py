"""Of recordings that are unfinished, compressed, split, renamed or edited, all that can be read is read, and told."""

import os
import shutil
import sqlite3
import struct
import sys

import numpy as np
import pytest
import yaml
from rosbags.rosbag2 import CompressionFormat, CompressionMode, Reader, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from emo_llama_ros.errors import BadRecording
from emo_llama_ros.frames import RawFrame
from emo_llama_ros.recordings.bag_writer import IMAGE, BagWriter
from emo_llama_ros.recordings.bags import ImageBag

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

T0 = 1_700_000_000_000_000_000
TOPIC = "/camera/image_raw"
SUFFIX = {"sqlite3": "db3", "mcap": "mcap"}
STORAGES = pytest.mark.parametrize("storage", list(SUFFIX))


def image(number, size=64):
    """A picture of noise, which no compression makes small, with its number as first pixel and stamp."""
    data = np.random.default_rng(number).integers(0, 255, size * size * 3, np.uint8)
    data[0] = number
    return RawFrame(T0 + number * 10**8, "cam", data, "bgr8", size, size, size * 3)


def record(path, numbers, storage="sqlite3", metadata=True):
    """Write the images of these numbers and return the one storage file."""
    with BagWriter(path, storage) as bag:
        for number in numbers:
            bag.write_image(TOPIC, image(number))
    if not metadata:
        (path / "metadata.yaml").unlink()
    return path / f"{path.name}.{SUFFIX[storage]}"


def split(folder, parts, storage, name="rec_{}"):
    """Write a recording of `parts` files with three images each, without metadata."""
    folder.mkdir()
    for i in range(parts):
        file = record(folder.parent / f"part{i}", range(3 * i, 3 * i + 3), storage)
        shutil.move(file, folder / f"{name.format(i)}.{SUFFIX[storage]}")
    return folder


def read(path):
    """Return the numbers of the images and the notes; every image must be whole."""
    with ImageBag(path) as bag:
        topic = bag.choose()
        frames = list(bag.frames(topic))
        assert bag.unreadable == 0
        assert topic.count == len(frames)
        for frame in frames:
            assert np.array_equal(frame.data, image(int(frame.data[0])).data)
        return [int(frame.data[0]) for frame in frames], bag.notes


def metadata_of(folder, names, count, storage):
    entry = {"name": TOPIC, "type": IMAGE, "serialization_format": "cdr", "offered_qos_profiles": ""}
    about = {
        "version": 5,
        "storage_identifier": storage,
        "relative_file_paths": names,
        "duration": {"nanoseconds": 1},
        "starting_time": {"nanoseconds_since_epoch": T0},
        "message_count": count,
        "topics_with_message_count": [{"topic_metadata": entry, "message_count": count}],
    }
    (folder / "metadata.yaml").write_text(yaml.safe_dump({"rosbag2_bagfile_information": about}))


# --- split ---


@STORAGES
@pytest.mark.parametrize("name", ["rec_{}", "{}", "take 1_{}_final", "2024_{}"])
def test_twelve_splits_are_read_in_the_order_of_their_times(tmp_path, storage, name):
    folder = split(tmp_path / "rec", 12, storage, name)
    numbers, notes = read(folder)
    assert numbers == list(range(36))
    assert notes == ["There is no metadata.yaml, so the recording was not finished: its end may be missing."]


@STORAGES
def test_the_order_in_metadata_does_not_matter(tmp_path, storage):
    folder = split(tmp_path / "rec", 12, storage)
    metadata_of(folder, sorted(p.name for p in folder.iterdir()), 36, storage)
    assert read(folder) == (list(range(36)), [])


@STORAGES
def test_renamed_splits_are_read_in_the_order_of_their_times(tmp_path, storage):
    folder = split(tmp_path / "rec", 3, storage)
    metadata_of(folder, [f"rec_{i}.{SUFFIX[storage]}" for i in range(3)], 9, storage)
    for i, name in enumerate(("zebra", "monkey", "ant")):
        (folder / f"rec_{i}.{SUFFIX[storage]}").rename(folder / f"{name}.{SUFFIX[storage]}")
    numbers, notes = read(folder)
    assert numbers == list(range(9))
    assert notes[0].startswith("metadata.yaml names rec_0.")


def test_storage_is_known_by_content_whatever_the_suffix(tmp_path):
    folder = tmp_path / "rec"
    folder.mkdir()
    shutil.move(record(tmp_path / "a", range(3), "mcap"), folder / "rec_0.db3")
    shutil.move(record(tmp_path / "b", range(3, 6), "sqlite3"), folder / "rec_1.mcap")
    assert read(folder)[0] == list(range(6))
    for i, path in enumerate(sorted(folder.iterdir())):
        path.rename(folder / f"part{i}")
    assert read(folder)[0] == list(range(6))


@STORAGES
def test_a_missing_or_damaged_split_is_named_and_the_others_are_read(tmp_path, storage):
    suffix = SUFFIX[storage]
    folder = split(tmp_path / "rec", 4, storage)
    metadata_of(folder, [f"rec_{i}.{suffix}" for i in range(4)], 12, storage)
    (folder / f"rec_1.{suffix}").unlink()
    (folder / f"rec_2.{suffix}").write_bytes(b"")
    numbers, notes = read(folder)
    assert numbers == [0, 1, 2, 9, 10, 11]
    assert notes == [
        f"metadata.yaml names rec_1.{suffix}, which is not there.",
        f"rec_2.{suffix} is empty.",
        f"metadata.yaml counts 12 images on {TOPIC}, the files hold 6.",
    ]


@STORAGES
def test_files_that_metadata_does_not_name_are_read_where_they_go_on_and_left_out_where_they_are_copies(
    tmp_path, storage
):
    suffix = SUFFIX[storage]
    folder = split(tmp_path / "rec", 3, storage)
    metadata_of(folder, [f"rec_{i}.{suffix}" for i in range(2)], 6, storage)
    shutil.copy(folder / f"rec_0.{suffix}", folder / f"backup.{suffix}")
    numbers, notes = read(folder)
    assert numbers == list(range(9))
    assert notes == [
        f"rec_2.{suffix}, which metadata.yaml does not name, was read too.",
        f"backup.{suffix}, which metadata.yaml does not name, was left out.",
    ] or notes == [
        f"backup.{suffix}, which metadata.yaml does not name, was left out.",
        f"rec_2.{suffix}, which metadata.yaml does not name, was read too.",
    ]


# --- unfinished ---


def test_messages_in_a_write_ahead_log_are_read(tmp_path):
    database = record(tmp_path / "rec", range(30), metadata=False)
    if os.fork() == 0:  # a recorder in WAL mode that dies
        c = sqlite3.connect(database)
        rows = list(c.execute("SELECT topic_id, timestamp, data FROM messages"))
        c.execute("DELETE FROM messages")
        c.commit()
        c.execute("VACUUM")
        c.execute("PRAGMA journal_mode = WAL")
        c.execute("PRAGMA wal_autocheckpoint = 0")
        c.executemany("INSERT INTO messages(topic_id, timestamp, data) VALUES (?, ?, ?)", rows)
        c.commit()
        os._exit(0)
    os.wait()
    before = {p.name: p.read_bytes() for p in database.parent.iterdir() if not p.name.endswith("-shm")}
    assert read(tmp_path / "rec")[0] == list(range(30))
    for shm in database.parent.glob("*-shm"):
        shm.unlink()  # as after copying the two files
    assert read(database)[0] == list(range(30))
    assert {p.name: p.read_bytes() for p in database.parent.iterdir()} == before
    database.rename(database.with_name("renamed.db3"))
    with pytest.raises(BadRecording, match=r"rec\.db3-wal belongs to a database rec\.db3, which is not there"):
        read(tmp_path / "rec")


def test_a_transaction_that_was_never_finished_is_undone_in_a_copy(tmp_path):
    database = record(tmp_path / "rec", range(10), metadata=False)
    if os.fork() == 0:
        c = sqlite3.connect(database, isolation_level=None)
        c.execute("PRAGMA cache_size = 2")
        c.execute("BEGIN")
        c.execute("UPDATE messages SET data = zeroblob(20000), timestamp = 7")
        os._exit(0)
    os.wait()
    assert (tmp_path / "rec" / "rec.db3-journal").stat().st_size > 0
    content = database.read_bytes()
    assert read(tmp_path / "rec")[0] == list(range(10))
    assert database.read_bytes() == content


def many_chunks(path, compression=CompressionMode.NONE):
    """A finished MCAP of 60 images in several chunks."""
    types = get_typestore(Stores.LATEST)
    with BagWriter(path.with_name("plain")) as bag:
        for i in range(60):
            bag.write_image(TOPIC, image(i, size=256))
    writer = Writer(path, version=9, storage_plugin=StoragePlugin.MCAP)
    writer.set_compression(compression, CompressionFormat.ZSTD)
    with writer, Reader(path.with_name("plain")) as reader:
        connection = writer.add_connection(TOPIC, IMAGE, typestore=types)
        for _, time_ns, data in reader.messages():
            writer.write(connection, time_ns, data)
    shutil.rmtree(path.with_name("plain"))
    return path / f"{path.name}.mcap"


def numbers_in(path):
    with ImageBag(path) as bag:
        topic = bag.choose()
        numbers = [int(frame.data[0]) for frame in bag.frames(topic)]
        assert topic.count == len(numbers)
        return numbers, bag.notes


@pytest.mark.parametrize("mode", [CompressionMode.NONE, CompressionMode.STORAGE])
def test_of_an_unfinished_mcap_all_that_lies_in_the_file_is_read(tmp_path, mode):
    file = many_chunks(tmp_path / "rec", mode)
    (tmp_path / "rec" / "metadata.yaml").unlink()
    content = file.read_bytes()
    assert numbers_in(file) == (list(range(60)), [])
    for share in (0.05, 0.3, 0.6, 0.9, 0.999):
        file.write_bytes(content[: int(len(content) * share)])
        numbers, notes = numbers_in(file)
        assert numbers == list(range(len(numbers)))
        assert len(numbers) >= int(60 * share) - 2
        assert notes == ["rec.mcap was not finished or is cut off: what lies in it is read, later images are lost."]
    file.write_bytes(content[: int(len(content) * 0.6)] + bytes(100_000))  # as file systems leave it after a power cut
    assert len(numbers_in(file)[0]) >= 34


def records(*parts):
    return b"".join(struct.pack("<BQ", opcode, len(body)) + body for opcode, body in parts)


def text(value):
    return struct.pack("<I", len(value)) + value


def plain_mcap(numbers, bag, chunk=None, index=True, metadata=b""):
    """An MCAP as other writers make it: header, then messages alone, or in chunks with or without index; no end."""
    import lz4.frame

    with Reader(bag) as reader:
        wanted = {i: (time_ns, data) for i, (_, time_ns, data) in enumerate(reader.messages())}
    schema = (3, struct.pack("<H", 1) + text(b"sensor_msgs/msg/Image") + text(b"ros2msg") + text(b"x"))
    channel = (4, struct.pack("<HH", 1, 1) + text(TOPIC.encode()) + text(b"cdr") + text(metadata))
    messages = [(5, struct.pack("<HIQQ", 1, i, wanted[i][0], wanted[i][0]) + wanted[i][1]) for i in numbers]
    start = b"\x89MCAP0\r\n" + records((1, text(b"ros2") + text(b"test")))
    if chunk is None:
        return start + records(schema, channel, *messages)
    body = records(schema, channel, *messages)
    packed = {"": bytes, "lz4": lz4.frame.compress, "zstd": zstd.compress}[chunk](body)
    head = struct.pack("<QQQI", 0, 2**60, len(body), 0) + text(chunk.encode()) + struct.pack("<Q", len(packed))
    entries = b"".join(struct.pack("<QQ", wanted[i][0], 0) for i in numbers)
    found = [(7, struct.pack("<H", 1) + text(entries))] if index else []
    return start + records((6, head + packed), *found)


@pytest.mark.parametrize("chunk", [None, "", "lz4", "zstd"])
@pytest.mark.parametrize("index", [True, False])
def test_an_mcap_of_any_writer_is_read_whole_or_cut(tmp_path, chunk, index):
    record(tmp_path / "bag", range(12))
    content = plain_mcap([3, 1, 2, 0, *range(4, 12)], tmp_path / "bag", chunk, index)
    path = tmp_path / "x.mcap"
    path.write_bytes(content)
    assert read(path)[0] == list(range(12))  # in the order of time
    path.write_bytes(content[: len(content) * 3 // 4])
    numbers, notes = read(path)
    assert set(range(4)) <= set(numbers)
    assert 7 <= len(numbers) <= 9
    assert notes[0].startswith("x.mcap was not finished or is cut off")


def test_behind_a_damaged_record_the_summary_tells_where_to_go_on(tmp_path):
    file = many_chunks(tmp_path / "rec")
    content = bytearray(file.read_bytes())
    with Reader(file) as reader:
        chunks = reader.storage.chunks
        assert len(chunks) > 3
        second = chunks[1].chunk_start_offset
        lost = sum(chunks[1].channel_count.values())
    content[second : second + 200] = bytes(200)
    file.write_bytes(content)
    numbers, notes = numbers_in(file)
    assert (numbers[0], numbers[-1], len(numbers)) == (0, 59, 60 - lost)
    assert notes == ["A part of rec.mcap is damaged: the images in it are lost."]


def test_a_damaged_database_is_read_from_both_ends(tmp_path):
    file = record(tmp_path / "rec", range(60))
    content = bytearray(file.read_bytes())
    for page in range(100, 110):
        content[page * 4096 : page * 4096 + 4096] = b"\x55" * 4096
    file.write_bytes(content)
    with ImageBag(tmp_path / "rec") as bag:
        frames = [f for f in bag.frames(bag.choose()) if np.array_equal(f.data, image(int(f.data[0])).data)]
        assert len(frames) >= 50
        assert bag.unreadable or bag.notes
    file.write_bytes(content[: len(content) * 6 // 10])
    with ImageBag(tmp_path / "rec") as bag:
        topic = bag.choose()
        assert len(list(bag.frames(topic))) >= 25
        assert any("damaged or cut off" in note or "counts 60" in note for note in bag.notes)


# --- compressed ---


@STORAGES
def test_a_compressed_file_without_metadata_is_read(tmp_path, storage):
    file = record(tmp_path / "rec", range(20), storage, metadata=False)
    packed = file.with_name(file.name + ".zstd")
    content = file.read_bytes()
    packed.write_bytes(zstd.compress(content))
    file.unlink()
    assert read(tmp_path / "rec")[0] == list(range(20))
    assert read(packed)[0] == list(range(20))
    packed.write_bytes(zstd.compress(content[:5000]) + zstd.compress(content[5000:]))
    assert read(packed) == (list(range(20)), [])
    file.write_bytes(content)
    packed.write_bytes(b"")  # a recorder that died before it had packed the last file
    assert read(tmp_path / "rec")[0] == list(range(20))


@STORAGES
def test_a_cut_compressed_file_is_read_as_far_as_it_goes(tmp_path, storage):
    file = record(tmp_path / "rec", range(40), storage, metadata=False)
    content = zstd.compress(file.read_bytes())
    file.unlink()
    file.with_name(file.name + ".zstd").write_bytes(content[: len(content) * 6 // 10])
    numbers, notes = read(tmp_path / "rec")
    assert len(numbers) >= 15
    assert f"{file.name}.zstd is cut off or damaged: what can be unpacked of it is read." in notes


@STORAGES
def test_compressed_messages_without_metadata_are_read(tmp_path, storage):
    types = get_typestore(Stores.LATEST)
    record(tmp_path / "plain", range(5))
    writer = Writer(tmp_path / "rec", version=9, storage_plugin=StoragePlugin[storage.upper()])
    writer.set_compression(CompressionMode.MESSAGE, CompressionFormat.ZSTD)
    with writer, Reader(tmp_path / "plain") as reader:
        connection = writer.add_connection(TOPIC, IMAGE, typestore=types)
        for _, time_ns, data in reader.messages():
            writer.write(connection, time_ns, data)
    assert read(tmp_path / "rec") == (list(range(5)), [])
    (tmp_path / "rec" / "metadata.yaml").unlink()
    assert read(tmp_path / "rec")[0] == list(range(5))


# --- edited ---

EDITS = {
    "an empty QoS": lambda text: text.replace("history", "[]"),
    "another version": lambda text: text.replace("version: 8", "version: 77"),
    "another storage": lambda text: text.replace("sqlite3", "mcap").replace("identifier: mcap", "identifier: other"),
    "compression that is none": lambda text: text.replace("compression_mode: ''", "compression_mode: FILE"),
    "another type hash": lambda text: text.replace("RIHS01_", "RIHS01_0000"),
    "no topics": lambda text: text[: text.index("  topics_with_message_count")],
    "no YAML": lambda text: "][",
    "nothing": lambda text: "",
    "a list": lambda text: "- 1\n- 2\n",
    "bytes that are no text": lambda text: "\udcff",
}


@STORAGES
@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_metadata_file_hides_no_image(tmp_path, storage, edit):
    record(tmp_path / "rec", range(5), storage)
    path = tmp_path / "rec" / "metadata.yaml"
    path.write_bytes(EDITS[edit](path.read_text()).encode("utf-8", "surrogateescape"))
    assert read(tmp_path / "rec")[0] == list(range(5))


@pytest.mark.parametrize("qos", ["", "[]", "rubbish: [", "- history: 3\n  depth: 0", None])
def test_edited_qos_in_the_files_hides_no_image(tmp_path, qos):
    file = record(tmp_path / "rec", range(5))
    profile = b"" if qos is None else text(b"offered_qos_profiles") + text(qos.encode())
    (tmp_path / "x.mcap").write_bytes(plain_mcap(range(5), tmp_path / "rec", "", metadata=profile))
    with sqlite3.connect(file) as connection:
        if qos is None:
            connection.execute("ALTER TABLE topics DROP COLUMN offered_qos_profiles")
        else:
            connection.execute("UPDATE topics SET offered_qos_profiles = ?", (qos,))
    assert read(tmp_path / "rec") == (list(range(5)), [])
    assert read(tmp_path / "x.mcap")[0] == list(range(5))


def test_messages_in_a_format_that_is_not_cdr_are_told(tmp_path):
    file = record(tmp_path / "rec", range(5))
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE topics SET serialization_format = 'protobuf'")
    with pytest.raises(
        BadRecording, match=r"no image topic with messages\..*serialized as 'protobuf' instead of 'cdr'"
    ):
        read(tmp_path / "rec")


# --- names ---


@STORAGES
@pytest.mark.parametrize(
    "name", ["take#1", "100%25", "a?mode=rw", "b c&d", "é ü", os.fsdecode(b"caf\xe9"), "x;y'z\"", "50%"]
)
def test_any_name_can_be_written_and_read(tmp_path, storage, name):
    path = tmp_path / name / name
    with BagWriter(path, storage) as bag:
        for number in range(3):
            bag.write_image(TOPIC, image(number))
    assert [p.name for p in path.parent.iterdir()] == [name]
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert len(list(path.iterdir())) == 2
    assert read(path) == ([0, 1, 2], [])
    names = yaml.safe_load((path / "metadata.yaml").read_text())["rosbag2_bagfile_information"]["relative_file_paths"]
    assert all((path / n).is_file() for n in names)


# --- stamps ---


def stamped(path, pairs):
    """Write one image for each (header stamp, time of recording)."""
    types = get_typestore(Stores.LATEST)
    time, header, kind = (types.types[t] for t in ("builtin_interfaces/msg/Time", "std_msgs/msg/Header", IMAGE))
    with Writer(path, version=9, storage_plugin=StoragePlugin.SQLITE3) as writer:
        connection = writer.add_connection(TOPIC, IMAGE, typestore=types)
        for stamp_ns, time_ns in pairs:
            stamp = time(*divmod(stamp_ns, 10**9))
            message = kind(header(stamp, "cam"), 1, 1, "mono8", 0, 1, np.zeros(1, np.uint8))
            writer.write(connection, time_ns, types.serialize_cdr(message, IMAGE))
    with ImageBag(path) as bag:
        return [frame.stamp_ns for frame in bag.frames(bag.choose())], bag.unstamped, bag.notes


@pytest.mark.parametrize("stamp", [lambda i: 5 * 10**9, lambda i: 0, lambda i: (100 - i) * 10**9])
def test_stamps_that_do_not_advance_give_way_to_the_times_of_recording(tmp_path, stamp):
    recorded = [T0 + i * 10**8 for i in range(10)]
    stamps, unstamped, notes = stamped(tmp_path / "bag", [(stamp(i), time) for i, time in enumerate(recorded)])
    assert stamps == recorded
    assert unstamped == 10
    assert notes == [f"The stamps on {TOPIC} do not advance from frame to frame, so the times of recording were taken."]


def test_a_few_repeated_stamps_are_kept(tmp_path):
    pairs = [((10 + i - (i % 4 == 3)) * 10**9, T0 + i * 10**8) for i in range(12)]
    stamps, unstamped, notes = stamped(tmp_path / "bag", pairs)
    assert (stamps, unstamped, notes) == ([stamp for stamp, _ in pairs], 0, [])
