"""How wide a text will be in a picture, where it breaks so that it fits, and what is not said about its letters."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.font_manager import FontProperties


@contextmanager
def letters_of_any_script() -> Iterator[None]:
    """Draw, measure and save texts without a warning for each letter that the font lacks: it shows as a box."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def width_in(text: str, font: FontProperties) -> float:
    """Return the width of one line in inches."""
    width: float = _renderer().get_text_width_height_descent(text, font, False)[0]
    return width / _renderer().dpi


def wrapped(text: str, font: FontProperties, room_in: float) -> list[str]:
    """Return the text in lines of at most `room_in` inches, broken between words where there are words."""
    whole_in = width_in(text, font)
    if whole_in <= room_in:
        return [text] if text else []
    letters = max(1, int(len(text) * room_in / whole_in))
    while True:
        lines = textwrap.wrap(text, letters)
        if letters == 1 or all(width_in(line, font) <= room_in for line in lines):
            return lines
        letters -= 1


@cache
def _renderer() -> RendererAgg:
    return RendererAgg(1, 1, 150)
