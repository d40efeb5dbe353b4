"""Any ONNX expression classifier with a list of labels, in place of the embedded network.

The label file has one label per line in the order of the outputs; synonyms of `labels.canonical` are understood.
A line `# pixels: KIND` says how the network wants its pixels, where KIND is one of `PIXELS`; without it, colour
networks get `imagenet` and grey ones `-1..1`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emo_llama_ros.errors import MissingDependency, MissingModel
from emo_llama_ros.faces.alignment import Roi, cut
from emo_llama_ros.faces.expression import ExpressionReader, Reading
from emo_llama_ros.faces.face import FloatArray
from emo_llama_ros.frames import RgbImage
from emo_llama_ros.labels import LABEL_SETS, RAF_DB, canonical

_MEAN, _STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
PIXELS: dict[str, Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]] = {
    "0..255": lambda pixels: pixels,
    "0..1": lambda pixels: pixels / 255,
    "-1..1": lambda pixels: pixels / 127.5 - 1,
    "imagenet": lambda pixels: (pixels / 255 - _MEAN) / _STD,
}
"""Normalisations by name; "imagenet" is the mean and standard deviation of torchvision, RGB order."""
DEFAULT_SIZE = 224
"""Side of the picture where the network leaves it open."""


class OnnxExpression:
    """An ONNX classifier on the upright picture of the whole face, with the embedding of another reader.

    Layout (NCHW or NHWC), size and channels (3 is RGB, 1 grey) are read from the file. Outputs that are no
    probabilities, which is tried at load, go through a softmax. Labels outside RAF-DB's seven are left out and the
    rest sums to 1 again; a label of the seven that the network lacks stays at 0. Raises MissingDependency without
    onnxruntime, MissingModel when the files are absent or do not fit each other.
    """

    def __init__(self, model: Path, labels: Path, embedding_of: ExpressionReader, threads: int = 1) -> None:
        for path, option in ((model, "expression_model"), (labels, "expression_labels")):
            if not path.is_file():
                raise MissingModel(f"There is no file {path}, which the parameter {option} names.")
        self._session = _session(model, threads)
        self._embedding_of = embedding_of
        self._input = self._session.get_inputs()[0]
        self._channels, self._size, self._channels_first = _layout(model, self._input.shape)
        names, pixels = _read_labels(labels)
        kind = pixels or ("imagenet" if self._channels == 3 else "-1..1")
        if kind not in PIXELS or (kind == "imagenet" and self._channels == 1):
            raise MissingModel(f"{labels} asks for pixels '{kind}', which a network with {self._channels} channels "
                               f"cannot get; choose one of {', '.join(PIXELS)}.")  # fmt: skip
        self._pixels = PIXELS[kind]
        self._columns = _columns(labels, names)
        self.name = model.stem
        trials = [self._run(picture) for picture in _trial_pictures(self._size, self._channels)]
        if trials[0].size != len(names):
            raise MissingModel(f"{model} has {trials[0].size} outputs but {labels} lists {len(names)} labels.")
        self._softmax = not all(float(out.min()) >= 0 and abs(float(out.sum()) - 1) < 1e-3 for out in trials)

    def read(self, rgb: RgbImage, grey: npt.NDArray[np.uint8], views: Sequence[Roi]) -> Reading:
        """Return the network's reading of the last view, and the other reader's embedding."""
        picture = cut(rgb if self._channels == 3 else grey, views[-1], self._size)
        outputs = self._run(picture.reshape(self._size, self._size, self._channels))
        if self._softmax:
            outputs = np.exp(outputs - outputs.max())
        seven = np.where(self._columns >= 0, outputs[self._columns], 0)
        return Reading(
            (seven / max(seven.sum(), 1e-12)).astype(np.float32), self._embedding_of.read(rgb, grey, views).embedding
        )

    def _run(self, picture: npt.NDArray[np.uint8]) -> FloatArray:
        values = self._pixels(picture.astype(np.float64)).astype(np.float32)  # (S, S, C)
        if self._channels_first:
            values = values.transpose(2, 0, 1)
        output = self._session.run(None, {self._input.name: np.ascontiguousarray(values)[None]})[0]
        return np.asarray(output, np.float32).ravel()


def _session(model: Path, threads: int) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingDependency(
            "The parameter expression_model needs onnxruntime; run `pip install 'emo_llama_ros[onnx]'`."
        ) from error
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(model), settings, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exception classes share no other base
        raise MissingModel(f"{model} is not a network that onnxruntime can run ({error}).") from error


def _layout(model: Path, shape: Sequence[Any]) -> tuple[int, int, bool]:
    """Return channels, side in pixels, and whether channels come first."""
    if len(shape) == 4:
        if shape[1] in (1, 3):
            return int(shape[1]), shape[2] if isinstance(shape[2], int) else DEFAULT_SIZE, True
        if shape[3] in (1, 3):
            return int(shape[3]), shape[1] if isinstance(shape[1], int) else DEFAULT_SIZE, False
    raise MissingModel(f"{model} wants an input of shape {list(shape)}, not one picture with 1 or 3 channels.")


def _read_labels(path: Path) -> tuple[list[str], str]:
    """Return the labels and the kind of pixels, "" where the file says none."""
    names, pixels = [], ""
    for line in path.read_text(encoding="utf-8").splitlines():
        text = line.strip()
        if text.startswith("#"):
            key, _, value = text.lstrip("# ").partition(":")
            if key.strip() == "pixels":
                pixels = value.strip()
        elif text:
            names.append(canonical(text))
    return names, pixels


def _columns(path: Path, names: list[str]) -> npt.NDArray[np.intp]:
    """Return for each label of RAF-DB the output that stands for it, -1 where there is none."""
    known = {label for labels in LABEL_SETS.values() for label in labels.labels}
    for name in names:
        if name not in known:
            raise MissingModel(f"{path} lists '{name}', which is no expression; known are {', '.join(sorted(known))}.")
        if names.count(name) > 1:
            raise MissingModel(f"{path} lists '{name}' twice.")
    if not set(names) & set(RAF_DB.labels):
        raise MissingModel(f"{path} lists none of {', '.join(RAF_DB.labels)}.")
    return np.array([names.index(label) if label in names else -1 for label in RAF_DB.labels])


def _trial_pictures(size: int, channels: int) -> list[npt.NDArray[np.uint8]]:
    """Return pictures on which outputs that are no probabilities will not look like them by chance."""
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (size, size, channels), np.uint8) for _ in range(2)]
    return [np.zeros((size, size, channels), np.uint8), np.full((size, size, channels), 255, np.uint8), *noise]
