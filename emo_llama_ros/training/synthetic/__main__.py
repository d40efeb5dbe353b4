"""Make the recordings file of a recipe: `python -m emo_llama_ros.training.synthetic OUT.npz`.

Needs what `emo_llama fetch --media` brings. The same media and networks give the same numbers.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from emo_llama_ros.faces.face import FaceAnalyzer
from emo_llama_ros.faces.make import make_analyzer
from emo_llama_ros.faces.pose import frontal
from emo_llama_ros.install.fetch import media_file
from emo_llama_ros.options import Options
from emo_llama_ros.training.synthetic import face_model, recordings

MESH_MODEL = "au_to_mesh_pls_v4.npz"
_MESH_VERTICES = 478  # of py-feat's model: 468 of the face, 10 of the irises


def mean_face(analyzer: FaceAnalyzer) -> np.ndarray:
    """Return the frontal mesh (468, 3) between py-feat's average face and a real resting one, with its mouth closed."""
    with np.load(media_file(MESH_MODEL)) as model:
        mesh = model["intercept"].reshape(3, _MESH_VERTICES).T[:468].copy()
    mesh[:, 1:] *= -1  # its y points up and its z to the camera
    resting = recordings.mean_mesh(analyzer, "single_face.mp4", until_s=0.4)
    return face_model.closed_mouth((frontal(mesh.astype(np.float32)).points + resting) / 2)


def main() -> None:
    """Record every source and its altered copies."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--copies", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    analyzer = make_analyzer(Options())
    found = recordings.record(analyzer, arguments.copies, arguments.seed)
    recordings.save(found, mean_face(analyzer), arguments.out)
    print(f"{len(found)} recordings, {sum(len(r.flaws) for r in found)} frames → {arguments.out}")


if __name__ == "__main__":
    main()
