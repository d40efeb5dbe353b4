"""Any ONNX expression classifier with a list of labels, in place of the embedded network.

What its label file may say stands in `expression_labels`. Without a line `# pixels: KIND`, colour networks get
`imagenet`, grey ones `-1..1`, and those that read whole numbers the pixels themselves.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from emo_llama_ros.errors import MissingModel
from emo_llama_ros.estimate import NAN
from emo_llama_ros.faces.alignment import FaceAxes, Roi, cut
from emo_llama_ros.faces.expression import ExpressionReader, Reading
from emo_llama_ros.faces.expression_labels import AFFECT, ExpressionLabels, read_labels
from emo_llama_ros.faces.face import FloatArray
from emo_llama_ros.faces.onnx_network import OnnxNetwork
from emo_llama_ros.frames import RgbImage
from emo_llama_ros.labels import RAF_DB

logger = logging.getLogger(__name__)

_MEAN, _STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
PIXELS: dict[str, Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]] = {
    "0..255": lambda pixels: pixels,
    "-128..127": lambda pixels: pixels - 128,
    "0..1": lambda pixels: pixels / 255,
    "-1..1": lambda pixels: pixels / 127.5 - 1,
    "imagenet": lambda pixels: (pixels / 255 - _MEAN) / _STD,
}
"""Normalisations by name; "imagenet" is the mean and standard deviation of torchvision, RGB order."""
SCALE, DROP = 2.0, 0.45
"""The whole face from brows to chin, see `FaceAxes.roi`."""
_WHOLE = ("0..255", "-128..127")
_WITH_AFFECT = (7, 8)
"""Numbers of expressions after which two more outputs are valence and arousal without being listed (EmotiEffLib)."""
_SCORES = ("expr", "emo", "prob", "logit", "score", "class", "label", "cat")
"""How the name of the output with the labels may begin, where several would fit."""

_NOTHING = 1e-9
"""A sum of probabilities that says nothing about how they are shared."""

Place = tuple[str, int]
"""An output and the position of a number in it."""


class OnnxExpression:
    """An ONNX classifier on the upright picture of the whole face, with the embedding of another reader.

    Number type, layout (NCHW or NHWC), batch, size and channels (3 is RGB, 1 grey) are read from the file; a network
    for pictures that are no squares gets the middle of the square. Outputs that are no probabilities, which is tried at
    load, go through a softmax. Labels outside RAF-DB's seven are left out and the rest sums to 1 again; a label of the
    seven that the network lacks stays at 0. Valence and arousal are taken where the network gives them: as two numbers
    after 7 or 8 expressions, as lines of the label file, or from outputs that are named so; clipped to [-1, 1].

    Raises MissingDependency without onnxruntime, MissingModel when the files are absent or do not fit each other.
    """

    def __init__(self, model: Path, labels: Path, embedding_of: ExpressionReader, threads: int = 1) -> None:
        for path, option in ((model, "expression_model"), (labels, "expression_labels")):
            if not path.is_file():
                raise MissingModel(f"There is no file {path}, which the parameter {option} names.")
        listed = read_labels(labels)
        self.name = model.stem
        self._embedding_of = embedding_of
        self._network = OnnxNetwork(model, listed.size, threads)
        self._pixels = PIXELS[_kind_of_pixels(self._network, listed)]
        trials = [self._network.run(self._pixels(p.astype(np.float64))) for p in _trial_pictures(self._network)]
        sizes = {name: values.size for name, values in trials[0].items()}
        self._output = _output_with_labels(model, sizes, listed)
        self._expressions = np.array([i for i, name in enumerate(listed.names) if name not in AFFECT])
        self._columns = np.array(listed.columns)
        self._affect = {kind: _place_of(kind, self._output, sizes, listed) for kind in AFFECT}
        places = [place for place in self._affect.values() if place is not None]
        self._network.use(sorted({self._output, *(output for output, _ in places)}))
        scores = [trial[self._output][self._expressions] for trial in trials]
        if not all(np.isfinite(out).all() for out in scores):
            raise MissingModel(f"{model} gives scores that are not finite; export it anew, or as float32.")
        self._softmax = not all(float(out.min()) >= -1e-6 and abs(float(out.sum()) - 1) < 5e-3 for out in scores)
        self.notes = tuple(self._notes(sizes, listed))
        """What is done with the network's outputs, in sentences."""
        for note in self.notes:
            logger.info(note)

    def read(
        self, rgb: RgbImage, grey: npt.NDArray[np.uint8], axes: FaceAxes, movements: FloatArray | None = None
    ) -> Reading:
        """Return the network's reading of the whole face, and the other reader's embedding."""
        outputs = self._network.run(self._pixels(self._picture(rgb, grey, axes.roi(SCALE, DROP)).astype(np.float64)))
        return Reading(
            self._seven(outputs[self._output].astype(np.float64)),
            self._embedding_of.read(rgb, grey, axes).embedding,
            valence=_clipped(outputs, self._affect["valence"]),
            arousal=_clipped(outputs, self._affect["arousal"]),
        )

    def _seven(self, scores: npt.NDArray[np.float64]) -> FloatArray | None:
        """Return RAF-DB's probabilities (7,), None where a score is no number."""
        if not np.isfinite(scores[self._expressions]).all():
            return None
        if self._softmax:
            scores = np.exp(scores - scores[self._expressions].max())
        seven = np.where(self._columns >= 0, np.maximum(scores[self._columns], 0), 0)
        if seven.sum() < _NOTHING:  # all belongs to labels that are left out
            seven = np.where(self._columns >= 0, 1.0, 0.0)
        return (seven / seven.sum()).astype(np.float32)

    def _picture(self, rgb: RgbImage, grey: npt.NDArray[np.uint8], view: Roi) -> npt.NDArray[np.uint8]:
        """Return the middle (height, width, channels) of the square that `view` holds."""
        layout = self._network.layout
        side = max(layout.height, layout.width)
        square = cut(rgb if layout.channels == 3 else grey, view, side).reshape(side, side, layout.channels)
        top, left = (side - layout.height) // 2, (side - layout.width) // 2
        return square[top : top + layout.height, left : left + layout.width]

    def _notes(self, sizes: Mapping[str, int], listed: ExpressionLabels) -> list[str]:
        notes = []
        if listed.left_out:
            names = ", ".join(listed.left_out)
            notes.append(f"{self.name}: {names} is not published, the other labels share its probability.")
        missing = [label for label in RAF_DB.labels if label not in listed.names]
        if missing:
            notes.append(f"{self.name}: the network has no {', '.join(missing)}, which is never published.")
        for kind, place in self._affect.items():
            if place is not None:
                notes.append(f"{self.name}: {kind} is number {place[1] + 1} of the output '{place[0]}'.")
        used = {self._output, *(place[0] for place in self._affect.values() if place is not None)}
        for output in sizes.keys() - used:
            notes.append(f"{self.name}: the output '{output}' ({sizes[output]} numbers) is not used.")
        if self._network.layout.batch > 1:
            notes.append(f"{self.name}: the network reads {self._network.layout.batch} pictures at a time, always.")
        return notes


