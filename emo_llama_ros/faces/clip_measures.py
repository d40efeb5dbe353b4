"""What is measured over a clip: which action units show, and how the expression developed."""

from __future__ import annotations

from collections.abc import Sequence

from emo_llama_ros.clips import SECOND_NS, Clip
from emo_llama_ros.evidence import ClipFacts, Evidence, Phase, phases_of
from emo_llama_ros.faces.action_units import MEASURED, NEEDS_BASELINE, is_readable, measured_units
from emo_llama_ros.labels import RAF_DB


def measure(clip: Clip) -> tuple[tuple[Evidence, ...], tuple[Phase, ...]]:
    """Return the action units of a clip and the course of its expression, as the face networks measure them."""
    read = [(s, f.expression) for s, f in zip(clip.stamps_ns, clip.faces, strict=True) if f.expression is not None]
    ages_s = [(clip.stamp_ns - stamp) / SECOND_NS for stamp, _ in read]
    return measured_units(clip), phases_of(ages_s, [expression.tolist() for _, expression in read], RAF_DB.labels)


def clip_facts(clip: Clip, labels: Sequence[str], probabilities: Sequence[float]) -> ClipFacts:
    """Return all that may be said about a clip of which a model made `probabilities`, in the order of `labels`."""
    evidences, phases = measure(clip)
    readable = any(is_readable(face) for face in clip.faces)
    unknown = MEASURED if not readable else NEEDS_BASELINE if clip.baseline is None else frozenset()
    span_s = (clip.stamp_ns - clip.start_ns) / SECOND_NS
    return ClipFacts(evidences, unknown, readable, tuple(labels), tuple(probabilities), phases, span_s)
