"""What is measured over a clip: which action units show, and how the expression developed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import softmax

from emo_llama_ros.estimate import NAN
from emo_llama_ros.evidence import ClipFacts, Evidence, Phase, phases_of
from emo_llama_ros.evidence.action_units import MEASURED, NEEDS_BASELINE, is_readable, measured_units
from emo_llama_ros.faces.face import Face, FloatArray, QualityFlaw
from emo_llama_ros.frames import SECOND_NS
from emo_llama_ros.labels import CONTEMPT, RAF_DB
from emo_llama_ros.perception.clips import Clip

HALF_LIFE_S = 0.4
"""A face this much older than the newest counts half as much: recent enough to follow an onset within a second,
long enough to outvote a single wrong frame."""
_FLOOR = 1e-3
"""Smallest probability that one frame may give a label: no single frame can veto."""


def measure(clip: Clip) -> tuple[tuple[Evidence, ...], tuple[Phase, ...]]:
    """Return the action units of a clip and the course of its expression, as the face networks measure them."""
    read = [(s, f.expression) for s, f in zip(clip.stamps_ns, clip.faces, strict=True) if f.expression is not None]
    ages_s = [(clip.stamp_ns - stamp) / SECOND_NS for stamp, _ in read]
    return measured_units(clip), phases_of(ages_s, [expression.tolist() for _, expression in read], RAF_DB.labels)


def clip_facts(clip: Clip, labels: Sequence[str], probabilities: Sequence[float] = ()) -> ClipFacts:
    """Return all that may be said about a clip of which a model made `probabilities`, in the order of `labels`."""
    scores = clip_scores(clip)
    evidences, phases = measure(clip)
    readable = any(is_readable(face) for face in clip.faces)
    unknown = MEASURED if not readable else NEEDS_BASELINE if clip.baseline is None else frozenset()
    span_s = (clip.stamp_ns - clip.start_ns) / SECOND_NS
    readings = () if scores is None else ranked(scores)
    return ClipFacts(readings, evidences, unknown, readable, tuple(labels), tuple(probabilities), phases, span_s)


def clip_scores(clip: Clip, labels: Sequence[str] = RAF_DB.labels) -> FloatArray | None:
    """Return the log-probability of each of C `labels` over the clip, (C,); None without a reading.

    A face of age t weighs 2^(-t / HALF_LIFE_S). Faces with a flaw count only where no face is without.
    """
    read = _counting(clip)
    if not read:
        return None
    ages_s = np.array([(clip.stamp_ns - stamp) / SECOND_NS for stamp, _ in read], np.float32)
    return weighted_scores(ages_s, np.array([display_shares(face, labels) for _, face in read], np.float32))


def display_shares(face: Face, labels: Sequence[str]) -> FloatArray:
    """Return the probabilities of `labels` (C,) of a face that was read, which sum to 1.

    Each label is one of RAF_DB's seven, or contempt, which has 0 where the network does not know it.
    """
    assert face.expression is not None
    contempt = 0.0 if np.isnan(face.contempt) else face.contempt
    displays = dict(zip(RAF_DB.labels, ((1 - contempt) * face.expression).tolist(), strict=True)) | {CONTEMPT: contempt}
    shares = np.array([displays[label] for label in labels], np.float32)
    return shares / max(float(shares.sum()), _FLOOR)


def weighted_scores(ages_s: FloatArray, probabilities: FloatArray) -> FloatArray:
    """Return the weighted mean of log-probabilities (T, C), (C,); see `clip_scores`."""
    weights = _recency(ages_s)
    return np.asarray(weights @ np.log(np.maximum(probabilities, _FLOOR)) / weights.sum(), np.float32)


def clip_affect(clip: Clip) -> tuple[float, float]:
    """Return valence and arousal over the clip in [-1, 1], weighed as in `clip_scores`; NaN for what no face has."""
    faces = _counting(clip)
    ages_s = np.array([(clip.stamp_ns - stamp) / SECOND_NS for stamp, _ in faces], np.float32)
    return (
        _recent_mean(ages_s, np.array([face.valence for _, face in faces], np.float32)),
        _recent_mean(ages_s, np.array([face.arousal for _, face in faces], np.float32)),
    )


def ranked(scores: FloatArray) -> tuple[tuple[str, float], ...]:
    """Return RAF_DB's labels of log-probabilities (7,) with their shares, the largest first."""
    shares = softmax(scores)
    return tuple((RAF_DB.labels[i], float(shares[i])) for i in np.argsort(-shares, kind="stable"))


def good_readings(clip: Clip) -> list[tuple[int, FloatArray]]:
    """Return the stamp and the network's probabilities of every face that counts."""
    return [(stamp, face.expression) for stamp, face in _counting(clip) if face.expression is not None]


def _counting(clip: Clip) -> list[tuple[int, Face]]:
    """Return the faces that were read, with their stamps: those without a flaw, or all where no face is without."""
    read = [(s, f) for s, f in zip(clip.stamps_ns, clip.faces, strict=True) if f.expression is not None]
    return [(s, f) for s, f in read if f.flaws is QualityFlaw.NONE] or read


def _recency(ages_s: FloatArray) -> FloatArray:
    return np.asarray(2.0 ** (-ages_s / HALF_LIFE_S), np.float32)


def _recent_mean(ages_s: FloatArray, values: FloatArray) -> float:
    known = np.isfinite(values)
    if not known.any():
        return NAN
    return float(np.clip(np.average(values[known], weights=_recency(ages_s[known])), -1, 1))
