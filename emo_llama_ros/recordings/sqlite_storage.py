"""rosbag2's sqlite3 storage: finished files, files whose recorder died, and files that are damaged.

Read with the standard library and without the QoS columns, whose text differs between releases and is edited by hand.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections import defaultdict
from collections.abc import Collection, Iterator
from pathlib import Path
from urllib.parse import quote

from emo_llama_ros.errors import BadRecording
from emo_llama_ros.recordings.storage import StoredTopic, type_name

MAGIC = b"SQLite format 3\0"


class SqliteStorage:
    """One .db3 file."""

    def __init__(self, path: Path, name: str, kinds: Collection[str], scratch: Path) -> None:
        """Index the topics of the types `kinds`; raise BadRecording when the file is no recording.

        `name` is what messages call the file. `scratch` is a folder for the copy that a database with an unfinished
        transaction needs.
        """
        self._path = _rolled_back(path, scratch)
        self._name = name
        self._rows: dict[int, list[tuple[int, int]]] = defaultdict(list)
        self.notes: list[str] = []
        try:
            connection = _connect(self._path)
            try:
                described = list(connection.execute("SELECT id, name, type, serialization_format FROM topics"))
                wanted = [(key, topic, type_name(kind), form) for key, topic, kind, form in described]
                wanted = [row for row in wanted if row[2] in kinds]
                self._index(connection, [key for key, *_ in wanted])
            finally:
                connection.close()
        except (sqlite3.Error, TypeError, AttributeError) as error:
            raise BadRecording(f"{name} cannot be read as a recording: {error}.") from None
        self.topics = [self._topic(*row) for row in wanted]

    def messages(self, keys: Collection[int]) -> Iterator[tuple[int, bytes]]:
        """See `Storage.messages`."""
        rows = sorted(row for key in keys for row in self._rows.get(key, ()))
        lost = 0
        connection = _connect(self._path)
        try:
            for time_ns, row_id in rows:
                try:
                    found = connection.execute("SELECT data FROM messages WHERE id = ?", (row_id,)).fetchone()
                except sqlite3.Error:
                    lost += 1
                    continue
                data = found[0] if found else None
                yield time_ns, data if isinstance(data, bytes) else b""
        finally:
            connection.close()
            if lost:
                self.notes.append(f"{self._name} is damaged: {lost} of {len(rows)} images cannot be read.")

    def _topic(self, key: int, name: str, kind: str, serialization: str) -> StoredTopic:
        times = [time_ns for time_ns, _ in self._rows.get(key, ())]
        return StoredTopic(
            key, str(name), kind, str(serialization), len(times), min(times, default=0), max(times, default=0)
        )

    def _index(self, connection: sqlite3.Connection, keys: list[int]) -> None:
        """Find the messages' times; where a page is damaged, from both ends towards it."""
        seen: set[int] = set()
        for direction in ("ASC", "DESC"):
            try:
                for row_id, key, time_ns in connection.execute(
                    f"SELECT id, topic_id, timestamp FROM messages NOT INDEXED"
                    f" WHERE topic_id IN ({','.join('?' * len(keys))}) ORDER BY id {direction}",
                    keys,
                ):
                    if row_id not in seen and isinstance(time_ns, int):
                        seen.add(row_id)
                        self._rows[key].append((time_ns, row_id))
                return
            except sqlite3.DatabaseError as error:
                if direction == "ASC":
                    self.notes.append(f"{self._name} is damaged or cut off ({error}): a part of it cannot be read.")


def _connect(path: Path) -> sqlite3.Connection:
    """Open for reading without writing beside the file, whatever its name and wherever it lies.

    A recorder in WAL mode that died leaves its newest messages in a second file, which SQLite reads together with the
    first; exclusive locking keeps the index of that file in memory, and the VFS without locks allows it read-only.
    """
    name = quote(os.fsencode(path.absolute()))
    if _leftover(path, "-wal"):
        vfs = "&vfs=unix-none" if os.name == "posix" else ""
        connection = sqlite3.connect(f"file:{name}?mode=ro{vfs}", uri=True)
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    else:
        connection = sqlite3.connect(f"file:{name}?mode=ro&immutable=1", uri=True)
    connection.execute("PRAGMA writable_schema = ON")  # a file shorter than it says is read nevertheless
    return connection


def _rolled_back(path: Path, scratch: Path) -> Path:
    """Return the file, or a copy where SQLite must first undo a transaction that was never finished."""
    if not _leftover(path, "-journal"):
        return path
    copy = scratch / f"rolled_back_{len(list(scratch.iterdir()))}.db3"
    shutil.copyfile(path, copy)
    shutil.copyfile(f"{path}-journal", f"{copy}-journal")
    try:
        connection = sqlite3.connect(copy)
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        connection.close()
    except sqlite3.Error:
        return path
    return copy


def _leftover(path: Path, suffix: str) -> bool:
    other = Path(f"{path}{suffix}")
    return other.is_file() and other.stat().st_size > 0
