"""What is measured over a clip: which action units show, and how the expression developed."""

from __future__ import annotations

from emo_llama_ros.clips import SECOND_NS, Clip
from emo_llama_ros.evidence import Evidence, Phase, phases_of
from emo_llama_ros.faces.action_units import measured_units
from emo_llama_ros.labels import RAF_DB


def measure(clip: Clip) -> tuple[tuple[Evidence, ...], tuple[Phase, ...]]:
    """Return the action units of a clip and the course of its expression, as the face networks measure them."""
    read = [(s, f.expression) for s, f in zip(clip.stamps_ns, clip.faces, strict=True) if f.expression is not None]
    ages_s = [(clip.stamp_ns - stamp) / SECOND_NS for stamp, _ in read]
    return measured_units(clip), phases_of(ages_s, [expression.tolist() for _, expression in read], RAF_DB.labels)
