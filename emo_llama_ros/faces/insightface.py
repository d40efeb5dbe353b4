"""Faces from a local InsightFace model pack: SCRFD, 2d106det, genderage and ArcFace.

InsightFace's code is MIT, but its model packs are for non-commercial research only. None is shipped or downloaded
here: the user names the folder of a pack that lies on this machine. Expression, pose and measured evidence come from
the same networks as in the embedded analyzer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emo_llama_ros.errors import MissingDependency, MissingModel
from emo_llama_ros.faces import face_mesh
from emo_llama_ros.faces.alignment import eye_axes, margin_crop
from emo_llama_ros.faces.blazeface import Detection
from emo_llama_ros.faces.expression import with_reading
from emo_llama_ros.faces.face import AnalyzerDeclaration, Box, Face, FloatArray
from emo_llama_ros.faces.face_mesh import FaceMesh
from emo_llama_ros.faces.quality import flaws
from emo_llama_ros.faces.reader import MESH_NETWORKS, FaceReader, located, to_grey
from emo_llama_ros.frames import RgbImage
from emo_llama_ros.install.fetch import model_file
from emo_llama_ros.options import Options

LICENCE = "InsightFace model packs are licensed for non-commercial research only"
PACK: dict[str, tuple[str, ...]] = {
    "detection": ("det_*.onnx", "scrfd_*.onnx"),
    "landmark_2d_106": ("2d106det.onnx",),
    "recognition": ("w600k_*.onnx", "glintr*.onnx"),
    "genderage": ("genderage.onnx",),
}
"""InsightFace's module names → file names in its packs."""
DETECTION_SIZE = (640, 640)
MIN_SCORE = 0.5
_GENDERS = ("woman", "man")


class InsightFaceAnalyzer:
    """Finds faces with SCRFD, also those turned too far for the mesh: these have 106 landmarks and NO_LANDMARKS.

    The embedding (512,) is ArcFace's unit vector, so a language model must have been trained with this analyzer. The
    106 landmarks have NaN for z. Age and gender are guessed only when the option agr_prompt is on. Raises MissingModel
    naming the file that the folder lacks, MissingDependency when insightface is not installed.
    """

    def __init__(self, options: Options) -> None:
        folder = _checked_folder(options.insightface_folder)
        modules = [module for module in PACK if module != "genderage" or options.agr_prompt]
        self._app = _load(folder, modules)
        self._options = options
        self._mesh = FaceMesh(
            model_file(face_mesh.NETWORK_FILE, options.models_folder),
            model_file(face_mesh.WITNESS_FILE, options.models_folder),
        )
        self._reader = FaceReader(options)
        self._pack = folder.name

    @property
    def name(self) -> str:
        """Names the networks in use."""
        return f"insightface-{self._pack}+facemesh+{self._reader.expression.name}"

    def find(self, rgb: RgbImage, known: Sequence[Face] = (), everywhere: bool = True) -> list[Face]:
        """Return the faces of an RGB uint8 image (H, W, 3), the largest first.

        InsightFace searches the whole image and reads every face in one go, whatever is known already.
        """
        return self.analyze(rgb)

    def read(self, rgb: RgbImage, faces: Sequence[Face]) -> list[Face]:
        """Return the faces, which `find` has read."""
        return list(faces)

    def analyze(self, rgb: RgbImage) -> list[Face]:
        """Return all faces of an image, read."""
        grey = to_grey(rgb)
        found = self._app.get(np.ascontiguousarray(rgb[:, :, ::-1]))
        faces = [self._face(rgb, grey, item) for item in found]
        return sorted(faces, key=lambda face: -face.box.width * face.box.height)

    def _face(self, rgb: RgbImage, grey: npt.NDArray[np.uint8], item: Any) -> Face:
        x0, y0, x1, y1 = (float(v) for v in item.bbox)
        box, score = Box(x0, y0, x1 - x0, y1 - y0), float(item.det_score)
        points = np.asarray(item.kps, np.float32)  # (5, 2): eyes, nose tip, mouth corners, image left first
        mesh = self._mesh.locate(rgb, Detection(box, score, points))
        attributes: dict[str, Any] = {"embedding": np.asarray(item.normed_embedding, np.float32)}
        if self._options.agr_prompt:
            attributes |= {"apparent_age": float(item.age), "apparent_gender": _GENDERS[int(item.gender)]}
        if mesh is None:
            return self._without_mesh(rgb, grey, box, score, points, item, attributes)
        return replace(self._reader.read(rgb, grey, located(rgb, score, mesh)), **attributes)

    def _without_mesh(
        self,
        rgb: RgbImage,
        grey: npt.NDArray[np.uint8],
        box: Box,
        score: float,
        points: FloatArray,
        item: Any,
        attributes: dict[str, Any],
    ) -> Face:
        reading = self._reader.expression.read(rgb, grey, eye_axes(points[0], points[1]))
        plane = np.asarray(item.landmark_2d_106, np.float32)
        face = Face(
            box=box,
            score=score,
            crop=margin_crop(rgb, box),
            landmarks=np.column_stack([plane, np.full(len(plane), np.nan, np.float32)]),
            flaws=flaws(grey, box, None, None, self._options),
        )
        return replace(with_reading(face, reading), **attributes)


def _checked_folder(name: str) -> Path:
    """Return the pack's folder, every file present: InsightFace would download a pack that it does not find."""
    if not name:
        raise MissingModel(
            f"Set insightface_folder to the folder of an InsightFace model pack on this machine ({LICENCE})."
        )
    folder = Path(name).expanduser().resolve()
    if not folder.is_dir():
        raise MissingModel(f"There is no folder {folder}, which insightface_folder names ({LICENCE}).")
    for module, patterns in PACK.items():
        if not any(path.is_file() for pattern in patterns for path in folder.glob(pattern)):
            raise MissingModel(f"{folder} has no {' or '.join(patterns)}, InsightFace's {module} network ({LICENCE}).")
    return folder


def _load(folder: Path, modules: list[str]) -> Any:
    try:
        from insightface.app import FaceAnalysis
    except ImportError as error:
        raise MissingDependency(
            f"The insightface analyzer cannot be imported ({error}); run `pip install 'emo_llama_ros[insightface]'`."
        ) from error
    try:
        app = FaceAnalysis(name=str(folder), allowed_modules=modules, providers=["CPUExecutionProvider"])
        app.prepare(ctx_id=-1, det_thresh=MIN_SCORE, det_size=DETECTION_SIZE)
    except Exception as error:  # onnxruntime's and InsightFace's exceptions share no other base
        raise MissingModel(f"InsightFace cannot load the pack in {folder} ({error}).") from error
    missing = [module for module in modules if module not in app.models]
    if missing:
        raise MissingModel(f"InsightFace does not recognise the {missing[0]} network in {folder} ({LICENCE}).")
    return app


DECLARATION = AnalyzerDeclaration(
    name="insightface",
    make=InsightFaceAnalyzer,
    networks=MESH_NETWORKS,
    folder="insightface_folder",
    extra="insightface",
)
