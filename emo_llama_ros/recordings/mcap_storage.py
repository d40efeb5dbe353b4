"""rosbag2's MCAP storage: finished files, files whose recorder died, and files that are damaged.

The records are walked from the start (https://mcap.dev/spec), which needs neither footer nor index. Chunks are only
stepped over where the file says what lies in them. The channels' QoS texts are not looked at.
"""

from __future__ import annotations

import mmap
import struct
import sys
import zlib
from collections import defaultdict
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import lz4.frame
import numpy as np

from emo_llama_ros.errors import BadRecording
from emo_llama_ros.recordings.storage import Source, StoredTopic, in_order_of_time, type_name

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MAGIC = b"\x89MCAP0\r\n"

_FOOTER, _SCHEMA, _CHANNEL, _MESSAGE, _CHUNK, _MESSAGE_INDEX, _CHUNK_INDEX = 2, 3, 4, 5, 6, 7, 8
_MESSAGE_HEAD = struct.Struct("<HIQQ")
_PIECE = 1 << 16

Buffer = Any  # mmap or bytes, which share no type


@dataclass(slots=True)
class _Times:
    """How many messages a channel has, and between which times."""

    count: int = 0
    start_ns: int = 2**63 - 1
    end_ns: int = 0

    def add(self, count: int, start_ns: int, end_ns: int) -> None:
        self.count += count
        self.start_ns, self.end_ns = min(self.start_ns, start_ns), max(self.end_ns, end_ns)


@dataclass(slots=True)
class _Chunk:
    """A chunk record; `start` and `end` are where its (compressed) records lie in the file."""

    start: int
    end: int
    size: int
    checksum: int
    compression: str
    cut: bool
    times: defaultdict[int, _Times] = field(default_factory=lambda: defaultdict(_Times))


