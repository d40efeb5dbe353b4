"""FER's faces as the node sees them: found, turned upright, cut by their own measure, and their movements scored."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from rich.progress import track

from emo_llama_ros.checksums import file_sha256
from emo_llama_ros.faces import blendshapes
from emo_llama_ros.faces.alignment import cut, mesh_axes
from emo_llama_ros.faces.blendshapes import Blendshapes
from emo_llama_ros.faces.embedded import DECLARATION, FaceFinder
from emo_llama_ros.faces.emo_eyes import FER_DROP, FER_SCALE
from emo_llama_ros.faces.face import FloatArray
from emo_llama_ros.install.fetch import model_file

ENLARGED = 240
"""Pixels per side to which FER's 48 are enlarged, so that faces are found as in a camera's image."""
_CHUNK = 250

Pictures = npt.NDArray[np.uint8]


def enlarged(image: Pictures) -> Pictures:
    """Return a grey picture (S, S) with ENLARGED pixels per side."""
    return np.asarray(cv2.resize(image, (ENLARGED, ENLARGED), interpolation=cv2.INTER_CUBIC), np.uint8)


def found_mesh(grey: Pictures, finder: FaceFinder) -> FloatArray | None:
    """Return the landmarks (478, 3) of the largest face in a grey picture (H, W); None where none is found."""
    faces = finder.find(np.ascontiguousarray(np.repeat(grey[:, :, None], 3, axis=2)))
    return faces[0].landmarks if faces else None


@dataclass(frozen=True, slots=True)
class Framed:
    """N faces as the node sees them."""

    pictures: Pictures
    """(N, 48, 48): each face cut anew; a picture in which none is found as it is."""
    movements: FloatArray
    """(N, 32) in the order of blendshapes.MOVEMENTS; NaN where no face is found."""


class Framer:
    """Finds faces as the node does; raises MissingModel when its networks cannot be fetched."""

    def __init__(self) -> None:
        self.finder = FaceFinder()
        self._blendshapes = Blendshapes(model_file(blendshapes.NETWORK_FILE))

    def framed(self, images: Pictures) -> Framed:
        """Return FER pictures (N, 48, 48) as the node sees them."""
        pictures = images.copy()
        movements = np.full((len(images), len(blendshapes.MOVEMENTS)), np.nan, np.float32)
        for place, image in enumerate(images):
            grey = enlarged(image)
            mesh = found_mesh(grey, self.finder)
            if mesh is not None:
                roi = mesh_axes(mesh).roi(FER_SCALE, FER_DROP)
                pictures[place] = cut(grey, roi, image.shape[0], repeat_edge=True)
                movements[place] = self._blendshapes.movements(mesh)
        return Framed(pictures, movements)


def framed_on_all_cores(images: Pictures, folder: Path) -> Framed:
    """Return what `Framer.framed` gives, and keep it in `folder`.

    A run that was stopped goes on where it was; what other networks or another cut made is not taken for it. Raise
    MissingModel when networks cannot be fetched.
    """
    folder.mkdir(parents=True, exist_ok=True)
    chunks = [images[start : start + _CHUNK] for start in range(0, len(images), _CHUNK)]
    way = _way_of_framing()
    files = [folder / f"{hashlib.sha256(way + chunk.tobytes()).hexdigest()[:24]}.npz" for chunk in chunks]
    missing = [(chunk, file) for chunk, file in zip(chunks, files, strict=True) if not file.is_file()]
    if missing:
        Framer()  # says here, and once, which network is missing
        # The networks' runtimes have threads of their own, which a forked process would not have.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(os.cpu_count() or 1, len(missing)), context) as pool:
            jobs = [pool.submit(_keep_framed, chunk, file) for chunk, file in missing]
            for job in track(jobs, "Finding the faces"):
                job.result()
    kept = [np.load(file) for file in files]
    return Framed(*(np.concatenate([part[name] for part in kept]) for name in ("pictures", "movements")))


def _way_of_framing() -> bytes:
    """Return what the result depends on beside the pictures."""
    networks = [file_sha256(model_file(name)) for name in DECLARATION.networks]
    parts = [str((ENLARGED, FER_SCALE, FER_DROP)), *networks]
    return "\n".join(parts).encode()


_framer: Framer | None = None


def _keep_framed(chunk: Pictures, file: Path) -> None:
    global _framer
    if _framer is None:
        cv2.setNumThreads(1)
        _framer = Framer()
    made = _framer.framed(chunk)
    partial = file.with_suffix(".partial.npz")
    np.savez(partial, pictures=made.pictures, movements=made.movements)
    partial.rename(file)
