"""From a person's clip to the facial priors that the face branch reads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from emo_llama_ros.clips import SECOND_NS, Clip
from emo_llama_ros.errors import EmoError
from emo_llama_ros.faces.action_units import is_readable
from emo_llama_ros.faces.face import Face, FloatArray
from emo_llama_ros.faces.priors import EVIDENCE_NAMES, IBUG_68, crop_coordinates, evidence_vector
from emo_llama_ros.model.configuration import FaceConfig
from emo_llama_ros.model.face_mining import FacePriors

CLIP_EVIDENCE_NAMES: tuple[str, ...] = (*EVIDENCE_NAMES, "age_s")
"""Entries of the evidence of one frame: those of `faces.priors`, all unknown for a face that cannot be read, then the
frame's age: seconds before the newest frame of the clip."""
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
    for row, frame in enumerate(chosen):
        face = clip.faces[frame]
        features, points = _embedding(face, config), _landmarks(face, config)
        if features is None or points is None:
            continue
        valid[row] = True
        embedding[row], landmarks[row] = torch.from_numpy(features), torch.from_numpy(points)
        age_s = (clip.stamp_ns - clip.stamps_ns[frame]) / SECOND_NS
        evidence[row] = torch.from_numpy(clip_evidence(face, clip.baseline, age_s)[: width[2]])
    return FacePriors(
        valid,
        embedding if config.embedding_dim else None,
        landmarks if config.landmark_regions else None,
        evidence if config.evidence_dim else None,
    )


def clip_evidence(face: Face, baseline: dict[str, float] | None, age_s: float) -> FloatArray:
    """Return the evidence (M,) of one frame, named by CLIP_EVIDENCE_NAMES."""
    if is_readable(face):
        measured = evidence_vector(face.measures, baseline)
    else:
        measured = np.full(len(EVIDENCE_NAMES), np.nan, np.float32)
    return np.append(measured, np.float32(age_s))


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
