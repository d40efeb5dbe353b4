"""Clips of made-up and of real faces."""

from __future__ import annotations

import os

import numpy as np
import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture
def make_face():
    """Return a made-up face with all priors; `seed` makes another one."""
    from emo_llama_ros.faces.face import Box, Face, HeadPose
    from emo_llama_ros.faces.face_mesh import POINTS
    from emo_llama_ros.faces.measures import NAMES

    def make(seed=0, **parts):
        random = np.random.default_rng(seed)
        known = {
            "crop": random.integers(0, 255, (224, 224, 3), np.uint8),
            "landmarks": random.uniform(200, 300, (POINTS, 3)).astype(np.float32),
            "pose": HeadPose(0, 0, 0),
            "measures": {name: float(random.uniform(0, 0.5)) for name in NAMES},
            "embedding": random.normal(size=128).astype(np.float32),
        }
        return Face(Box(200, 200, 100, 100), 0.9, **(known | parts))

    return make


@pytest.fixture
def make_clip(make_face):
    """Return a clip of made-up faces, a frame each quarter of a second."""
    from emo_llama_ros.perception.clips import Clip

    def make(frames=8, first=0, face_id="abc", baseline=None, **parts):
        faces = tuple(make_face(first + i, **parts) for i in range(frames))
        stamps = tuple(10**9 + (first + i) * 250_000_000 for i in range(frames))
        return Clip(face_id, "camera", stamps, faces, baseline)

    return make
