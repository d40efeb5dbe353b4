"""The timeline picture: what every person's face displayed, over time.

One panel for each person: the probabilities as stacked areas, above them a band with the label. The band shows how far
the label can be trusted: full colour, pale below the confidence threshold, hatched where the face could not be read
well. The colours are those of Okabe and Ito ("Color Universal Design", 2008), which colour-blind readers can tell
apart; bands carry their label as text too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.legend import Legend
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FuncFormatter

from emo_llama_ros.estimate import Estimate, Status
from emo_llama_ros.frames import RgbImage
from emo_llama_ros.recordings.captions import letters_of_any_script, width_in, wrapped

MAX_PEOPLE = 8
"""Panels in one picture: those with the most estimates, in the order in which the people came."""

COLOURS = {
    "happiness": "#E69F00",
    "surprise": "#F0E442",
    "neutral": "#C8C8C8",
    "sadness": "#0072B2",
    "fear": "#CC79A7",
    "disgust": "#009E73",
    "anger": "#D55E00",
    "contempt": "#882255",
    "anxiety": "#56B4E9",
    "helplessness": "#332288",
    "disappointment": "#999933",
}
_OTHER = "#777777"
_INK, _FAINT, _RULE = "#222222", "#6B6B6B", "#DDDDDD"

_WIDTH_IN, _PANEL_IN, _THUMBNAILS_IN, _NOBODY_IN, _FOOT_IN = 12.0, 1.75, 0.75, 0.32, 0.75
_TITLE_IN, _ABOUT_IN, _LINE_IN, _LEGEND_GAP_IN, _PANELS_GAP_IN = 0.32, 0.55, 0.17, 0.11, 0.2
_LEFT_IN, _RIGHT_IN = 0.75, 0.25
_ROOM_IN = _WIDTH_IN - _LEFT_IN - _RIGHT_IN
_ABOUT_SIZE = 9.5
_BAND = (1.06, 0.17)  # bottom and height of the label band, where the areas fill 0 to 1
_LARGEST_GAP_S = 1.5
_LETTER_IN = 0.085
_LEGEND: dict[str, Any] = {
    "frameon": False,
    "fontsize": 9,
    "handlelength": 1.1,
    "handleheight": 1.0,
    "columnspacing": 1.3,
    "borderaxespad": 0,
    "borderpad": 0.2,
    "labelcolor": _INK,
}


@dataclass(frozen=True, slots=True)
class Recording:
    """What the picture is of: a name, the first and the last stamp in nanoseconds, and the model."""

    name: str
    start_ns: int
    end_ns: int
    model: str = ""

    def seconds(self, stamp_ns: int) -> float:
        """Return the time since the start."""
        return (stamp_ns - self.start_ns) / 1e9


Thumbnails = Mapping[str, Sequence[tuple[int, RgbImage]]]
"""Small face crops by face_id: (stamp_ns, RGB uint8 (H, W, 3))."""


def draw_timeline(
    path: Path, estimates: Sequence[Estimate], recording: Recording, thumbnails: Thumbnails | None = None
) -> None:
    """Write the timeline of `estimates` as PNG to `path`; see `timeline_figure`."""
    with letters_of_any_script():
        timeline_figure(estimates, recording, thumbnails).savefig(path, dpi=150)


def timeline_figure(
    estimates: Sequence[Estimate], recording: Recording, thumbnails: Thumbnails | None = None
) -> Figure:
    """Return the picture of `estimates` (LABEL and FINAL, in the order of their stamps), one panel for each person."""
    latest = list({e.estimate_id: e for e in estimates}.values())
    people = _people(latest)
    shown = sorted(sorted(people, key=lambda face_id: -len(people[face_id]))[:MAX_PEOPLE], key=list(people).index)
    nobody = [e for e in latest if e.status is Status.NO_FACE]
    panel_in = _PANEL_IN + (_THUMBNAILS_IN if thumbnails else 0.0)
    heights = [panel_in] * len(shown) + [_NOBODY_IN] * bool(nobody or not shown)
    figure = Figure(figsize=(_WIDTH_IN, 1), facecolor="white")
    canvas = FigureCanvasAgg(figure)  # measures the legends
    about = _about(recording, hidden=len(people) - len(shown))
    legends = _legends(canvas, latest)
    legends_in = max(legend.get_window_extent(canvas.get_renderer()).height for legend in legends) / figure.dpi
    legend_top_in = _ABOUT_IN + (len(about) - 1) * _LINE_IN + _LEGEND_GAP_IN
    head_in = legend_top_in + legends_in + _PANELS_GAP_IN
    figure.set_figheight(head_in + sum(heights) * 1.12 + _FOOT_IN)
    total = figure.get_figheight()
    grid = figure.add_gridspec(
        len(heights),
        height_ratios=heights,
        left=_LEFT_IN / _WIDTH_IN,
        right=1 - _RIGHT_IN / _WIDTH_IN,
        bottom=_FOOT_IN / total,
        top=1 - head_in / total,
        hspace=0.12 * len(heights) * panel_in / max(sum(heights), 1e-9),
    )
    axes = [figure.add_subplot(grid[row]) for row in range(len(heights))]
    for number, (face_id, panel) in enumerate(zip(shown, axes, strict=False), 1):
        _draw_person(panel, people[face_id], recording)
        panel.set_ylabel(f"person {number}\n{face_id}", fontsize=9, color=_INK)
        if thumbnails:
            _draw_thumbnails(panel, thumbnails.get(face_id, ()), recording)
    if nobody or not shown:
        _draw_nobody(axes[-1], latest, recording)
    for panel in axes:
        panel.set_xlim(0, max(recording.seconds(recording.end_ns), 0.1))
        panel.tick_params(labelbottom=panel is axes[-1], colors=_FAINT, labelsize=9, length=3)
        panel.xaxis.set_major_formatter(FuncFormatter(_clock if recording.end_ns - recording.start_ns > 180e9 else _s))
    _draw_head_and_foot(figure, about)
    for legend, x in zip(legends, (_LEFT_IN / _WIDTH_IN, 1 - _RIGHT_IN / _WIDTH_IN), strict=True):
        legend.set_bbox_to_anchor((x, 1 - legend_top_in / total), figure.transFigure)
    return figure


def _people(estimates: Sequence[Estimate]) -> dict[str, list[Estimate]]:
    people: dict[str, list[Estimate]] = {}
    for estimate in estimates:
        if estimate.status is not Status.NO_FACE:
            people.setdefault(estimate.face_id, []).append(estimate)
    return people


def _draw_person(panel: Axes, estimates: Sequence[Estimate], recording: Recording) -> None:
    inches_per_second = (_WIDTH_IN - _LEFT_IN - _RIGHT_IN) / max(recording.seconds(recording.end_ns), 0.1)
    for run in _runs(estimates, recording):
        times = [recording.seconds(e.stamp_ns) for e in run]
        # An estimate holds until the next one; the last one of a run as long as its neighbours did, or to the end.
        hold = float(np.median(np.diff(times))) if len(times) > 1 else 0.5
        edges = [*times, max(times[-1], min(times[-1] + hold, recording.seconds(recording.end_ns)))]
        _draw_areas(panel, run, edges)
        _draw_band(panel, run, edges, inches_per_second)
    panel.set_ylim(0, sum(_BAND))
    panel.set_yticks([0, 0.5, 1])
    panel.grid(axis="x", color=_RULE, linewidth=0.6)
    panel.set_axisbelow(True)
    for side in ("top", "right", "left"):
        panel.spines[side].set_visible(False)
    panel.spines["bottom"].set_color(_RULE)


def _runs(estimates: Sequence[Estimate], recording: Recording) -> list[list[Estimate]]:
    """Split where the person was out of sight."""
    times = [recording.seconds(e.stamp_ns) for e in estimates]
    spacing = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    runs = [[estimates[0]]]
    for before, now, estimate in zip(times, times[1:], estimates[1:], strict=False):
        if now - before > max(_LARGEST_GAP_S, 3 * spacing):
            runs.append([])
        runs[-1].append(estimate)
    return runs


def _draw_areas(panel: Axes, run: Sequence[Estimate], edges: Sequence[float]) -> None:
    for has_shares, group in groupby(range(len(run)), key=lambda i: bool(run[i].probabilities)):
        indices = list(group)
        if not has_shares:
            continue
        labels = run[indices[0]].labels
        shares = np.array([run[i].probabilities for i in indices])
        times = [*(edges[i] for i in indices), edges[indices[-1] + 1]]
        order = [i for name in COLOURS for i, label in enumerate(labels) if label == name]
        order += [i for i in range(len(labels)) if i not in order]
        columns = np.vstack([shares, shares[-1:]]).T[order]
        colours = [COLOURS.get(labels[i], _OTHER) for i in order]
        panel.stackplot(times, columns, colors=colours, linewidth=0.4, edgecolor="white")


def _draw_band(panel: Axes, run: Sequence[Estimate], edges: Sequence[float], inches_per_second: float) -> None:
    for (label, status), group in groupby(range(len(run)), key=lambda i: (run[i].label, run[i].status)):
        indices = list(group)
        left, right = edges[indices[0]], edges[indices[-1] + 1]
        look = _trust(COLOURS.get(label, _OTHER), status)
        panel.add_patch(Rectangle((left, _BAND[0]), right - left, _BAND[1], linewidth=0.8, **look))
        text = label or status.name.lower()
        if (right - left) * inches_per_second > len(text) * _LETTER_IN:
            dark = status is Status.OK and _luminance(COLOURS.get(label, _OTHER)) < 0.45
            panel.text(
                (left + right) / 2,
                _BAND[0] + _BAND[1] / 2,
                text,
                ha="center",
                va="center",
                fontsize=8.5,
                color="white" if dark else _INK,
                clip_on=True,
            )


def _trust(colour: str, status: Status) -> dict[str, Any]:
    """Return how a patch shows the status."""
    if status is Status.OK:
        return {"facecolor": colour, "edgecolor": "white"}
    if status is Status.LOW_CONFIDENCE:
        return {"facecolor": _mixed(colour, 0.35), "edgecolor": "white"}
    if status is Status.LOW_QUALITY:
        return {"facecolor": _mixed(colour, 0.35), "edgecolor": "white", "hatch": "/////"}
    return {"facecolor": "white", "edgecolor": _FAINT, "hatch": "xxxxx"}


def _draw_nobody(panel: Axes, estimates: Sequence[Estimate], recording: Recording) -> None:
    stamps = [e.stamp_ns for e in estimates] + [recording.end_ns]
    for i, estimate in enumerate(estimates):
        if estimate.status is Status.NO_FACE:
            left = recording.seconds(estimate.stamp_ns)
            panel.axvspan(left, max(recording.seconds(stamps[i + 1]), left), color=_RULE, linewidth=0)
    panel.set_ylabel("nobody", fontsize=9, color=_FAINT, rotation=0, ha="right", va="center")
    panel.set_yticks([])
    for side in ("top", "right", "left"):
        panel.spines[side].set_visible(False)
    panel.spines["bottom"].set_color(_RULE)


def _draw_thumbnails(panel: Axes, thumbnails: Sequence[tuple[int, RgbImage]], recording: Recording) -> None:
    top = sum(_BAND)
    room = _THUMBNAILS_IN / _PANEL_IN * top
    panel.set_ylim(0, top + room)
    for stamp_ns, rgb in thumbnails:
        picture = OffsetImage(rgb, zoom=0.9 * _THUMBNAILS_IN * 72 / max(rgb.shape[:2]))
        place = (recording.seconds(stamp_ns), top + room / 2)
        panel.add_artist(AnnotationBbox(picture, place, frameon=False, pad=0, annotation_clip=True))


def _about(recording: Recording, hidden: int) -> list[str]:
    """Return the lines that say what the picture is of, each as wide as the panels at the most."""
    # Names of files may hold bytes that are no text.
    parts = [recording.name.encode("utf-8", "replace").decode(), f"{recording.seconds(recording.end_ns):.1f} s"]
    parts.append(recording.model)
    if hidden:
        parts.append(f"{hidden} more people with fewer estimates are not shown")
    font = FontProperties(size=_ABOUT_SIZE)
    lines: list[str] = []
    for piece in (piece for part in parts for piece in wrapped(part, font, _ROOM_IN)):
        if lines and width_in(joined := f"{lines[-1]}  ·  {piece}", font) <= _ROOM_IN:
            lines[-1] = joined
        else:
            lines.append(piece)
    return lines


def _legends(canvas: FigureCanvasAgg, estimates: Sequence[Estimate]) -> tuple[Legend, Legend]:
    """Return the legend of the labels, in as many rows as it needs, and that of the trust at its right."""
    figure, renderer = canvas.figure, canvas.get_renderer()
    used = {label for e in estimates for label in e.labels}
    labels = [label for label in COLOURS if label in used] + sorted(used - set(COLOURS))
    patches = [Patch(facecolor=COLOURS.get(label, _OTHER), label=label) for label in labels]
    marks = [
        Patch(label=text, **_trust(COLOURS["sadness"], status))
        for status, text in (
            (Status.LOW_CONFIDENCE, "pale: low confidence"),
            (Status.LOW_QUALITY, "hatched: low quality"),
        )
    ]
    trust = figure.legend(handles=marks, loc="upper right", ncols=len(marks), **_LEGEND)
    room = _ROOM_IN * figure.dpi - trust.get_window_extent(renderer).width - 0.2 * figure.dpi
    for columns in range(max(1, len(patches)), 0, -1):
        legend = figure.legend(handles=patches, loc="upper left", ncols=columns, **_LEGEND)
        if columns == 1 or legend.get_window_extent(renderer).width <= room:
            break
        legend.remove()
    return legend, trust


def _draw_head_and_foot(figure: Figure, about: Sequence[str]) -> None:
    height = figure.get_figheight()
    left = _LEFT_IN / _WIDTH_IN
    figure.text(left, 1 - _TITLE_IN / height, "Displayed emotion", fontsize=15, weight="bold", color=_INK)
    for number, line in enumerate(about):
        place = 1 - (_ABOUT_IN + number * _LINE_IN) / height
        figure.text(left, place, line, fontsize=_ABOUT_SIZE, color=_FAINT, parse_math=False)
    figure.text(0.5, 0.33 / height, "time since the start of the recording", ha="center", fontsize=9, color=_FAINT)
    note = "Areas: probability of each label. A model's reading of displayed expressions, not a fact about feelings."
    figure.text(left, 0.12 / height, note, fontsize=8, color=_FAINT)


def _s(value: float, _: object) -> str:
    return f"{value:g} s"


def _clock(value: float, _: object) -> str:
    return f"{int(value) // 60}:{int(value) % 60:02d}"


def _mixed(colour: str, share: float) -> tuple[float, float, float]:
    """Return `colour` mixed into white."""
    red, green, blue = (1 - share + share * part for part in to_rgb(colour))
    return red, green, blue


def _luminance(colour: str) -> float:
    red, green, blue = to_rgb(colour)
    return 0.299 * red + 0.587 * green + 0.114 * blue
