"""Pictures of a result: confusion matrix and reliability diagram, readable without colour vision and in grey print."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from emo_llama_ros.evaluation.metrics import Calibration, IntArray, Metrics
from emo_llama_ros.labels import LabelSet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#1f2933"
FAINT = "#9aa5b1"
BLUE, ORANGE = "#0072b2", "#d55e00"  # Okabe and Ito's palette, safe for colour-blind readers
NO_ANSWER = "no answer"


def save_confusion(metrics: Metrics, labels: LabelSet, title: str, path: Path) -> None:
    """Draw the confusion matrix: share of each true class in per cent, counts below, recall on the diagonal."""
    from emo_llama_ros.recordings.captions import letters_of_any_script

    with letters_of_any_script():
        confusion_figure(metrics, labels, title).savefig(path, dpi=150)


def confusion_figure(metrics: Metrics, labels: LabelSet, title: str) -> Figure:
    """Return the picture that `save_confusion` writes."""
    figure = _figure(1.6 + 0.82 * (len(labels.labels) + 1), 1.5 + 0.72 * len(labels.labels))
    axes = figure.add_subplot()
    _draw_confusion(axes, metrics.confusion, labels)
    figures = f"WAR {metrics.war.value:.1%}  ·  UAR {metrics.uar.value:.1%}  ·  {metrics.count} samples"
    _caption(axes, title, figures, room_in=figure.get_figwidth() - 1.7)
    return figure


def save_reliability(metrics: Metrics, title: str, path: Path) -> None:
    """Draw accuracy against confidence, and how many answers have which confidence; nothing without calibration."""
    from emo_llama_ros.recordings.captions import letters_of_any_script

    if metrics.calibration is not None:
        with letters_of_any_script():
            reliability_figure(metrics.calibration, title).savefig(path, dpi=150)


def reliability_figure(found: Calibration, title: str) -> Figure:
    """Return the picture that `save_reliability` writes."""
    figure = _figure(5.4, 6.0)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3.2, 1))
    _draw_reliability(top, found)
    _draw_histogram(bottom, found)
    figures = f"ECE {found.ece:.3f}  ·  Brier {found.brier:.3f}  ·  NLL {found.nll:.3f}"
    _caption(top, title, figures, room_in=figure.get_figwidth() - 0.9)
    return figure


def _figure(width: float, height: float) -> Figure:
    # The object interface needs no display and leaves the global state of pyplot alone.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _draw_confusion(axes: Axes, confusion: IntArray, labels: LabelSet) -> None:
    unanswered = confusion[:, -1].sum() > 0
    counts = confusion if unanswered else confusion[:, :-1]
    support = confusion.sum(1, keepdims=True)
    shares = np.divide(counts, support, out=np.full(counts.shape, math.nan), where=support > 0)
    axes.imshow(np.nan_to_num(shares), cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), share in np.ndenumerate(shares):
        if math.isnan(share):
            continue
        colour = "white" if share > 0.55 else INK if counts[row, column] else FAINT
        weight = "bold" if row == column else "normal"
        axes.text(
            column, row - 0.1, f"{share:.0%}", ha="center", va="center", color=colour, fontsize=9.5, weight=weight
        )
        axes.text(column, row + 0.24, f"{counts[row, column]}", ha="center", va="center", color=colour, fontsize=6.5)
    names = [*labels.labels, NO_ANSWER] if unanswered else list(labels.labels)
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(labels.labels)), labels.labels)
    axes.set_xlabel("answered", color=INK)
    axes.set_ylabel("true", color=INK)
    axes.set_xticks(np.arange(counts.shape[1] + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(counts.shape[0] + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    if unanswered:
        axes.axvline(counts.shape[1] - 1.5, color=FAINT, linewidth=1.5)
    axes.tick_params(which="both", length=0, colors=INK, labelsize=9)
    axes.spines[:].set_visible(False)


def _draw_reliability(axes: Axes, found: Calibration) -> None:
    width = 1 / len(found.bins)
    for i, (confidence, accuracy, count) in enumerate(found.bins):
        if not count:
            continue
        low, high = sorted((confidence, accuracy))
        left = i * width
        axes.bar(left, accuracy, width, align="edge", color=BLUE, alpha=0.85, edgecolor="white", linewidth=1)
        axes.bar(
            left, high - low, width, low, align="edge", color="none", edgecolor=ORANGE, hatch="////", linewidth=0.8
        )
    axes.plot([0, 1], [0, 1], color=INK, linewidth=1, linestyle="--")
    # Two empty bars for the legend, so that it shows what is drawn even where a bin is empty.
    axes.bar(0, 0, color=BLUE, alpha=0.85, label="accuracy")
    axes.bar(0, 0, color="none", edgecolor=ORANGE, hatch="////", label="gap to confidence")
    axes.legend(loc="upper left", framealpha=0.85, edgecolor="none", fontsize=9, labelcolor=INK)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_ylabel("accuracy", color=INK)
    _tidy(axes)


def _draw_histogram(axes: Axes, found: Calibration) -> None:
    width = 1 / len(found.bins)
    total = sum(count for _, _, count in found.bins)
    axes.bar([i * width for i in range(len(found.bins))], [count / total for _, _, count in found.bins], width,
             align="edge", color=FAINT, edgecolor="white", linewidth=1)  # fmt: skip
    axes.set_xlabel("confidence", color=INK)
    axes.set_ylabel("share of answers", color=INK)
    axes.yaxis.set_major_formatter("{x:.0%}")
    _tidy(axes)


def _tidy(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(colors=INK, labelsize=9)


def _caption(axes: Axes, title: str, figures: str, room_in: float) -> None:
    """Write the title, in as many lines of `room_in` inches as it needs, and the figures below it."""
    from matplotlib.font_manager import FontProperties

    from emo_llama_ros.recordings.captions import wrapped

    # Offsets in points, so that the two lines never meet, however tall the picture is.
    # Titles hold names of files: foreign bytes, and dollar signs that are no formula.
    font = FontProperties(size=12, weight="bold")
    title = "\n".join(wrapped(title.encode("utf-8", "replace").decode(), font, room_in))
    axes.set_title(title, loc="left", color=INK, fontsize=12, weight="bold", pad=22, parse_math=False)
    axes.annotate(figures, (0, 1), (0, 7), "axes fraction", "offset points", color=INK, fontsize=9.5)
