"""Text files as people save them: with or without a byte-order mark, UTF-8 or UTF-16, with blank rows."""

from __future__ import annotations

import codecs
import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from emo_llama_ros.errors import BadData

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark is the beginning of this one
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_DELIMITERS = ",;\t"
"""What stands between the cells: Excel writes semicolons where the comma is the decimal mark."""


def encoding_of(path: Path) -> str:
    """Return the encoding that the first bytes of a file tell; UTF-8 where they tell nothing."""
    with path.open("rb") as file:
        start = file.read(4)
    return next((name for mark, name in _MARKS if start.startswith(mark)), "utf-8")


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line number from 1, line without its end) of every line that is not blank.

    Raises BadData with the line that is no text of the file's encoding.
    """
    for number, line in enumerate(_decoded(path), 1):
        if line.strip():
            yield number, line.rstrip("\n")


def rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number from 1, cells without white space around them) of every row of a .csv that is not blank.

    Cells are divided by what divides the first line: comma, semicolon or tab. Raises BadData with the line that is no
    text or no row.
    """
    first = next(lines(path), (0, ""))[1]
    delimiter = max(_DELIMITERS, key=first.count)
    # Pixels of a picture stand in one cell: 131072 characters, the limit as it is, are enough for 48x48 alone.
    csv.field_size_limit(1 << 24)
    reader = csv.reader(_decoded(path), delimiter=delimiter)
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise BadData(f"{path.name}, line {reader.line_num} is no row of a .csv: {error}.") from None
        if cells is None:
            return
        cells = [cell.strip() for cell in cells]
        if any(cells):
            yield reader.line_num, cells


def table(path: Path, header: Sequence[str] = ()) -> Iterator[tuple[int, Mapping[str, str]]]:
    """Yield (line number, column → cell) of every row below the first of a .csv; cells that a row lacks are "".

    With `header`, a first row that is not the header counts as data of these columns. Raises BadData as `rows`.
    """
    columns: list[str] = []
    for number, cells in rows(path):
        if not columns:
            named = not header or set(header) & set(cells)
            columns = cells if named else list(header)
            if named:
                continue
        yield number, {**dict.fromkeys(columns, ""), **dict(zip(columns, cells, strict=False))}


def json_values(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield (line number, value) of a .jsonl; raises BadData with the line that is not JSON."""
    for number, line in lines(path):
        try:
            yield number, json.loads(line)
        except json.JSONDecodeError as error:
            raise BadData(f"{path.name}, line {number}: not valid JSON ({error.msg}).") from None


def json_lines(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield (line number, object) of a .jsonl; raises BadData with the line that is not a JSON object."""
    for number, value in json_values(path):
        if not isinstance(value, dict):
            raise BadData(f"{path.name}, line {number} is not a JSON object.")
        yield number, value


def _decoded(path: Path) -> Iterator[str]:
    encoding = encoding_of(path)
    try:
        with path.open(encoding=encoding) as file:
            yield from file
    except UnicodeError:
        what = f"{path.name}, line {_undecodable(path, encoding)} is not {encoding.upper().removesuffix('-SIG')} text"
        raise BadData(f"{what}; save the file as UTF-8.") from None
    except OSError as error:
        raise BadData(f"{path} cannot be read: {error.strerror}.") from None


def _undecodable(path: Path, encoding: str) -> int:
    text = path.read_bytes()
    try:
        text.decode(encoding)
    except UnicodeDecodeError as error:
        return text[: error.start].decode(encoding, "ignore").count("\n") + 1
    return text.decode(encoding, "ignore").count("\n") + 1
