"""Writing rosbag2 recordings of camera images and estimates, without a ROS installation.

Bags have metadata version 8: later rosbag2 releases read it, and so does the one of Humble, which knows only version 5
but looks for nothing that a later version moved.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from rosbags.interfaces import (
    Connection,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.rosbag2.enums import CompressionMode
from rosbags.rosbag2.storage_mcap import McapWriter
from rosbags.rosbag2.storage_sqlite3 import Sqlite3Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore
from typing_extensions import Self

from emo_llama_ros.errors import BadRecording
from emo_llama_ros.estimate import Estimate
from emo_llama_ros.estimate_message import MessageTypes, estimate_message, time_message
from emo_llama_ros.frames import RawFrame
from emo_llama_ros.images.files import shown
from emo_llama_ros.recordings.bags import COMPRESSED_IMAGE, IMAGE

PACKAGE = "emo_llama_ros"
ESTIMATE = f"{PACKAGE}/msg/EmotionEstimate"
STORAGES = {"sqlite3": StoragePlugin.SQLITE3, "mcap": StoragePlugin.MCAP}

_MESSAGES = ("ActionUnit", "StageTiming", "EmotionEstimate")
_UNLIMITED = QosTime(9_223_372_036, 854_775_807)  # RMW_DURATION_INFINITE
# Reliable publishers serve reliable and best-effort subscribers alike, so every player and every node fits.
_OFFERED_QOS = Qos(
    QosHistory.KEEP_LAST,
    10,
    QosReliability.RELIABLE,
    QosDurability.VOLATILE,
    _UNLIMITED,
    _UNLIMITED,
    QosLiveliness.AUTOMATIC,
    _UNLIMITED,
    False,
)


class _SqliteWriter(Sqlite3Writer):
    """rosbags' writer opens its file by an unquoted URI, so that a `#`, `?` or `%` in its name opens another file."""

    def __init__(self, path: Path, compression: CompressionMode) -> None:
        self.path = path / f"{path.name}.db3"
        self.conn = sqlite3.connect(self.path)
        self.conn.executescript(self.SQLITE_SCHEMA)
        self.cursor = self.conn.cursor()


class _Writer(Writer):
    STORAGE_PLUGINS = {StoragePlugin.SQLITE3: _SqliteWriter, StoragePlugin.MCAP: McapWriter}  # noqa: RUF012