def _kind_of_pixels(network: OnnxNetwork, listed: ExpressionLabels) -> str:
    whole, grey = np.issubdtype(network.number, np.integer), network.layout.channels == 1
    default = "-1..1" if grey else "imagenet"
    if whole:
        default = "-128..127" if np.issubdtype(network.number, np.int8) else "0..255"
    kind = listed.pixels or default
    possible = [name for name in PIXELS if (not whole or name in _WHOLE) and (not grey or name != "imagenet")]
    if kind not in possible:
        reads = f"{network.layout.channels} channels of {np.dtype(network.number).name}"
        raise MissingModel(
            f"{listed.path} asks for pixels '{kind}', which a network with {reads} cannot get; choose one of "
            f"{', '.join(possible)}."
        )
    return kind


def _output_with_labels(model: Path, sizes: Mapping[str, int], listed: ExpressionLabels) -> str:
    count = len(listed.names)
    wanted = {count}
    if count in _WITH_AFFECT and listed.expressions == listed.names:
        wanted.add(count + len(AFFECT))
    if listed.output:
        if sizes.get(listed.output) not in wanted:
            raise MissingModel(
                f"{listed.path} names the output '{listed.output}' for {count} labels, but {model} has "
                f"{_described(sizes)}."
            )
        return listed.output
    fitting = [name for name, size in sizes.items() if size in wanted]
    if len(fitting) > 1:
        fitting = [name for name in fitting if any(w.startswith(_SCORES) for w in _words(name))] or fitting
    if len(fitting) > 1:
        raise MissingModel(
            f"{model} has several outputs that fit the {count} labels of {listed.path} ({', '.join(fitting)}); name "
            "one there in a line '# output: NAME'."
        )
    if not fitting:
        only = next(iter(sizes.values())) if len(sizes) == 1 else 0
        has = f"{only} outputs" if only else _described(sizes)
        raise MissingModel(f"{model} has {has} but {listed.path} lists {count} labels.")
    return fitting[0]


