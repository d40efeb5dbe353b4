"""What is measured on a face whose mesh is known, whichever networks found it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from emo_llama_ros.errors import BadParameter
from emo_llama_ros.faces import blendshapes, face_mesh
from emo_llama_ros.faces.alignment import margin_crop, mesh_axes
from emo_llama_ros.faces.blendshapes import Blendshapes, scores_of
from emo_llama_ros.faces.emo_eyes import EmoEyes
from emo_llama_ros.faces.expression import ExpressionReader, with_reading
from emo_llama_ros.faces.face import Box, Face, FloatArray
from emo_llama_ros.faces.measures import eye_opening, measure
from emo_llama_ros.faces.pose import frontal
from emo_llama_ros.faces.quality import flaws
from emo_llama_ros.frames import RgbImage
from emo_llama_ros.install.fetch import model_file
from emo_llama_ros.options import Options

MESH_NETWORKS = (face_mesh.NETWORK_FILE, face_mesh.WITNESS_FILE, blendshapes.NETWORK_FILE)
"""What finds and measures a mesh, whichever networks found the face."""


class FaceReader:
    """Measures everything there is to measure on a face whose mesh is known."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._blendshapes = Blendshapes(model_file(blendshapes.NETWORK_FILE, options.models_folder))
        self.expression = make_expression_reader(options)

    def read(self, rgb: RgbImage, grey: npt.NDArray[np.uint8], face: Face) -> Face:
        """Return a face that has a mesh (478, 3), read, in an image given as RGB (H, W, 3) and grey (H, W)."""
        mesh = face.landmarks
        assert mesh is not None
        upright = frontal(mesh)
        movements = self._blendshapes.movements(mesh)
        reading = self.expression.read(rgb, grey, mesh_axes(mesh), movements)
        return replace(
            with_reading(face, reading),
            pose=upright.pose,
            measures=measure(upright, eye_opening(upright)) | scores_of(movements),
            flaws=flaws(grey, face.box, mesh, upright.pose, self._options),
        )


def make_expression_reader(options: Options) -> ExpressionReader:
    """Return the embedded expression network, or the user's ONNX classifier where `expression_model` names one."""
    embedded = EmoEyes(operating_point=options.expression_operating_point)
    if not options.expression_model:
        return embedded
    if not options.expression_labels:
        raise BadParameter("The parameter expression_model needs expression_labels: a text file with one label a line.")
    from emo_llama_ros.faces.onnx_expression import OnnxExpression

    return OnnxExpression(
        Path(options.expression_model).expanduser(), Path(options.expression_labels).expanduser(), embedded
    )


def located(rgb: RgbImage, score: float, mesh: FloatArray) -> Face:
    """Return the face with this mesh (478, 3), not yet read."""
    box = box_of(mesh)
    return Face(box=box, score=score, crop=margin_crop(rgb, box), landmarks=mesh)


def box_of(points: FloatArray) -> Box:
    """Return the box around points (N, 2 or more)."""
    (x0, y0), (x1, y1) = points[:, :2].min(0).tolist(), points[:, :2].max(0).tolist()
    return Box(x0, y0, x1 - x0, y1 - y0)


def to_grey(rgb: RgbImage) -> npt.NDArray[np.uint8]:
    """Return the luma (H, W) of an RGB image."""
    import cv2

    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.uint8)
