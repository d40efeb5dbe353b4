"""An ONNX network that reads one picture, whatever number type, layout or batch its input has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emo_llama_ros.errors import MissingDependency, MissingModel
from emo_llama_ros.faces.face import FloatArray

DEFAULT_SIDE = 224
"""Side of the picture where neither the network nor its label file says one."""
_NUMBERS: dict[str, type[np.number[Any]]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(uint16)": np.uint16,
    "tensor(int16)": np.int16,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
}


@dataclass(frozen=True, slots=True)
class Layout:
    """How the picture lies in the input: NCHW where `channels_first`, else NHWC."""

    batch: int
    channels: int
    height: int
    width: int
    channels_first: bool


class OnnxNetwork:
    """Runs one picture through a network with a single picture input.

    Where the shape leaves the layout open, the first of NCHW and NHWC, colour and grey that runs is taken. A network
    with a fixed batch gets the picture that many times. Raises MissingDependency without onnxruntime, MissingModel
    with one sentence for a network that cannot be run so.
    """

    def __init__(self, model: Path, side: int = 0, threads: int = 1) -> None:
        self._model = model
        self._session = open_session(model, threads)
        self._input, self.number = _only_input(model, self._session.get_inputs())
        self._outputs = [o.name for o in self._session.get_outputs() if o.type in ("tensor(float)", "tensor(float16)",
                                                                                    "tensor(double)")]  # fmt: skip
        if not self._outputs:
            kinds = ", ".join(f"{o.name} ({o.type})" for o in self._session.get_outputs())
            raise MissingModel(f"{model} gives no floating-point numbers but {kinds}; export its scores as floats.")
        self.layout = self._working_layout(_layouts(model, self._input.shape, side))

    def run(self, values: npt.NDArray[np.float64]) -> dict[str, FloatArray]:
        """Return the numbers of every floating-point output, flat, for values (height, width, channels)."""
        return self._run(values, self.layout)

    def use(self, outputs: Sequence[str]) -> None:
        """Compute these outputs only from now on."""
        self._outputs = list(outputs)

    def _run(self, values: npt.NDArray[np.float64], layout: Layout) -> dict[str, FloatArray]:
        if np.issubdtype(self.number, np.integer):
            limits = np.iinfo(np.dtype(self.number))
            values = np.clip(np.rint(values), limits.min, limits.max)
        picture = values.transpose(2, 0, 1) if layout.channels_first else values
        batch = np.repeat(np.ascontiguousarray(picture, self.number)[None], layout.batch, axis=0)
        outputs = self._session.run(self._outputs, {self._input.name: batch})
        return {
            name: np.asarray(out[0] if _is_batch(out, layout.batch) else out, np.float32).ravel()
            for name, out in zip(self._outputs, outputs, strict=True)
        }

    def _working_layout(self, layouts: Sequence[Layout]) -> Layout:
        failure = ""
        for layout in layouts:
            try:
                self._run(np.zeros((layout.height, layout.width, layout.channels)), layout)
            except Exception as error:  # onnxruntime's exception classes share no other base
                failure = failure or _first_line(error)
            else:
                return layout
        shape = f"{layouts[0].width}×{layouts[0].height}"
        raise MissingModel(f"{self._model} cannot read a picture of {shape} pixels ({failure}).")


def _is_batch(output: npt.NDArray[Any], batch: int) -> bool:
    return output.ndim > 0 and len(output) == batch and (output.ndim > 1 or batch > 1)


def open_session(model: Path, threads: int) -> Any:
    """Return a session on the CPU; raise MissingDependency without onnxruntime, MissingModel for a bad file."""
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingDependency(
            f"Expression networks run with onnxruntime, which cannot be imported ({error}); run "
            "`pip install onnxruntime`."
        ) from error
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.log_severity_level = 4  # what goes wrong is raised, and said in one sentence
    try:
        return onnxruntime.InferenceSession(str(model), settings, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exception classes share no other base
        raise MissingModel(f"{model} is not a network that onnxruntime can run ({_first_line(error)}).") from error


def _only_input(model: Path, inputs: Sequence[Any]) -> tuple[Any, type[np.number[Any]]]:
    if len(inputs) != 1:
        names = ", ".join(f"'{i.name}'" for i in inputs) or "none"
        raise MissingModel(f"{model} has {len(inputs)} inputs ({names}), but a classifier of faces reads one picture.")
    number = _NUMBERS.get(inputs[0].type)
    if number is None:
        raise MissingModel(f"{model} wants an input of {inputs[0].type}; export it for pixels, as float32 or uint8.")
    return inputs[0], number


def _layouts(model: Path, shape: Sequence[Any], side: int) -> list[Layout]:
    """Return the layouts that an input shape allows, the likeliest first."""
    if len(shape) != 4:
        raise MissingModel(
            f"{model} wants an input of shape {_shape_text(shape)}, not one picture with 1 or 3 channels in a batch."
        )
    batch, *rest = (size if isinstance(size, int) and size > 0 else 0 for size in shape)
    found = []
    for channels_first in (True, False):
        given, height, width = (rest[0], rest[1], rest[2]) if channels_first else (rest[2], rest[0], rest[1])
        if given in (1, 3) or (given == 0 and not {1, 3} & set(rest)):
            height, width = height or width or side or DEFAULT_SIDE, width or height or side or DEFAULT_SIDE
            choices = (given,) if given else (3, 1)
            found += [Layout(batch or 1, channels, height, width, channels_first) for channels in choices]
    if not found:
        raise MissingModel(
            f"{model} wants an input of shape {_shape_text(shape)}, not one picture with 1 or 3 channels in a batch."
        )
    return found


def _shape_text(shape: Sequence[Any]) -> str:
    return "[" + ", ".join(str(size if size is not None else "?") for size in shape) + "]"


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].strip().rstrip(".") if str(error).strip() else type(error).__name__