def _place_of(kind: str, scores: str, sizes: Mapping[str, int], listed: ExpressionLabels) -> Place | None:
    """Return where valence or arousal stands: in the output `scores`, or in one that is named so."""
    position = AFFECT.index(kind)
    named = listed.valence if kind == AFFECT[0] else listed.arousal
    if named:
        if sizes.get(named) not in (1, 2):
            raise MissingModel(
                f"{listed.path} names the output '{named}' for {kind}, but the network has {_described(sizes)}."
            )
        return named, position if sizes[named] == 2 else 0
    if kind in listed.names:
        return scores, listed.names.index(kind)
    if sizes[scores] == len(listed.names) + len(AFFECT):
        return scores, len(listed.names) + position
    for output, size in sizes.items():
        order = _affect_order(output)
        if output != scores and size == len(order) and kind in order:
            return output, order.index(kind)
    return None


def _affect_order(output: str) -> list[str]:
    """Return which of valence and arousal an output holds by its name, in order: "va" and "arousal_valence" both."""
    words = _words(output)
    if {"v", "a"} <= set(words):
        return [AFFECT["va".index(word)] for word in words if word in ("v", "a")]
    order: list[str] = []
    for word in words:
        if word in ("va", "av"):
            order += AFFECT if word == "va" else AFFECT[::-1]
        order += [AFFECT[part == "aro"] for part in re.findall("valen|^val$|val(?=aro)|aro", word)]
    return order


def _words(name: str) -> list[str]:
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return re.findall("[a-z]+", spaced.lower())


def _described(sizes: Mapping[str, int]) -> str:
    outputs = ", ".join(f"'{name}' ({size})" for name, size in sizes.items())
    return f"the outputs {outputs}" if len(sizes) > 1 else f"the output {outputs}"


def _clipped(outputs: Mapping[str, FloatArray], place: Place | None) -> float:
    if place is None:
        return NAN
    return float(np.clip(outputs[place[0]][place[1]], -1, 1))


def _trial_pictures(network: OnnxNetwork) -> list[npt.NDArray[np.uint8]]:
    """Return pictures on which outputs that are no probabilities will not look like them by chance."""
    rng = np.random.default_rng(0)
    shape = (network.layout.height, network.layout.width, network.layout.channels)
    noise = [rng.integers(0, 256, shape, np.uint8) for _ in range(2)]
    return [np.zeros(shape, np.uint8), np.full(shape, 255, np.uint8), *noise]
