"""From a person's clip to the facial priors that the face branch reads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from emo_llama_ros.errors import EmoError
from emo_llama_ros.evidence.action_units import is_readable, unit_intensities
from emo_llama_ros.evidence.priors import IBUG_68, UNIT_NUMBERS, crop_coordinates, evidence_vector
from emo_llama_ros.faces.face import Face, FloatArray
from emo_llama_ros.frames import SECOND_NS
from emo_llama_ros.model.configuration import FaceConfig
from emo_llama_ros.model.face_mining import FacePriors
from emo_llama_ros.perception.clips import Clip


def frame_evidence_names(units: Sequence[int]) -> tuple[str, ...]:
    """Return what a model that knows these units reads of one frame.

    Intensities of action units as in `evidence.priors`, 1 with a baseline and 0 without, and seconds before the newest
    frame of the clip. All but the age are unknown for a face that cannot be read.
    """
    return (*(f"au{number}" for number in units), "has_baseline", "age_s")


FRAME_EVIDENCE_NAMES: tuple[str, ...] = frame_evidence_names(UNIT_NUMBERS)
EXPRESSION_FLOOR = 1e-3
"""Smallest probability that the model sees of a label: below it, networks differ by orders of magnitude for nothing."""


def clip_priors(clip: Clip, config: FaceConfig, frames: Sequence[int] | None = None) -> FacePriors:
    """Return the priors of some frames of a clip (all by default), on the CPU in float32.

    A frame is not valid where its face lacks a prior that the model reads. The evidence depends on the clip that the
    frame is in (its age, the person's baseline), so it must not be cached with the frame. Raise EmoError when the face
    analyzer gives embeddings of another size than the model reads.
    """
    chosen = range(len(clip.faces)) if frames is None else frames
    width = config.embedding_dim, config.num_landmarks, config.evidence_dim
    valid = torch.zeros(len(chosen), dtype=torch.bool)
    embedding = torch.zeros(len(chosen), width[0])
    landmarks = torch.zeros(len(chosen), width[1], 2)
    evidence = torch.full((len(chosen), width[2]), torch.nan)
    for row, frame in enumerate(chosen):
        face = clip.faces[frame]
        features, points = _embedding(face, config), _landmarks(face, config)
        if features is None or points is None:
            continue
        valid[row] = True
        embedding[row], landmarks[row] = torch.from_numpy(features), torch.from_numpy(points)
        if width[2] == len(frame_evidence_names(config.units)):
            age_s = (clip.stamp_ns - clip.stamps_ns[frame]) / SECOND_NS
            evidence[row] = torch.from_numpy(frame_evidence(face, clip.baseline, age_s, config.units))
        elif is_readable(face):
            evidence[row] = torch.from_numpy(evidence_vector(face.measures, clip.baseline)[: width[2]])
    return FacePriors(
        valid,
        embedding if config.embedding_dim else None,
        landmarks if config.landmark_regions else None,
        evidence if config.evidence_dim else None,
    )


def frame_evidence(
    face: Face, baseline: dict[str, float] | None, age_s: float, units: Sequence[int] = UNIT_NUMBERS
) -> FloatArray:
    """Return what is measured in one frame, named by `frame_evidence_names`."""
    if not is_readable(face):
        return np.array([*(np.nan for _ in units), np.nan, age_s], np.float32)
    found = unit_intensities(face.measures, baseline)
    return np.array([*(found.get(n, np.nan) for n in units), float(baseline is not None), age_s], np.float32)


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
