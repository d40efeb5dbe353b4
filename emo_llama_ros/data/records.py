"""Instruction data on disk: the record format of LLaVA, one JSON object per sample.

`{"id", "image" or "video", "conversations": [{"from": "human", "value": "<image>\\n…"}, {"from": "gpt", "value": …}]}`,
in a `.jsonl` file (one record per line) or a `.json` file (one array). Our optional fields: `kind` ("category" or
"conversation"), `label`, `dataset`, `split`, `fold`, and `priors` (a file with landmarks and other facial priors).
Paths are relative to the folder of the record file unless they are absolute; a video is a file or a folder of frames.

Source: the format is the one that the LLaMA-VID trainer reads (dvlab-research/LLaMA-VID, `llamavid/train`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from emo_llama_ros.data.text_files import encoding_of, json_values
from emo_llama_ros.errors import BadData
from emo_llama_ros.labels import LABEL_SETS
from emo_llama_ros.prompts import IMAGE, Turn

KINDS = ("category", "conversation")
_OPTIONAL = {"kind": str, "label": str, "dataset": str, "split": str, "fold": int, "priors": str}
_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class Record:
    """One training sample: an image or a video, and a conversation about it."""

    id: str
    medium: str
    """"image" or "video"."""
    path: str
    turns: tuple[Turn, ...]
    """Every turn has an answer, and the first shows the image."""
    kind: str = ""
    label: str = ""
    dataset: str = ""
    split: str = ""
    fold: int = 0
    priors: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object; empty fields are left out."""
        conversations = []
        for turn in self.turns:
            conversations += [{"from": "human", "value": _value(turn)}, {"from": "gpt", "value": turn.answer}]
        optional = {name: getattr(self, name) for name in _OPTIONAL if getattr(self, name)}
        return {"id": self.id, self.medium: self.path, "conversations": conversations, **optional}


def read_records(path: str | Path) -> Iterator[Record]:
    """Yield the records of a `.json` or `.jsonl` file without holding it in memory.

    Raises BadData that names file, record and fault, also when two records share an id.
    """
    path = Path(path)
    if not path.is_file():
        raise BadData(f"There is no record file {path}.")
    seen: set[str] = set()
    by_line = path.suffix == ".jsonl"
    for number, raw in json_values(path) if by_line else enumerate(_array_of(path), 1):
        where = f"{path.name}, {'line' if by_line else 'record'} {number}"
        record = parse_record(raw, where)
        if record.id in seen:
            raise BadData(f"{where}: the id '{record.id}' stands twice in the file.")
        seen.add(record.id)
        yield record


