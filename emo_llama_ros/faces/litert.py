"""A TFLite network as a function from one array to its outputs."""

from __future__ import annotations

import os
import re
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from emo_llama_ros.errors import MissingDependency, MissingModel
from emo_llama_ros.faces.face import FloatArray

_GREETING = re.compile(rb"INFO: Created TensorFlow Lite[^\n]*\n?")
_making = threading.Lock()
_greeted = threading.Event()


@contextmanager
def _without_its_greeting() -> Iterator[None]:
    """Keep the line off stderr with which the library names its delegate; nothing turns it off.

    It would stand amid progress bars. The library says it with the first network that a process makes; while any other
    is made, stderr is left alone.
    """
    with _making, ExitStack() as stack:
        if not _greeted.is_set():
            with suppress(OSError):  # stderr is closed, or there is no place for a file
                stack.enter_context(_stderr_without_greeting())
        yield
        _greeted.set()


@contextmanager
def _stderr_without_greeting() -> Iterator[None]:
    """Lead file descriptor 2 into a file, and write what that then holds to stderr, but for the greeting.

    So what the other threads of this process say meanwhile comes a moment late. Raise OSError where that cannot be.
    """
    # Duplicated first: where descriptor 2 is closed, the file would get its number.
    with os.fdopen(os.dup(2), "wb", buffering=0) as own, tempfile.TemporaryFile() as kept:
        os.dup2(kept.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(own.fileno(), 2)
            kept.seek(0)
            with suppress(OSError):  # nobody reads stderr any more
                own.write(_GREETING.sub(b"", kept.read()))


class LiteRtNetwork:
    """Run a float32 TFLite network with batch size 1.

    `threads` is the size of its own thread pool. With `inner_shape`, the last hidden tensor of that shape (with its
    leading 1) is returned as one more output. Raises MissingDependency when ai-edge-litert is not installed and
    MissingModel when the file is not a network that it can run. Not thread-safe: use one object per thread.
    """

    def __init__(self, path: Path, threads: int = 1, inner_shape: tuple[int, ...] | None = None) -> None:
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise MissingDependency(
                f"The face networks run with ai-edge-litert, which cannot be imported ({error}); "
                "run `pip install ai-edge-litert==2.3.0`."
            ) from error
        try:
            with _without_its_greeting(), warnings.catch_warnings():
                # Keeping hidden tensors costs memory, of which the library warns; here it is some kilobytes.
                warnings.filterwarnings("ignore", message=".*experimental_preserve_all_tensors")
                self._interpreter: Any = Interpreter(
                    model_path=str(path), num_threads=threads, experimental_preserve_all_tensors=inner_shape is not None
                )
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise MissingModel(f"{path} is not a network that ai-edge-litert can run ({error}).") from error
        details = self._interpreter.get_input_details()[0]
        self._input: int = details["index"]
        self._outputs: list[int] = [d["index"] for d in self._interpreter.get_output_details()]
        if inner_shape is not None:
            self._outputs.append(self._inner(path, inner_shape))
        self.input_shape: tuple[int, ...] = tuple(int(n) for n in details["shape"])
        """(1, H, W, C)."""

    def __call__(self, values: FloatArray) -> list[FloatArray]:
        """Return the outputs for `values`, float32 of shape `input_shape`, each without its batch of 1."""
        self._interpreter.set_tensor(self._input, values)
        self._interpreter.invoke()
        found = (self._interpreter.get_tensor(i) for i in self._outputs)
        return [np.asarray(values[0] if len(values) == 1 else values, np.float32) for values in found]

    def _inner(self, path: Path, shape: tuple[int, ...]) -> int:
        fitting = [
            d["index"]
            for d in self._interpreter.get_tensor_details()
            if tuple(d["shape"]) == shape and d["dtype"] is np.float32
        ]
        if not fitting:
            raise MissingModel(f"{path} has no hidden tensor of shape {shape}; it is not the expected network.")
        return int(fitting[-1])
