"""FER's pictures as the node would see them: the face found, turned upright, and cut by its own measure."""

from __future__ import annotations

from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt

from emo_llama_ros.faces.alignment import cut, mesh_axes
from emo_llama_ros.faces.emo_eyes import FER_DROP, FER_SCALE
from emo_llama_ros.faces.face import Face
from emo_llama_ros.frames import RgbImage

ENLARGED = 240
"""Pixels per side in which faces are looked for, as in a camera's image."""


class Finder(Protocol):
    """What finds faces: `faces.face.FaceAnalyzer`, or a part of it."""

    def find(self, rgb: RgbImage) -> list[Face]:
        """Return the faces of an image (H, W, 3), the largest first."""


def aligned(images: npt.NDArray[np.uint8], finder: Finder) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """Return FER pictures (N, 48, 48), each cut anew around its face, and which had a face that was found (N,).

    A picture without one stays as it is.
    """
    made, found = images.copy(), np.zeros(len(images), bool)
    for place, image in enumerate(images):
        grey = np.asarray(cv2.resize(image, (ENLARGED, ENLARGED), interpolation=cv2.INTER_CUBIC), np.uint8)
        faces = finder.find(np.ascontiguousarray(np.repeat(grey[:, :, None], 3, axis=2)))
        if faces and faces[0].landmarks is not None:
            roi = mesh_axes(faces[0].landmarks).roi(FER_SCALE, FER_DROP)
            made[place], found[place] = cut(grey, roi, image.shape[0], repeat_edge=True), True
    return made, found
