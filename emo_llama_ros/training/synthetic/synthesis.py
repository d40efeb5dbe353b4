"""Clips of people who never were: trajectory → action units → mesh → measures, by the code that reads real faces."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np

from emo_llama_ros.evidence.priors import IBUG_68, crop_coordinates
from emo_llama_ros.faces.face import Face, FloatArray, QualityFlaw
from emo_llama_ros.faces.measures import measure
from emo_llama_ros.faces.pose import frontal
from emo_llama_ros.faces.reader import box_of
from emo_llama_ros.frames import SECOND_NS
from emo_llama_ros.perception.clips import Clip
from emo_llama_ros.training.synthetic import activation, face_model, readings, trajectories
from emo_llama_ros.training.synthetic.activation import UNITS
from emo_llama_ros.training.synthetic.clips import SyntheticClips, synthetic_clips

CHUNK = 512
WITH_BASELINE = 0.55
"""Share of clips of people whose neutral face is known."""
OTHERS_MOVEMENT = 0.75
"""Share of clips whose face moves as for another clip's display. What a face does and what a network reads of it often
disagree; a model that learned their agreement by heart overruled sure readings of real faces (a crying face became
disgust). So movement is there to be described, and tips the balance only where the readings leave it open."""
FULL_CLIPS = 0.75
"""Share of chunks with the node's default of 8 frames; the others have 1 to `max_frames`."""
TURNED_DEG = 35.0
"""Yaw or pitch from which a sampled face is TURNED. Not the node's limits, which may move: the shipped weights were
trained with this one."""
_EYE_EFFECTS = {5: 0.10, 43: -0.48, 7: -0.10, 6: -0.03, 12: -0.03}
_NO_CROP = np.empty((0, 0, 3), np.uint8)


