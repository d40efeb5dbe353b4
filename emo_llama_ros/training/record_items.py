"""Items of the trainer from instruction records: pixels are read while training runs, faces were found before."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset

from emo_llama_ros.data.datasets import DATASETS, read_frames
from emo_llama_ros.data.datasets.clip_source import Faces, pad
from emo_llama_ros.data.records import Record
from emo_llama_ros.errors import BadData
from emo_llama_ros.faces.alignment import margin_crop
from emo_llama_ros.faces.face import FaceAnalyzer
from emo_llama_ros.faces.make import make_analyzer
from emo_llama_ros.inference.clip_inputs import ClipInputs
from emo_llama_ros.model.configuration import EmoLlamaConfig
from emo_llama_ros.model.processing import preprocess_clip
from emo_llama_ros.options import Options
from emo_llama_ros.training.collate import Item
from emo_llama_ros.training.measured_faces import MeasuredFaces, load_faces, measure_faces

NO_FACE = "No face was found."
_FEWEST_PER_WORKER = 32


@dataclass(frozen=True, slots=True)
class View:
    """What of a record the model sees."""

    kind: str
    """'face' or 'frame'."""
    frames: int
    faces: Faces
    """Where to look for the face; AUTO goes by the record's dataset."""
    config: EmoLlamaConfig

    @property
    def needs_faces(self) -> bool:
        """Whether anything has to be looked for."""
        return self.kind == "face" or self.config.face is not None

    @property
    def needs_a_face(self) -> bool:
        """Whether a record without a face is of no use. A feature map's size is only known where there is one."""
        return self.kind == "face" or (self.config.face is not None and self.config.face.embedding_is_map)

    def where(self, record: Record) -> Faces:
        """Return how to look for the face of a record."""
        if self.faces is not Faces.AUTO:
            return self.faces
        dataset = DATASETS.get(record.dataset)
        return Faces.PAD if dataset and dataset.cropped else Faces.DETECT


class RecordItems(Dataset[Item]):
    """The records that can be used, as items: (T, 3, S, S) pixels, face priors, turns."""

    def __init__(self, records: Sequence[Record], found: Sequence[MeasuredFaces], view: View) -> None:
        """`found` belongs to `records` one by one; those with a reason are left out."""
        self._all = [(record, faces) for record, faces in zip(records, found, strict=True) if not faces.reason]
        self._view = view

    @property
    def records(self) -> list[Record]:
        """The records, in the order of the items."""
        return [record for record, _ in self._all]

    def __len__(self) -> int:
        return len(self._all)

    def __getitem__(self, index: int) -> Item:
        record, found = self._all[index]
        view, config = self._view, self._view.config
        frames = read_frames(Path(record.path), view.frames)
        if found.rows and max(found.rows) >= len(frames):
            raise BadData(f"The face measurements of '{record.id}' are of another number of frames than its medium.")
        pixels, priors = None, found.priors
        if view.kind == "face":
            padded = view.where(record) is Faces.PAD
            seen = [frames[row].rgb for row in found.rows]
            seen = [margin_crop(pad(rgb) if padded else rgb, box) for rgb, box in zip(seen, found.boxes, strict=True)]
        else:
            seen = [frame.rgb for frame in frames]
            priors = found.spread(len(frames), config.face) if config.face else None
        if config.vision is not None:
            pixels = preprocess_clip(seen, config.vision.image_size, pad=view.kind == "face" or _is_image(record))
        return Item(record.turns, record.label, pixels, priors)


def survey(records: Sequence[Record], view: View, folder: Path) -> list[MeasuredFaces]:
    """Find and measure the faces of all records, several at a time; `folder` keeps them for the next run.

    A record that cannot be used has the reason with it. Raise BadData for a file of measurements that a record names
    and that does not fit, BadCheckpoint for a model whose priors nobody measures.
    """
    if not view.needs_faces:
        return [MeasuredFaces((), (), None)] * len(records)
    if any(not record.priors for record in records):
        ClipInputs(view.config, torch.device("cpu"), torch.float32)  # checks that its priors can be measured
        make_analyzer(Options())  # a missing network is told here, not by a worker
        folder.mkdir(parents=True, exist_ok=True)
    workers = min(max(len(os.sched_getaffinity(0)) - 1, 0), len(records) // _FEWEST_PER_WORKER)
    loader = DataLoader(
        _Survey(records, view, folder),
        batch_size=None,
        num_workers=workers,
        multiprocessing_context="fork" if workers else None,
    )
    return [_usable(found, view) for found in loader]


def located(record: Record, folder: Path) -> Record:
    """Return a record whose paths are relative to `folder` with paths from here; raise BadData for a missing file."""
    path, priors = folder / record.path, folder / record.priors if record.priors else ""
    for file in (path, priors):
        if file and not Path(file).exists():
            raise BadData(f"The record '{record.id}' names {file}, which is not there.")
    return replace(record, path=str(path), priors=str(priors))


class _Survey(Dataset[MeasuredFaces]):
    def __init__(self, records: Sequence[Record], view: View, folder: Path) -> None:
        self._records, self._view, self._folder = records, view, folder
        self._options = Options()
        self._analyzer: FaceAnalyzer | None = None

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> MeasuredFaces:
        record, view = self._records[index], self._view
        if record.priors:
            return load_faces(Path(record.priors), view.config.face)
        if self._analyzer is None:  # one for each worker
            self._analyzer = make_analyzer(self._options)
        kept = self._folder / f"{_key(record, view, self._analyzer.name)}.npz"
        if kept.is_file():
            return load_faces(kept, view.config.face)
        try:
            frames = read_frames(Path(record.path), view.frames)
        except BadData as error:
            return MeasuredFaces((), (), None, str(error))
        found = measure_faces(frames, view.where(record), self._analyzer, view.config.face, self._options)
        found.save(kept)
        return found


def _usable(found: MeasuredFaces, view: View) -> MeasuredFaces:
    if found.reason:
        return found
    if not found.rows and view.needs_a_face:
        return replace(found, reason=NO_FACE)
    if view.kind == "face" and len(found.boxes) != len(found.rows):
        return replace(found, reason="Its face measurements have no boxes, which the view 'face' needs.")
    return found


def _key(record: Record, view: View, analyzer: str) -> str:
    """Return a name that changes with everything that the measurements depend on."""
    path = Path(record.path)
    state = path.stat()
    face = asdict(view.config.face) if view.config.face else None
    parts = [
        str(path.resolve()),
        state.st_mtime_ns,
        state.st_size,
        view.frames,
        view.where(record).value,
        analyzer,
        face,
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _is_image(record: Record) -> bool:
    return record.medium == "image"
