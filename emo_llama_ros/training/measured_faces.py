"""Where the face of a record is and what is measured on it: found once, kept as numbers, never as pictures.

A file of face measurements is an `.npz`; a record can bring its own as `priors`. T is the number of frames that are
read of the record's medium, F ≤ T the number of those that show the face.

| array | shape | meaning |
|---|---|---|
| `rows` | (F,) int | which of the T frames |
| `boxes` | (F, 4) | x, y, width, height in pixels; only needed where the model looks at the face alone |
| `embedding`, `landmarks`, `evidence` | (F, …) | the priors of `model.face_mining.FacePriors` that the model reads |
| `valid` | (F,) bool | False where one is missing; all True when left out |
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from emo_llama_ros.data.datasets.clip_source import Faces, clip_of
from emo_llama_ros.errors import BadData
from emo_llama_ros.faces.face import Box, FaceAnalyzer
from emo_llama_ros.frames import Frame
from emo_llama_ros.model.clip_priors import clip_priors
from emo_llama_ros.model.configuration import FaceConfig
from emo_llama_ros.model.face_mining import FacePriors
from emo_llama_ros.options import Options
from emo_llama_ros.training.collate import parts


@dataclass(frozen=True, slots=True)
class MeasuredFaces:
    """The face of one record in F of its frames."""

    rows: tuple[int, ...]
    boxes: tuple[Box, ...]
    """F boxes, or none where nobody measured them."""
    priors: FacePriors | None
    """F rows; None for a model without a face branch, or where F is 0."""
    reason: str = ""
    """Why the record cannot be used; empty when it can."""

    def spread(self, frames: int, face: FaceConfig) -> FacePriors:
        """Return priors of all T frames: those that do not show the face are not valid."""
        priors = self.priors or _nobody(face)
        rows = torch.tensor(self.rows, dtype=torch.long)
        spread = {name: part.new_zeros(frames, *part.shape[1:]) for name, part in parts(priors).items()}
        for name, part in parts(priors).items():
            spread[name][rows] = part
        return FacePriors(**spread)

    def save(self, path: Path) -> None:
        """Write the file at once, so that an interrupted run leaves no half of it."""
        boxes = [(box.x, box.y, box.width, box.height) for box in self.boxes]
        arrays = {"rows": np.array(self.rows, np.int64), "boxes": np.array(boxes, np.float64).reshape(-1, 4)}
        priors = {name: part.numpy() for name, part in parts(self.priors).items()} if self.priors else {}
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            np.savez(file, **arrays, **priors)  # type: ignore[arg-type]
        partial.replace(path)


def measure_faces(
    frames: list[Frame], where: Faces, analyzer: FaceAnalyzer, face: FaceConfig | None, options: Options
) -> MeasuredFaces:
    """Find the largest face in each frame and measure what the model's face branch reads; F is 0 without any face."""
    clip = clip_of(frames, "", where, analyzer, options)
    if clip is None:
        return MeasuredFaces((), (), None)
    rows = {frame.stamp_ns: row for row, frame in enumerate(frames)}
    return MeasuredFaces(
        tuple(rows[stamp] for stamp in clip.stamps_ns),
        tuple(found.box for found in clip.faces),
        clip_priors(clip, face) if face else None,
    )


def load_faces(path: Path, face: FaceConfig | None) -> MeasuredFaces:
    """Read a file of face measurements; raise BadData naming what is missing or does not fit the model."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError) as error:
        raise BadData(f"The face measurements {path} cannot be read ({error}).") from None
    if "rows" not in arrays:
        raise BadData(f"The face measurements {path} lack the array 'rows'.")
    rows = tuple(arrays["rows"].astype(int).tolist())
    boxes = tuple(Box(*box) for box in arrays.get("boxes", np.empty((0, 4))).astype(float).tolist())
    return MeasuredFaces(rows, boxes, _priors(arrays, len(rows), face, path) if face and rows else None)


def _nobody(face: FaceConfig) -> FacePriors:
    return FacePriors(
        torch.zeros(0, dtype=torch.bool),
        torch.zeros(0, face.embedding_dim) if face.embedding_dim else None,
        torch.zeros(0, face.num_landmarks, 2) if face.landmark_regions else None,
        torch.zeros(0, face.evidence_dim) if face.evidence_dim else None,
    )


def _priors(arrays: dict[str, npt.NDArray[np.generic]], count: int, face: FaceConfig, path: Path) -> FacePriors:
    wanted: dict[str, tuple[int | None, ...]] = {}
    if face.embedding_dim:
        spatial = (None, None) if face.embedding_is_map else ()
        wanted["embedding"] = (count, face.embedding_dim, *spatial)
    if face.landmark_regions:
        wanted["landmarks"] = (count, face.num_landmarks, 2)
    if face.evidence_dim:
        wanted["evidence"] = (count, face.evidence_dim)
    for name, shape in wanted.items():
        got = arrays[name].shape if name in arrays else None
        if got is None or len(got) != len(shape) or any(w not in (None, g) for w, g in zip(shape, got, strict=True)):
            sizes = " × ".join("any" if size is None else str(size) for size in shape)
            found = "it is missing" if got is None else " × ".join(map(str, got))
            raise BadData(f"The face measurements {path}: '{name}' must be {sizes}, but {found}.")
    priors = {name: torch.from_numpy(arrays[name].astype(np.float32)) for name in wanted}
    return FacePriors(torch.from_numpy(arrays.get("valid", np.ones(count)).astype(bool)), **priors)
