"""What /emotion says, for eyes: each person's newest estimate in a terminal, or one line per message."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.padding import Padding
from rich.segment import Segment
from rich.text import Text

from emo_llama_ros.estimate import Estimate, Stage, Status

_BAR = 12
_INDENT = 2
_COLOURS = {
    "happiness": "yellow", "sadness": "blue", "anger": "red", "surprise": "magenta", "fear": "purple",
    "disgust": "green", "neutral": "white",
}  # fmt: skip


@dataclass(slots=True)
class _Person:
    newest: Estimate
    arrived_s: float
    reason: Estimate | None = None
    """The newest estimate with a reasoning."""
    reason_s: float = 0.0


class EmotionView:
    """Draws each person's newest estimate with the whole reasoning, people in the order in which they came.

    Nothing is cut: lines are wrapped into the terminal's width, and people for whom there is no room are counted.
    """

    def __init__(self, title: str, forget_s: float = math.inf, now: Callable[[], float] = time.monotonic) -> None:
        """`forget_s` is how long a person is shown after the last estimate, in seconds of `now`."""
        self._title = title
        self._forget_s = forget_s
        self._now = now
        self._people: OrderedDict[str, _Person] = OrderedDict()
        self.notes: Sequence[str] = ()
        """Sentences that stand below: what is missing, and what to do."""

    def add(self, estimate: Estimate) -> None:
        """Take an estimate in; may be called from any thread."""
        now = self._now()
        if estimate.face_id:
            self._people.pop("", None)  # no longer nobody
        else:
            self._people.clear()
        person = self._people.get(estimate.face_id)
        if person is None:
            person = self._people[estimate.face_id] = _Person(estimate, now)
        person.newest, person.arrived_s = estimate, now
        if estimate.reasoning:
            person.reason, person.reason_s = estimate, now

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw what is there now, at most as high as the terminal."""
        now = self._now()
        people = [p for p in list(self._people.values()) if now - p.arrived_s <= self._forget_s]
        head = [Text(" · ".join([self._title, *dict.fromkeys(p.newest.model for p in people)]), style="bold")]
        foot = [Text(note, style="yellow") for note in self.notes]
        if not people:
            head.append(Text("No estimate yet." if not self._people else "No estimate any more.", style="dim"))
        blocks = [list(_block(person, now)) for person in people]

        def lines(parts: Sequence[Text | Padding]) -> list[list[Segment]]:
            plain = options.update(height=None)
            return [line for part in parts for line in console.render_lines(part, plain, pad=False)]

        above, below = lines(head), lines(foot)
        room = (console.size.height - len(above) - len(below) - 2) if console.is_terminal else math.inf
        shown, hidden = list(above), 0
        for block in blocks:
            made = lines(block)
            if len(shown) + len(made) > room + len(above) and len(shown) > len(above):
                hidden += 1
            else:
                shown += made
        if hidden:
            shown += lines([Text(f"{hidden} more: make the terminal higher to see them.", style="dim")])
        for line in [*shown, *below]:
            yield from line
            yield Segment.line()


def line(estimate: Estimate, start_ns: int = 0) -> str:
    """Return an estimate as one line: time since `start_ns`, person, stage, label, confidence, status, reasoning."""
    seconds = (estimate.stamp_ns - start_ns) / 1e9
    said = f"{estimate.label} {estimate.confidence:.2f}" if estimate.label else "-"
    parts = (f"{seconds:6.1f} s", estimate.face_id or "-", estimate.stage.name, said, estimate.status.name)
    return "  ".join((*parts, _printable(estimate.reasoning))).rstrip()


def _block(person: _Person, now: float) -> Iterator[Text | Padding]:
    newest = person.newest
    if not newest.face_id:
        yield Text(f"Nobody is in view ({newest.status.name}).", style="dim")
        return
    text = Text(f"{newest.face_id}  ", style="bold")
    text.append_text(_bar(newest))
    if newest.status is not Status.OK:
        text.append(f"  {newest.status.name}", style="yellow")
    age_s = newest.age_at_publish_ns / 1e9 + now - person.arrived_s
    text.append(f"  {age_s:.1f} s old", style="dim")
    yield text
    measured = [f"AU{u.number} {u.name}" + _strength(u.intensity) for u in newest.action_units]
    measured += [
        f"{name} {value:+.2f}"
        for name, value in (("valence", newest.valence), ("arousal", newest.arousal))
        if not math.isnan(value)
    ]
    if measured:
        yield Padding(Text(_printable(", ".join(measured)), style="cyan"), (0, 0, 0, _INDENT))
    if person.reason is not None:
        earlier = person.reason.estimate_id != newest.estimate_id
        ago = f"{now - person.reason_s + person.reason.age_at_publish_ns / 1e9:.0f} s ago: " if earlier else ""
        yield Padding(Text(ago + _printable(person.reason.reasoning), style="dim" * earlier), (0, 0, 0, _INDENT))
    elif newest.stage is Stage.LABEL:
        yield Padding(Text("…", style="dim"), (0, 0, 0, _INDENT))


def _strength(intensity: float) -> str:
    return "" if math.isnan(intensity) else f" {intensity:.1f}"


def _bar(estimate: Estimate) -> Text:
    if not estimate.label:
        return Text("-", style="dim")
    share = 0.0 if math.isnan(estimate.confidence) else min(1.0, max(0.0, estimate.confidence))
    filled = round(share * _BAR)
    colour = _COLOURS.get(estimate.label, "cyan")
    text = Text("█" * filled, style=colour)
    text.append("░" * (_BAR - filled), style="dim")
    return text.append(f" {estimate.confidence:.0%} {_printable(estimate.label)}")


def _printable(text: str) -> str:
    """Return a model's words on one line, without what would command the terminal."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