def write_records(path: str | Path, records: Iterable[Record]) -> int:
    """Write records to a `.json` or `.jsonl` file and return how many; the file appears only when complete."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    count = 0
    array = path.suffix == ".json"
    with partial.open("w", encoding="utf-8") as file:
        file.write("[\n" if array else "")
        for record in records:
            file.write(",\n" if array and count else "")
            file.write(json.dumps(record.to_json(), ensure_ascii=False) + ("" if array else "\n"))
            count += 1
        file.write("\n]\n" if array else "")
    partial.replace(path)
    return count


def parse_record(raw: Any, where: str) -> Record:
    """Return the record of a JSON object; raise BadData, beginning with `where` and the id, when it is not one."""
    if not isinstance(raw, dict):
        raise BadData(f"{where}: a record must be a JSON object, not {_kind(raw)}.")
    name = raw.get("id")
    if not isinstance(name, (str, int)) or isinstance(name, bool) or name == "":
        raise BadData(f"{where}: 'id' is missing or not a text.")
    where = f"{where} (id '{name}')"
    media = [medium for medium in ("image", "video") if medium in raw]
    if len(media) != 1:
        raise BadData(f"{where}: exactly one of 'image' and 'video' must be there.")
    path = raw[media[0]]
    if not isinstance(path, str) or not path:
        raise BadData(f"{where}: '{media[0]}' must be a path.")
    optional = {}
    for field, kind in _OPTIONAL.items():
        if raw.get(field) is not None:
            if type(raw[field]) is not kind:
                raise BadData(f"{where}: '{field}' must be {'a number' if kind is int else 'a text'}.")
            optional[field] = raw[field]
    if optional.get("kind", KINDS[0]) not in KINDS:
        raise BadData(f"{where}: 'kind' must be one of {', '.join(KINDS)}, not '{optional['kind']}'.")
    known = LABEL_SETS.get(optional.get("dataset", ""))
    if known and optional.get("label") and optional["label"] not in known.labels:
        raise BadData(f"{where}: '{optional['label']}' is no label of {known.name} ({', '.join(known.labels)}).")
    return Record(str(name), media[0], path, _turns(raw.get("conversations"), where), **optional)


def _turns(raw: Any, where: str) -> tuple[Turn, ...]:
    if not isinstance(raw, list) or not raw or len(raw) % 2:
        raise BadData(f"{where}: 'conversations' must be a list of human and gpt turns, in pairs.")
    for i, turn in enumerate(raw):
        speaker = ("human", "gpt")[i % 2]
        if not isinstance(turn, dict) or turn.get("from") != speaker or not isinstance(turn.get("value"), str):
            raise BadData(f"{where}: turn {i + 1} must be {{'from': '{speaker}', 'value': text}}.")
        if not turn["value"].replace(IMAGE, "").strip():
            raise BadData(f"{where}: turn {i + 1} of '{speaker}' is empty.")
        if speaker == "gpt" and IMAGE in turn["value"]:
            raise BadData(f"{where}: turn {i + 1} is an answer and must not contain {IMAGE}.")
    if IMAGE not in raw[0]["value"]:
        raise BadData(f"{where}: the first question must contain {IMAGE}.")
    values = [turn["value"] for turn in raw]
    return tuple(_turn(question, answer) for question, answer in zip(values[::2], values[1::2], strict=True))


def _turn(value: str, answer: str) -> Turn:
    question = value.replace(IMAGE, "").strip()
    if IMAGE not in value:
        return Turn(question, answer.strip(), image="none")
    return Turn(question, answer.strip(), image="before" if value.lstrip().startswith(IMAGE) else "after")


def _value(turn: Turn) -> str:
    if turn.image == "before":
        return f"{IMAGE}\n{turn.question}"
    return f"{turn.question}\n{IMAGE}" if turn.image == "after" else turn.question


def _array_of(path: Path) -> Iterator[Any]:
    try:
        with path.open(encoding=encoding_of(path)) as file:
            yield from _array(file, path)
    except UnicodeError as error:
        raise BadData(f"{path.name} is not UTF-8 text ({error}); save it as UTF-8.") from None


def _array(file: IO[str], path: Path) -> Iterator[Any]:
    decoder = json.JSONDecoder()
    buffer = file.read(_CHUNK).lstrip()
    if not buffer.startswith("["):
        raise BadData(f"{path.name}: a .json file must hold one array of records; use .jsonl for one record per line.")
    buffer, more = buffer[1:], True
    while True:
        buffer = buffer.lstrip().removeprefix(",").lstrip()
        if buffer.startswith("]"):
            return
        try:
            value, end = decoder.raw_decode(buffer)
        except json.JSONDecodeError as error:
            if not more:
                raise BadData(f"{path.name}: not valid JSON, or cut off ({error.msg}).") from None
            # Doubling keeps the cost linear when one record is larger than a chunk.
            chunk = file.read(max(_CHUNK, len(buffer)))
            more = bool(chunk)
            buffer += chunk
            continue
        yield value
        buffer = buffer[end:]


def _kind(value: Any) -> str:
    return {list: "a list", str: "a text", int: "a number", float: "a number", type(None): "null"}.get(
        type(value), type(value).__name__
    )