class BagWriter:
    """A new rosbag2; use as context manager, which closes it readably even after an error.

    It is written in a hidden folder beside its place and moved there when it is closed, so that a bag that is there is
    whole.
    """

    def __init__(self, path: Path, storage: str = "sqlite3") -> None:
        """Name the new bag and its storage plugin ("sqlite3" or "mcap"); nothing is written yet."""
        self._path = path
        self._hidden = path.parent / f".{path.name}.partial"
        # metadata.yaml is UTF-8 and names the file, which is called like the folder.
        inner = os.fsencode(path.name).decode("utf-8", "replace").replace("\ufffd", "_")
        self._partial = self._hidden / inner
        self._storage = STORAGES[storage]
        self._types = message_types()
        self._filled = _filled_types(self._types)
        self._writer: _Writer | None = None
        self._connections: dict[tuple[str, str], Connection] = {}
        self.count = 0
        """Messages written."""

    def __enter__(self) -> Self:
        """Create the bag; raise BadRecording when it exists or cannot be created."""
        if self._path.exists() or self._path.is_symlink():
            raise BadRecording(f"{shown(self._path)} exists already; name another folder or remove it.")
        try:
            shutil.rmtree(self._hidden, ignore_errors=True)  # of a writer that was killed
            self._writer = _Writer(self._partial, version=8, storage_plugin=self._storage)
            self._writer.open()
        except (OSError, sqlite3.Error) as error:
            shutil.rmtree(self._hidden, ignore_errors=True)
            raise BadRecording(f"The bag {shown(self._path)} cannot be created: {_reason(error)}.") from None
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close the bag and move it to its place; raise BadRecording when that fails."""
        assert self._writer is not None
        try:
            self._writer.close()
            self._partial.replace(self._path)
            self._hidden.rmdir()
        except (OSError, sqlite3.Error) as failure:
            shutil.rmtree(self._hidden, ignore_errors=True)
            raise BadRecording(f"The bag {shown(self._path)} cannot be written: {_reason(failure)}.") from None

    def write_image(self, topic: str, frame: RawFrame) -> None:
        """Write a frame as sensor_msgs/Image or CompressedImage at its own stamp."""
        header = self._header(frame.stamp_ns, frame.frame_id)
        data = np.ascontiguousarray(frame.data)
        if frame.compressed:
            message = self._types.types[COMPRESSED_IMAGE](header=header, format=frame.encoding, data=data)
            self._write(topic, COMPRESSED_IMAGE, frame.stamp_ns, message)
            return
        message = self._types.types[IMAGE](
            header=header,
            height=frame.height,
            width=frame.width,
            encoding=frame.encoding,
            is_bigendian=int(frame.is_bigendian),
            step=frame.step,
            data=data,
        )
        self._write(topic, IMAGE, frame.stamp_ns, message)

    def write_estimate(self, topic: str, estimate: Estimate) -> None:
        """Write an estimate as EmotionEstimate at the stamp of its clip's newest frame."""
        message = estimate_message(estimate, self._filled, estimate.age_at_publish_ns)
        self._write(topic, ESTIMATE, estimate.stamp_ns, message)

    def _write(self, topic: str, kind: str, time_ns: int, message: object) -> None:
        assert self._writer is not None
        key = topic, kind
        if key not in self._connections:
            self._connections[key] = self._writer.add_connection(
                topic, kind, typestore=self._types, offered_qos_profiles=[_OFFERED_QOS]
            )
        try:
            self._writer.write(self._connections[key], time_ns, self._types.serialize_cdr(message, kind))
        except (OSError, sqlite3.Error) as error:
            raise BadRecording(f"The bag {shown(self._path)} cannot be written: {_reason(error)}.") from None
        self.count += 1

    def _header(self, stamp_ns: int, frame_id: str) -> Any:
        return self._filled.header(stamp=time_message(stamp_ns, self._filled.time), frame_id=frame_id)


def message_types() -> Typestore:
    """Return the types of ROS 2's common interfaces and of this package's messages."""
    types = get_typestore(Stores.LATEST)
    folder = _definitions_folder()
    for name in _MESSAGES:
        definition = (folder / f"{name}.msg").read_text(encoding="utf-8")
        types.register(get_types_from_msg(definition, f"{PACKAGE}/msg/{name}"))
    return types


def _filled_types(store: Typestore) -> MessageTypes:
    types = store.types
    return MessageTypes(
        emotion_estimate=types[ESTIMATE],
        action_unit=types[f"{PACKAGE}/msg/ActionUnit"],
        stage_timing=types[f"{PACKAGE}/msg/StageTiming"],
        header=types["std_msgs/msg/Header"],
        region_of_interest=types["sensor_msgs/msg/RegionOfInterest"],
        time=types["builtin_interfaces/msg/Time"],
        duration=types["builtin_interfaces/msg/Duration"],
        floats=lambda numbers: np.array(numbers, np.float32),
    )


def _reason(error: OSError | sqlite3.Error) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)


def _definitions_folder() -> Path:
    """Return the folder of the .msg files: that of the source tree, or of the installed package's share folder."""
    here = Path(__file__).resolve().parents
    prefixes = [*here, *map(Path, filter(None, os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)))]
    candidates = [here[1] / "msg", *(prefix / "share" / PACKAGE / "msg" for prefix in [*prefixes, Path(sys.prefix)])]
    for folder in candidates:
        if (folder / "EmotionEstimate.msg").is_file():
            return folder
    raise BadRecording(f"The message definitions of {PACKAGE} are not installed, so no bag can be written.")
