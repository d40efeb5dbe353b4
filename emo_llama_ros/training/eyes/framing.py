"""FER's pictures as the node sees them: the face found, turned upright, and cut by its own measure."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from rich.progress import track

from emo_llama_ros.faces.alignment import FaceAxes, cut, mesh_axes
from emo_llama_ros.faces.emo_eyes import FER_DROP, FER_SCALE
from emo_llama_ros.faces.face import FaceAnalyzer
from emo_llama_ros.faces.make import make_analyzer
from emo_llama_ros.options import Options

ENLARGED = 240
"""Pixels per side to which FER's 48 are enlarged, so that faces are found as in a camera's image."""
_CHUNK = 250

Pictures = npt.NDArray[np.uint8]


def enlarged(image: Pictures) -> Pictures:
    """Return a grey picture (S, S) with ENLARGED pixels per side."""
    return np.asarray(cv2.resize(image, (ENLARGED, ENLARGED), interpolation=cv2.INTER_CUBIC), np.uint8)


def found_axes(grey: Pictures, finder: FaceAnalyzer) -> FaceAxes | None:
    """Return the axes of the largest face in a grey picture (H, W); None where none is found."""
    faces = finder.find(np.ascontiguousarray(np.repeat(grey[:, :, None], 3, axis=2)))
    mesh = faces[0].landmarks if faces else None
    return None if mesh is None else mesh_axes(mesh)


def framed(images: Pictures, finder: FaceAnalyzer) -> Pictures:
    """Return FER pictures (N, 48, 48), each cut anew around its face; one in which none is found stays as it is."""
    made = images.copy()
    for place, image in enumerate(images):
        grey = enlarged(image)
        axes = found_axes(grey, finder)
        if axes is not None:
            made[place] = cut(grey, axes.roi(FER_SCALE, FER_DROP), image.shape[0], repeat_edge=True)
    return made


def framed_on_all_cores(images: Pictures, folder: Path) -> Pictures:
    """Return what `framed` gives with the node's own analyzer, and keep it in `folder`.

    A run that was stopped goes on where it was. Raise MissingModel when the analyzer's networks cannot be fetched.
    """
    folder.mkdir(parents=True, exist_ok=True)
    chunks = [images[start : start + _CHUNK] for start in range(0, len(images), _CHUNK)]
    files = [folder / f"{hashlib.sha256(chunk.tobytes()).hexdigest()[:24]}.npy" for chunk in chunks]
    missing = [(chunk, file) for chunk, file in zip(chunks, files, strict=True) if not file.is_file()]
    if missing:
        make_analyzer(Options())  # says here, and once, which network is missing
        # The networks' runtimes have threads of their own, which a forked process would not have.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(os.cpu_count() or 1, len(missing)), context) as pool:
            jobs = [pool.submit(_keep_framed, chunk, file) for chunk, file in missing]
            for job in track(jobs, "Finding the faces"):
                job.result()
    return np.concatenate([np.load(file) for file in files])


_finder: FaceAnalyzer | None = None


def _keep_framed(chunk: Pictures, file: Path) -> None:
    global _finder
    if _finder is None:
        cv2.setNumThreads(1)
        _finder = make_analyzer(Options())
    partial = file.with_suffix(".partial.npy")
    np.save(partial, framed(chunk, _finder))
    partial.rename(file)
