"""Clips as what the face networks measure of them: arrays that a training run reads from memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch

from emo_llama_ros.evidence import ClipFacts, Evidence, Phase, Trend
from emo_llama_ros.evidence.action_units import MEASURED, NEEDS_BASELINE
from emo_llama_ros.evidence.clip_measures import measure, ranked, weighted_scores
from emo_llama_ros.evidence.priors import IBUG_68, UNIT_NUMBERS
from emo_llama_ros.faces.face import Face, FloatArray
from emo_llama_ros.frames import SECOND_NS
from emo_llama_ros.labels import RAF_DB
from emo_llama_ros.model.clip_priors import EXPRESSION_FLOOR, FRAME_EVIDENCE_NAMES, frame_evidence
from emo_llama_ros.model.face_mining import FacePriors
from emo_llama_ros.perception.clips import Clip

MAX_PHASES = 4
"""Clips with more changes keep the newest; at 8 frames there cannot be more."""
_TRENDS = tuple(Trend)
_AGE_S = FRAME_EVIDENCE_NAMES.index("age_s")
_HAS_BASELINE = FRAME_EVIDENCE_NAMES.index("has_baseline")


@dataclass(frozen=True, slots=True)
class SyntheticClips:
    """N clips of up to F frames; `frames` says how many of each are used, from the left."""

    frames: np.ndarray
    """(N,) int16"""
    span_s: np.ndarray
    """(N,) float32: age of the oldest frame."""
    expression: np.ndarray
    """(N, F, 7) float16: natural logarithm of the network's probabilities."""
    landmarks: np.ndarray
    """(N, F, 68, 2) float16, crop coordinates."""
    evidence: np.ndarray
    """(N, F, M) float32, named by FRAME_EVIDENCE_NAMES."""
    movements: np.ndarray
    """(N, U, 4) float32 for UNIT_NUMBERS: intensity (0 where it does not show), trend, onset (NaN for none), offset."""
    phases: np.ndarray
    """(N, 4, 3) float32: label, start, end; label -1 for none."""
    labels: np.ndarray
    """(N,) int8: the true label."""

    def __len__(self) -> int:
        return len(self.frames)

    def priors(self, i: int) -> FacePriors:
        """Return what the face branch reads of clip `i`."""
        used = slice(0, int(self.frames[i]))
        return FacePriors(
            torch.ones(int(self.frames[i]), dtype=torch.bool),
            torch.from_numpy(self.expression[i, used].astype(np.float32)),
            torch.from_numpy(self.landmarks[i, used].astype(np.float32)),
            torch.from_numpy(self.evidence[i, used]),
        )

    def facts(self, i: int, labels: Sequence[str], probabilities: Sequence[float] = ()) -> ClipFacts:
        """Return what may be said about clip `i`, given what a model made of it.

        Numbers are rounded as a note writes them, so that an answer never hangs on digits that the model cannot see.
        """
        evidences = tuple(
            Evidence(
                unit,
                round(float(intensity), 2),
                _TRENDS[int(trend)],
                None if np.isnan(onset) else round(float(onset), 1),
                round(float(offset), 1),
            )
            for unit, (intensity, trend, onset, offset) in zip(UNIT_NUMBERS, self.movements[i], strict=True)
            if intensity > 0
        )
        phases = tuple(
            Phase(RAF_DB.labels[int(label)], round(float(start), 1), round(float(end), 1))
            for label, start, end in self.phases[i]
            if label >= 0
        )
        known = self.evidence[i, : int(self.frames[i]), _HAS_BASELINE]
        readable = not np.isnan(known).all()
        unknown = MEASURED if not readable else NEEDS_BASELINE if np.nanmax(known) == 0 else frozenset()
        return ClipFacts(
            self.readings(i),
            tuple(sorted(evidences, key=lambda e: -e.intensity)),
            frozenset(unknown),
            readable,
            tuple(labels),
            tuple(round(p, 2) for p in probabilities),
            phases,
            round(float(self.span_s[i]), 1),
        )

    def readings(self, i: int) -> tuple[tuple[str, float], ...]:
        """Return what the network says of clip `i`, see `ClipFacts.readings`."""
        used = slice(0, int(self.frames[i]))
        ages_s = self.evidence[i, used, _AGE_S]
        return ranked(weighted_scores(ages_s, np.exp(self.expression[i, used].astype(np.float32))))

    def take(self, indices: Sequence[int] | np.ndarray) -> SyntheticClips:
        """Return some of the clips."""
        return SyntheticClips(*(getattr(self, f.name)[np.asarray(indices)] for f in fields(self)))

    def save(self, path: Path) -> None:
        """Write a compressed .npz file."""
        np.savez_compressed(path, **{f.name: getattr(self, f.name) for f in fields(self)})

    @staticmethod
    def load(path: Path) -> SyntheticClips:
        """Read what `save` wrote."""
        with np.load(path) as file:
            return SyntheticClips(**{f.name: file[f.name] for f in fields(SyntheticClips)})

    @staticmethod
    def cat(parts: Sequence[SyntheticClips]) -> SyntheticClips:
        """Join clips of the same F."""
        return SyntheticClips(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(SyntheticClips)))


def synthetic_clips(
    clips: Sequence[Clip], landmarks: Sequence[Sequence[FloatArray]], labels: Sequence[int], max_frames: int
) -> SyntheticClips:
    """Return the arrays of clips whose faces have an expression and measures, read by the code that the node runs.

    `landmarks[i][j]` (68, 2) are the crop coordinates of clip i, frame j.
    """
    n, f = len(clips), max_frames
    made = SyntheticClips(
        frames=np.array([len(clip.faces) for clip in clips], np.int16),
        span_s=np.array([(clip.stamp_ns - clip.start_ns) / SECOND_NS for clip in clips], np.float32),
        expression=np.zeros((n, f, len(RAF_DB.labels)), np.float16),
        landmarks=np.zeros((n, f, len(IBUG_68), 2), np.float16),
        evidence=np.full((n, f, len(FRAME_EVIDENCE_NAMES)), np.nan, np.float32),
        movements=np.zeros((n, len(UNIT_NUMBERS), 4), np.float32),
        phases=np.full((n, MAX_PHASES, 3), -1, np.float32),
        labels=np.asarray(labels, np.int8),
    )
    for i, clip in enumerate(clips):
        evidences, phases = measure(clip)
        for j, (stamp, face) in enumerate(zip(clip.stamps_ns, clip.faces, strict=True)):
            made.expression[i, j] = np.log(np.maximum(_expression(face), EXPRESSION_FLOOR))
            made.landmarks[i, j] = landmarks[i][j]
            age_s = (clip.stamp_ns - stamp) / SECOND_NS
            made.evidence[i, j] = frame_evidence(face, clip.baseline, age_s)
        for e in evidences:
            onset = np.nan if e.onset_s is None else e.onset_s
            made.movements[i, UNIT_NUMBERS.index(e.unit)] = e.intensity, _TRENDS.index(e.trend), onset, e.offset_s
        for j, phase in enumerate(phases[-MAX_PHASES:]):
            made.phases[i, j] = RAF_DB.labels.index(phase.label), phase.start_s, phase.end_s
    return made


def _expression(face: Face) -> FloatArray:
    assert face.expression is not None
    return face.expression