class McapStorage:
    """One .mcap file."""

    def __init__(self, path: Path, name: str, kinds: Collection[str]) -> None:
        """Index the topics of the types `kinds`; raise BadRecording when the file is no recording."""
        self._path, self._name = path, name
        self._schemas: dict[int, str] = {}
        self._channels: dict[int, tuple[str, int, str]] = {}
        self._chunks: list[_Chunk] = []
        self._loose: dict[int, list[tuple[int, int, int]]] = defaultdict(list)
        self._checked: set[int] = set()
        self.notes: list[str] = []
        try:
            with self._mapped() as data:
                finished = self._walk(data)
                resumed = not finished and self._take_summary(data)
                self._complete(data)
        except (OSError, ValueError, struct.error) as error:
            raise BadRecording(f"{name} cannot be read as a recording: {error}.") from None
        if resumed:
            self.notes.append(f"A part of {name} is damaged: the images in it are lost.")
        elif not finished:
            self.notes.append(f"{name} was not finished or is cut off: what lies in it is read, later images are lost.")
        totals: defaultdict[int, _Times] = defaultdict(_Times)
        for key, messages in self._loose.items():
            totals[key].add(len(messages), min(messages)[0], max(messages)[0])
        for chunk in self._chunks:
            for key, times in chunk.times.items():
                totals[key].add(times.count, times.start_ns, times.end_ns)
        self.topics = []
        for key, (topic, schema, encoding) in self._channels.items():
            kind = type_name(self._schemas.get(schema, ""))
            if kind in kinds:
                t = totals[key]
                start_ns = t.start_ns if t.count else 0
                self.topics.append(StoredTopic(key, topic, kind, encoding, t.count, start_ns, t.end_ns))

    def messages(self, keys: Collection[int]) -> Iterator[tuple[int, bytes]]:
        """See `Storage.messages`."""
        with self._mapped() as data:
            sources: list[Source] = [
                (
                    min(times.start_ns for key, times in chunk.times.items() if key in keys),
                    partial(self._read, data, chunk, keys),
                )
                for chunk in self._chunks
                if not chunk.times.keys().isdisjoint(keys)
            ]
            loose = sorted(m for key in keys for m in self._loose.get(key, ()))
            if loose:
                sources.append((loose[0][0], lambda: ((time_ns, data[start:end]) for time_ns, start, end in loose)))
            yield from in_order_of_time(sources)

    @contextmanager
    def _mapped(self) -> Iterator[Buffer]:
        with self._path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield data

    def _walk(self, data: Buffer) -> bool:
        """Note all records of the file and return whether it ends as a finished one does."""
        try:
            for opcode, start, end, cut in _records(data, len(MAGIC), len(data)):
                if opcode == _FOOTER and not cut:
                    return True
                self._take(data, opcode, start, end, cut)
        except (struct.error, ValueError):
            pass  # the bytes from here on are no records
        return False

    def _take(self, data: Buffer, opcode: int, start: int, end: int, cut: bool = False) -> None:
        if opcode == _CHUNK and end - start >= 32:
            _, _, size, checksum = struct.unpack_from("<QQQI", data, start)
            compression, at = _text(data, start + 28)
            self._chunks.append(_Chunk(at + 8, end, size, checksum, compression, cut))
        elif cut:
            return
        elif opcode == _MESSAGE_INDEX and self._chunks:
            key, length = struct.unpack_from("<HI", data, start)
            times = np.frombuffer(data[start + 6 : start + 6 + length], "<u8").reshape(-1, 2)[:, 0]
            if len(times):
                self._chunks[-1].times[key].add(len(times), int(times.min()), int(times.max()))
        elif opcode == _MESSAGE:
            key, _, time_ns, _ = _MESSAGE_HEAD.unpack_from(data, start)
            self._loose[key].append((time_ns, start + _MESSAGE_HEAD.size, end))
        else:
            self._describe(data, opcode, start)

    def _describe(self, data: Buffer, opcode: int, start: int) -> None:
        if opcode == _SCHEMA:
            self._schemas[struct.unpack_from("<H", data, start)[0]] = _text(data, start + 2)[0]
        elif opcode == _CHANNEL:
            key, schema = struct.unpack_from("<HH", data, start)
            topic, at = _text(data, start + 4)
            self._channels[key] = topic, schema, _text(data, at)[0]

    def _take_summary(self, data: Buffer) -> bool:
        """Take the chunks behind a damaged record, of which the summary at the end tells; return whether there are."""
        foot = len(data) - len(MAGIC) - 20
        if foot < 0 or data[-len(MAGIC) :] != MAGIC:
            return False
        (summary,) = struct.unpack_from("<Q", data, foot)
        known = max((chunk.start for chunk in self._chunks if not chunk.cut), default=0)
        chunks = []
        for opcode, start, _, cut in _records(data, summary or foot, foot - 9):
            if cut:
                return False
            if opcode == _CHUNK_INDEX:
                chunks.append(struct.unpack_from("<QQ", data, start + 16))
            else:
                self._describe(data, opcode, start)
        behind = [
            (offset, length)
            for offset, length in sorted(chunks)
            if offset > known and offset + length <= foot and data[offset] == _CHUNK
        ]
        if behind:
            self._chunks = [chunk for chunk in self._chunks if not chunk.cut]
        for offset, length in behind:
            self._take(data, _CHUNK, offset + 9, offset + length)
        return bool(behind)

    def _complete(self, data: Buffer) -> None:
        """Look into the chunks whose messages or channels nothing else describes."""
        for chunk in self._chunks:
            indexed = bool(chunk.times)
            if indexed and chunk.times.keys() <= self._channels.keys():
                continue
            content = self._content(data, chunk)
            for opcode, start, end, cut in _records(content, 0, len(content)):
                if cut:
                    break
                if opcode == _MESSAGE and not indexed and end - start >= _MESSAGE_HEAD.size:
                    key, _, time_ns, _ = _MESSAGE_HEAD.unpack_from(content, start)
                    chunk.times[key].add(1, time_ns, time_ns)
                elif opcode in (_SCHEMA, _CHANNEL):
                    self._describe(content, opcode, start)

    def _read(self, data: Buffer, chunk: _Chunk, keys: Collection[int]) -> Iterator[tuple[int, bytes]]:
        content = self._content(data, chunk)
        found = []
        for opcode, start, end, cut in _records(content, 0, len(content)):
            if opcode == _MESSAGE and not cut and end - start >= _MESSAGE_HEAD.size:
                key, _, time_ns, _ = _MESSAGE_HEAD.unpack_from(content, start)
                if key in keys:
                    found.append((time_ns, start + _MESSAGE_HEAD.size, end))
        found.sort(key=lambda message: message[0])
        return ((time_ns, content[start:end]) for time_ns, start, end in found)

    def _content(self, data: Buffer, chunk: _Chunk) -> bytes:
        """Return the records of a chunk, as far as they can be unpacked; note once where something is missing."""
        content = _unpacked(data[chunk.start : chunk.end], chunk.compression, chunk.size)
        if content is None:
            self._note(chunk, f"a part of {self._name} is compressed with {chunk.compression!r}, which is not known")
            return b""
        if not chunk.cut:
            if len(content) < chunk.size:
                self._note(chunk, f"a part of {self._name} is damaged: some images cannot be read")
            elif chunk.checksum and zlib.crc32(content) != chunk.checksum:
                self._note(chunk, f"a part of {self._name} has a wrong checksum: some images may be damaged")
        return content

    def _note(self, chunk: _Chunk, text: str) -> None:
        if chunk.start not in self._checked:
            self._checked.add(chunk.start)
            sentence = f"{text[0].upper()}{text[1:]}."
            if sentence not in self.notes:
                self.notes.append(sentence)


def _records(data: Buffer, at: int, end: int) -> Iterator[tuple[int, int, int, bool]]:
    """Yield (opcode, start, end, cut) of each record's content; of one that is cut off what there is, and no more."""
    while at + 9 <= end:
        opcode = data[at]
        (length,) = struct.unpack_from("<Q", data, at + 1)
        start, at = at + 9, at + 9 + length
        if opcode == 0:  # what a file system leaves where nothing was written
            return
        yield opcode, start, min(at, end), at > end


def _text(data: Buffer, at: int) -> tuple[str, int]:
    """Return the string at an offset, and the offset behind it."""
    (length,) = struct.unpack_from("<I", data, at)
    return bytes(data[at + 4 : at + 4 + length]).decode("utf-8", "replace"), at + 4 + length


def _unpacked(packed: bytes, compression: str, size: int) -> bytes | None:
    """Return at most `size` unpacked bytes, fewer where the data end or are damaged; None for unknown compressions."""
    if compression == "":
        return packed
    if compression not in ("zstd", "lz4"):
        return None
    unpacker = zstd.ZstdDecompressor() if compression == "zstd" else lz4.frame.LZ4FrameDecompressor()
    parts: list[bytes] = []
    total = 0
    for start in range(0, len(packed), _PIECE):
        try:
            part = unpacker.decompress(packed[start : start + _PIECE])
        except (zstd.ZstdError, RuntimeError, EOFError):
            break
        parts.append(part)
        total += len(part)
        if total >= size or unpacker.eof:
            break
    return b"".join(parts)[:size]
