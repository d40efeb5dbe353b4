"""From a person's clip to the facial priors that the face branch reads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from emo_llama_ros.clips import SECOND_NS, Clip
from emo_llama_ros.errors import EmoError
from emo_llama_ros.evidence import Evidence, Phase, Trend
from emo_llama_ros.faces.action_units import MEASURED, NEEDS_BASELINE, is_readable, unit_intensities
from emo_llama_ros.faces.clip_measures import measure
from emo_llama_ros.faces.face import Face, FloatArray
from emo_llama_ros.faces.priors import IBUG_68, UNIT_NUMBERS, crop_coordinates, evidence_vector
from emo_llama_ros.labels import RAF_DB
from emo_llama_ros.model.configuration import FaceConfig
from emo_llama_ros.model.face_mining import FacePriors

TOLD_PHASES = 3
_COURSE = ("peak", "place", "trend", "onset_s", "offset_s")
FRAME_EVIDENCE_NAMES: tuple[str, ...] = (*(f"au{number}" for number in UNIT_NUMBERS), "has_baseline", "age_s")
"""What is measured in one frame: intensities of action units as in `faces.priors`, 1 with a baseline and 0 without, and
seconds before the newest frame of the clip. All but the age are unknown for a face that cannot be read."""
CLIP_EVIDENCE_NAMES: tuple[str, ...] = (
    *FRAME_EVIDENCE_NAMES,
    *(f"au{number}_{fact}" for number in UNIT_NUMBERS for fact in _COURSE),
    *(f"phase{k}_{fact}" for k in range(TOLD_PHASES) for fact in (*RAF_DB.labels, "start_s")),
)
"""Entries of a frame's evidence in a clip: what is measured in it, then what is measured over the clip, the same in
each frame. Of each action unit: its peak, 1 / its place among the strongest, trend (-1, 0, 1), onset and offset in
seconds before the newest frame. Of the newest phases of the expression, the newest first: one-hot label, start.

The raw measures are left out: without a baseline they tell people apart rather than expressions."""
_TREND_SIGN = {Trend.FALLING: -1.0, Trend.STEADY: 0.0, Trend.RISING: 1.0}
EXPRESSION_FLOOR = 1e-6


def clip_priors(clip: Clip, config: FaceConfig, frames: Sequence[int] | None = None) -> FacePriors:
    """Return the priors of some frames of a clip (all by default), on the CPU in float32.

    A frame is not valid where its face lacks a clue that the model reads. The evidence depends on the clip that the
    frame is in (its age, the person's baseline), so it must not be cached with the frame. Raise EmoError when the face
    analyzer gives embeddings of another size than the model reads.
    """
    chosen = range(len(clip.faces)) if frames is None else frames
    width = config.embedding_dim, config.num_landmarks, config.evidence_dim
    valid = torch.zeros(len(chosen), dtype=torch.bool)
    embedding = torch.zeros(len(chosen), width[0])
    landmarks = torch.zeros(len(chosen), width[1], 2)
    evidence = torch.full((len(chosen), width[2]), torch.nan)
    facts = clip_facts(clip, *measure(clip)) if width[2] == len(CLIP_EVIDENCE_NAMES) else None
    for row, frame in enumerate(chosen):
        face = clip.faces[frame]
        features, points = _embedding(face, config), _landmarks(face, config)
        if features is None or points is None:
            continue
        valid[row] = True
        embedding[row], landmarks[row] = torch.from_numpy(features), torch.from_numpy(points)
        if facts is not None:
            age_s = (clip.stamp_ns - clip.stamps_ns[frame]) / SECOND_NS
            evidence[row] = torch.from_numpy(np.append(frame_evidence(face, clip.baseline, age_s), facts))
        elif is_readable(face):
            evidence[row] = torch.from_numpy(evidence_vector(face.measures, clip.baseline)[: width[2]])
    return FacePriors(
        valid,
        embedding if config.embedding_dim else None,
        landmarks if config.landmark_regions else None,
        evidence if config.evidence_dim else None,
    )


def frame_evidence(face: Face, baseline: dict[str, float] | None, age_s: float) -> FloatArray:
    """Return what is measured in one frame, named by FRAME_EVIDENCE_NAMES."""
    if not is_readable(face):
        return np.array([*(np.nan for _ in UNIT_NUMBERS), np.nan, age_s], np.float32)
    units = unit_intensities(face.measures, baseline)
    return np.array([*(units.get(n, np.nan) for n in UNIT_NUMBERS), float(baseline is not None), age_s], np.float32)


def clip_facts(clip: Clip, evidences: Sequence[Evidence], phases: Sequence[Phase]) -> FloatArray:
    """Return what is measured over a clip, named by the part of CLIP_EVIDENCE_NAMES after the frame's own.

    `evidences` and `phases` are those of `faces.clip_measures.measure`. A unit that does not show has the peak 0 and
    nothing else; one that could not be measured has an unknown peak too. No onset means "from the start".
    """
    unknown = unmeasured_units(clip)
    units = np.full((len(UNIT_NUMBERS), len(_COURSE)), np.nan, np.float32)
    units[[i for i, number in enumerate(UNIT_NUMBERS) if number not in unknown], :3] = 0.0
    for place, e in enumerate(sorted(evidences, key=lambda e: (-e.intensity, e.unit)), 1):
        onset = np.nan if e.onset_s is None else e.onset_s
        units[UNIT_NUMBERS.index(e.unit)] = e.intensity, 1 / place, _TREND_SIGN[e.trend], onset, e.offset_s
    course = np.full((TOLD_PHASES, len(RAF_DB.labels) + 1), np.nan, np.float32)
    course[:, :-1] = 0.0
    for k, phase in enumerate(reversed(phases[-TOLD_PHASES:])):
        course[k, RAF_DB.labels.index(phase.label)], course[k, -1] = 1.0, phase.start_s
    return np.concatenate([units.ravel(), course.ravel()])


def unmeasured_units(clip: Clip) -> frozenset[int]:
    """Return the action units that nothing in the clip can tell about."""
    if not any(is_readable(face) for face in clip.faces):
        return MEASURED
    return NEEDS_BASELINE if clip.baseline is None else frozenset()


def _embedding(face: Face, config: FaceConfig) -> FloatArray | None:
    if not config.embedding_dim:
        return np.empty(0, np.float32)
    if config.embedding_source == "expression":
        return None if face.expression is None else np.log(np.maximum(face.expression, np.float32(EXPRESSION_FLOOR)))
    if face.embedding is not None and face.embedding.shape != (config.embedding_dim,):
        raise EmoError(
            f"The model reads face embeddings of {config.embedding_dim} numbers, but the face analyzer gives "
            f"{len(face.embedding)}; use the analyzer that the model was trained with."
        )
    return None if face.embedding is None else np.asarray(face.embedding, np.float32)


def _landmarks(face: Face, config: FaceConfig) -> FloatArray | None:
    if not config.landmark_regions:
        return np.empty((0, 2), np.float32)
    if face.landmarks is None or len(face.landmarks) <= max(IBUG_68):
        return None
    return crop_coordinates(face.landmarks[list(IBUG_68)], face.box)
