"""The text file that says what the outputs of a user's expression network stand for.

One label per line in the order of the outputs; synonyms of `labels.canonical` are understood, numbers before the labels
("0: Anger") are read as positions, and one line with commas is taken apart. The lines `valence` and `arousal` stand for
those two numbers. Lines that begin with `#` and one of these words set something, all others are comments:

| line | meaning |
|---|---|
| `# pixels: KIND` | how the network wants its pixels, one of `onnx_expression.PIXELS` |
| `# size: N` | side of the picture in pixels, for a network that leaves it open |
| `# output: NAME` | the output with the labels, for a network with several |
| `# valence: NAME`, `# arousal: NAME` | outputs of their own; of one with two numbers, valence is the first |
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from emo_llama_ros.errors import MissingModel
from emo_llama_ros.labels import LABEL_SETS, RAF_DB, canonical

AFFECT = ("valence", "arousal")
_SETTINGS = ("pixels", "size", "output", *AFFECT)
_NUMBERED = re.compile(r"(\d+)\s*[\s:,;.=)-]\s*(\D.*)")


@dataclass(frozen=True, slots=True)
class ExpressionLabels:
    """What the file says."""

    path: Path
    names: tuple[str, ...]
    """Canonical labels, "valence" and "arousal", in the order of the outputs."""
    pixels: str = ""
    size: int = 0
    output: str = ""
    valence: str = ""
    arousal: str = ""

    @property
    def columns(self) -> tuple[int, ...]:
        """For each label of RAF-DB the position of its output, -1 where there is none."""
        return tuple(self.names.index(label) if label in self.names else -1 for label in RAF_DB.labels)

    @property
    def expressions(self) -> tuple[str, ...]:
        """The names without valence and arousal."""
        return tuple(name for name in self.names if name not in AFFECT)

    @property
    def left_out(self) -> tuple[str, ...]:
        """Expressions that are not among RAF-DB's seven."""
        return tuple(name for name in self.expressions if name not in RAF_DB.labels)


def read_labels(path: Path) -> ExpressionLabels:
    """Read a label file, in UTF-8 or UTF-16; raise MissingModel naming the first thing in it that cannot be used."""
    settings: dict[str, str] = {}
    lines: list[str] = []
    for line in _text(path).splitlines():
        text = line.strip().strip("\ufeff")
        if text.startswith("#"):
            key, colon, value = text.lstrip("# ").partition(":")
            if colon and key.strip().lower() in _SETTINGS:
                settings[key.strip().lower()] = value.strip()
        elif text:
            lines.append(text)
    if len(lines) == 1 and "," in lines[0]:
        lines = [part for part in lines[0].split(",") if part.strip()]
    size = settings.pop("size", "0")
    if not size.isdecimal():
        raise MissingModel(f"{path} says 'size: {size}', which is no number of pixels.")
    names = tuple(canonical(name) for name in _in_order(path, lines))
    _check(path, names)
    return ExpressionLabels(path, names, size=int(size), **settings)


def _text(path: Path) -> str:
    data = path.read_bytes()
    encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        raise MissingModel(f"{path} is no text file with one label a line; save it as UTF-8.") from None


def _in_order(path: Path, lines: Sequence[str]) -> list[str]:
    """Return the labels in the order of their numbers, where every line has one."""
    matches = [_NUMBERED.fullmatch(line.strip()) for line in lines]
    numbered = [(int(match[1]), match[2]) for match in matches if match is not None]
    if not numbered:
        return list(lines)
    numbers = sorted(number for number, _ in numbered)
    if len(numbered) < len(lines) or numbers != list(range(numbers[0], numbers[0] + len(lines))) or numbers[0] > 1:
        raise MissingModel(f"{path} numbers its labels, but not each with one of 0 to {len(lines) - 1}.")
    return [name for _, name in sorted(numbered)]


def _check(path: Path, names: Sequence[str]) -> None:
    known = {label for labels in LABEL_SETS.values() for label in labels.labels} | set(AFFECT)
    for name in names:
        if name not in known:
            raise MissingModel(f"{path} lists '{name}', which is no expression; known are {', '.join(sorted(known))}.")
        if names.count(name) > 1:
            raise MissingModel(f"{path} lists '{name}' twice.")
    if not set(names) & set(RAF_DB.labels):
        raise MissingModel(f"{path} lists none of {', '.join(RAF_DB.labels)}.")
