"""Which files make up a recording, what they are, and what its metadata.yaml says about them.

The files are the truth: metadata.yaml is missing where a recorder died, outdated where files were renamed or unpacked,
and edited by hand. What it says is only compared with what is found, and the difference told.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from emo_llama_ros.errors import BadRecording
from emo_llama_ros.images.files import is_hidden, shown
from emo_llama_ros.recordings import mcap_storage, sqlite_storage
from emo_llama_ros.recordings.mcap_storage import McapStorage
from emo_llama_ros.recordings.sqlite_storage import SqliteStorage
from emo_llama_ros.recordings.storage import Storage, type_name

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

METADATA = "metadata.yaml"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_ROS1_MAGIC = b"#ROSBAG V"
_SUFFIXES = (".db3", ".mcap", ".zstd")
_PIECE = 1 << 20


@dataclass(slots=True)
class Metadata:
    """What metadata.yaml says: the files' names, and how many messages each topic of the wanted types has."""

    files: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class BagFiles:
    """The files of a recording, in the order of the numbers in their names, and what is amiss with them."""

    listed: list[Path]
    unlisted: list[Path] = field(default_factory=list)
    """Files that lie beside those that metadata.yaml names."""
    metadata: Metadata = field(default_factory=Metadata)
    notes: list[str] = field(default_factory=list)


def find_files(path: Path, kinds: Collection[str]) -> BagFiles:
    """Return the files of a bag: of its folder, of its metadata.yaml, or one file alone.

    Raises BadRecording where there is nothing to read.
    """
    if path.name == METADATA and path.is_file():
        path = path.parent
    if not path.exists():
        raise BadRecording(f"There is no bag {shown(path)}.")
    if not path.is_dir():
        return BagFiles([path])
    try:
        entries = sorted((p for p in path.iterdir() if p.is_file() and not is_hidden(p)), key=_number)
    except OSError as error:
        raise BadRecording(f"The folder {shown(path)} cannot be read: {error.strerror}.") from None
    files = _recordings(entries)
    found = BagFiles(files)
    if (path / METADATA).exists():
        _compare(found, path / METADATA, kinds)
    elif files:
        found.notes.append(f"There is no {METADATA}, so the recording was not finished: its end may be missing.")
    if not found.listed:
        why = "".join(f" {note}" for note in found.notes)
        raise BadRecording(f"The folder {shown(path)} holds no rosbag2 (no .mcap or .db3 file).{why}")
    found.notes += _orphans(entries)
    return found


def open_storage(path: Path, kinds: Collection[str], scratch: Path) -> Storage:
    """Open one file by its content, unpacked into the folder `scratch` where it is compressed as a whole.

    Raises BadRecording, naming the file, when nothing of it can be read.
    """
    name, notes = shown(Path(path.name)), []
    try:
        head = _head(path)
        if head.startswith(ZSTD_MAGIC):
            path, whole = _unpack(path, scratch)
            if not whole:
                notes.append(f"{name} is cut off or damaged: what can be unpacked of it is read.")
            head = _head(path)
        if not head and _head(Path(f"{path}-wal")):
            head = sqlite_storage.MAGIC  # nothing has been moved out of the write-ahead log yet
        if not head:
            raise BadRecording(f"{name} is empty.")
        storage: Storage
        if head.startswith(sqlite_storage.MAGIC):
            storage = SqliteStorage(path, name, kinds, scratch)
        elif head.startswith(mcap_storage.MAGIC):
            storage = McapStorage(path, name, kinds)
        elif head.startswith(_ROS1_MAGIC):
            raise BadRecording(f"{name} is a bag of ROS 1; turn it into a rosbag2 with `rosbags-convert`.")
        else:
            raise BadRecording(f"{name} cannot be read as a recording: it is neither sqlite3 nor MCAP.")
    except OSError as error:
        raise BadRecording(f"{name} cannot be read: {error.strerror or error}.") from None
    storage.notes[:0] = notes
    return storage


def _number(path: Path) -> tuple[list[int], str]:
    return [int(digits) for digits in re.findall(r"\d+", path.name)], path.name


def _recordings(entries: list[Path]) -> list[Path]:
    """Return the files that hold messages: by suffix, or where none has one by content; of twins the unpacked one."""
    named = [p for p in entries if p.suffix.lower() in _SUFFIXES]
    files = named or [p for p in entries if _head(p).startswith((sqlite_storage.MAGIC, mcap_storage.MAGIC))]
    names = {p.name for p in files}
    # A recorder that died while compressing leaves both forms, and the packed one is not whole.
    return [p for p in files if p.suffix.lower() != ".zstd" or p.name[: -len(p.suffix)] not in names]


def _compare(found: BagFiles, file: Path, kinds: Collection[str]) -> None:
    """Split the files into those that metadata.yaml names and others, and note what it names in vain."""
    try:
        found.metadata = _metadata(file, kinds)
    except (OSError, UnicodeError, yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError):
        found.notes.append(f"{METADATA} cannot be understood; the files were read without it.")
        return
    present = {_plain(p.name): p for p in found.listed}
    names = [PurePosixPath(name).name for name in found.metadata.files]
    missing = [name for name in names if _plain(name) not in present]
    if missing:
        verb = "is" if len(missing) == 1 else "are"
        found.notes.append(f"{METADATA} names {_list(missing)}, which {verb} not there.")
    else:
        listed = {_plain(name) for name in names}
        if listed:
            found.unlisted = [p for p in found.listed if _plain(p.name) not in listed]
            found.listed = [p for p in found.listed if _plain(p.name) in listed]


def _metadata(file: Path, kinds: Collection[str]) -> Metadata:
    content: Any = yaml.safe_load(file.read_text(encoding="utf-8-sig"))
    about = content["rosbag2_bagfile_information"]
    counts: dict[str, int] = {}
    for entry in about.get("topics_with_message_count") or ():
        topic = entry["topic_metadata"]
        if type_name(str(topic["type"])) in kinds:
            counts[str(topic["name"])] = counts.get(str(topic["name"]), 0) + int(entry["message_count"])
    return Metadata([str(name) for name in about.get("relative_file_paths") or ()], counts)


def _orphans(entries: list[Path]) -> list[str]:
    """Note write-ahead logs whose database was renamed or is gone: their messages are out of reach."""
    names = {p.name for p in entries}
    lost = [p.name for p in entries if p.name.endswith("-wal") and p.stat().st_size and p.name[:-4] not in names]
    return [f"{name} belongs to a database {name[:-4]}, which is not there under this name." for name in map(str, lost)]


def _unpack(path: Path, scratch: Path) -> tuple[Path, bool]:
    """Unpack a .zstd file as far as it goes; return the unpacked file and whether it is whole."""
    target = scratch / f"unpacked_{len(list(scratch.iterdir()))}"
    unpacker = zstd.ZstdDecompressor()
    with path.open("rb") as packed, target.open("wb") as out:
        while piece := packed.read(_PIECE):
            while piece:
                if unpacker.eof:  # files may be packed in several frames
                    unpacker = zstd.ZstdDecompressor()
                try:
                    out.write(unpacker.decompress(piece))
                except zstd.ZstdError:
                    return target, False
                piece = unpacker.unused_data if unpacker.eof else b""
    return target, unpacker.eof


def _head(path: Path) -> bytes:
    if not path.is_file():
        return b""
    with path.open("rb") as file:
        return file.read(16)


def _plain(name: str) -> str:
    return name.removesuffix(".zstd")


def _list(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{', '.join(names[:3])} and {len(names) - 3} more"