def generate(count: int, seed: int, max_frames: int, mean_face: np.ndarray, processes: int) -> SyntheticClips:
    """Return `count` clips (rounded up to whole chunks); the same for the same seed, whatever the processes."""
    chunks = -(-count // CHUNK)
    jobs = [(seed, number, max_frames, mean_face) for number in range(chunks)]
    if processes <= 1:
        return SyntheticClips.cat([_chunk(*job) for job in jobs])
    # Spawned, because the parent may hold a GPU.
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        return SyntheticClips.cat(list(pool.map(_chunk, *zip(*jobs, strict=True))))


def _chunk(seed: int, number: int, max_frames: int, mean_face: np.ndarray) -> SyntheticClips:
    rng = np.random.default_rng((seed, number))
    frames = 8 if rng.random() < FULL_CLIPS else int(rng.integers(1, max_frames + 1))
    course = trajectories.sample(rng, CHUNK, frames)
    moved, resting = activation.sample(rng, course)
    swapped = np.flatnonzero(rng.random(CHUNK) < OTHERS_MOVEMENT)
    moved[swapped] = moved[rng.permutation(swapped)]
    moved[course.still] = moved[course.still][:, -1:]
    probabilities = readings.sample(rng, course)
    basis = face_model.make_basis(mean_face)
    people = face_model.shape(rng, basis, CHUNK)
    noise = rng.uniform(0.001, 0.004)
    meshes = face_model.move(rng, basis, people, moved, noise)  # (N, F, V, 3)
    neutral = face_model.move(rng, basis, people, resting[:, None], 0.001)[:, 0]
    meshes[course.still] = meshes[course.still][:, -1:]
    eyes, neutral_eyes = _eye_openings(rng, moved, resting)
    seen = face_model.whole(_before_camera(rng, meshes, course.still))
    flaws = _flaws(rng, CHUNK, frames)
    known = rng.random(CHUNK) < WITH_BASELINE
    clips, points = [], []
    for i in range(CHUNK):
        faces, shown = [], []
        for j in range(frames):
            upright = frontal(seen[i, j])
            box = box_of(seen[i, j])
            turned = max(abs(upright.pose.yaw), abs(upright.pose.pitch)) > TURNED_DEG
            faces.append(
                Face(
                    box=box,
                    score=1.0,
                    crop=_NO_CROP,
                    pose=upright.pose,
                    expression=probabilities[i, j],
                    measures=measure(upright, float(eyes[i, j])),
                    flaws=QualityFlaw(int(flaws[i, j])) | (QualityFlaw.TURNED if turned else QualityFlaw.NONE),
                )
            )
            shown.append(crop_coordinates(seen[i, j][list(IBUG_68)], box))
        stamps = tuple(round(float(-age) * SECOND_NS) for age in course.ages_s[i])
        baseline = measure(frontal(face_model.whole(neutral[i])), float(neutral_eyes[i])) if known[i] else None
        clips.append(Clip("", "", stamps, tuple(faces), baseline))
        points.append(shown)
    return synthetic_clips(clips, points, course.labels.tolist(), max_frames)


def _eye_openings(rng: np.random.Generator, moved: np.ndarray, resting: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what the eye network measures, (N, F) and for the neutral face (N,)."""
    effect = np.array([_EYE_EFFECTS.get(unit, 0.0) for unit in UNITS])
    person = rng.normal(0.34, 0.035, (len(moved), 1))
    noise = rng.normal(0, 0.012, moved.shape[:2])
    closed = 0.02
    return (person + moved @ effect + noise).clip(closed), (person[:, 0] + resting @ effect).clip(closed)


def _before_camera(rng: np.random.Generator, meshes: np.ndarray, still: np.ndarray) -> FloatArray:
    """Turn, scale and place frontal meshes (N, F, V, 3) in an image; the depth is known less well than the rest."""
    n, frames = meshes.shape[:2]
    spread = np.radians((9.0, 8.0, 6.0)) * rng.gamma(3, 1 / 3, (n, 1, 1))
    drift = rng.normal(0, 0.3, (n, frames, 3)).cumsum(1) * ~still[:, None, None]
    angles = (rng.normal(0, 1, (n, 1, 3)) + drift) * spread
    yaw, pitch, roll = np.moveaxis(angles, -1, 0)
    depth = rng.lognormal(0, 0.08, (n, 1, 1))
    flat = meshes * np.concatenate([np.ones((n, 1, 2)), depth], -1)[:, None]
    turned = np.einsum("nfij,nfvj->nfvi", _rotation(yaw, pitch, roll), flat)
    size = rng.uniform(40, 250, (n, 1, 1, 1))
    return (turned * size + rng.uniform(200, 400, (n, 1, 1, 3))).astype(np.float32)


def _rotation(yaw: np.ndarray, pitch: np.ndarray, roll: np.ndarray) -> np.ndarray:
    """Return rotation matrices (N, F, 3, 3): roll after pitch after yaw."""
    zero, one = np.zeros_like(yaw), np.ones_like(yaw)

    def matrix(*rows: tuple[np.ndarray, np.ndarray, np.ndarray]) -> np.ndarray:
        return np.stack([np.stack(row, -1) for row in rows], -2)

    cy, sy, cp, sp, cr, sr = (f(a) for a in (yaw, pitch, roll) for f in (np.cos, np.sin))
    about_y = matrix((cy, zero, sy), (zero, one, zero), (-sy, zero, cy))
    about_x = matrix((one, zero, zero), (zero, cp, -sp), (zero, sp, cp))
    about_z = matrix((cr, -sr, zero), (sr, cr, zero), (zero, zero, one))
    return about_z @ about_x @ about_y


def _flaws(rng: np.random.Generator, n: int, frames: int) -> np.ndarray:
    """Return quality flaws (N, F): a few whole clips that are small, blurred or dark, and single bad frames."""
    kinds = np.array([QualityFlaw.SMALL, QualityFlaw.BLURRED, QualityFlaw.DARK, QualityFlaw.CUT_OFF])
    whole = (rng.random((n, 1)) < 0.04) * rng.choice(kinds, (n, 1))
    single = (rng.random((n, frames)) < 0.02) * rng.choice(kinds, (n, frames))
    return whole | single
