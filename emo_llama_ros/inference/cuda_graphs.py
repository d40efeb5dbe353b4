"""Replay a fixed pass on the GPU without launching its kernels one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

WARM_UP_PASSES = 3


class CapturedPass:
    """A pass over fixed shapes, recorded once; calling it copies the inputs in, replays, and returns the output.

    The output tensor is reused by the next call, and by any other pass of the same memory `pool`: clone what must last.
    Raises RuntimeError when the pass cannot be recorded, for example because it waits for the GPU on the way.
    """

    def __init__(self, run: Callable[..., Tensor], *inputs: Tensor, pool: Any = None) -> None:
        # A recording knows addresses only: whatever tensors `run` holds must live as long as it does.
        self._run = run
        self._inputs = [tensor.clone() for tensor in inputs]
        # Libraries allocate and tune in their first calls, which may not happen while recording.
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side), torch.inference_mode():
            for _ in range(WARM_UP_PASSES):
                run(*self._inputs)
        torch.cuda.current_stream().wait_stream(side)
        torch.cuda.synchronize()
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, pool=pool), torch.inference_mode():
            self._output = run(*self._inputs)

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Return what `run(*inputs)` would; shapes and dtypes must be those of the recording."""
        for buffer, tensor in zip(self._inputs, inputs, strict=True):
            buffer.copy_(tensor)
        self._graph.replay()
        return self._output


class RecordedPasses:
    """A pass that is replayed for inputs of the shapes it was recorded with, and runs plainly for all others.

    Outputs of replays are reused, see `CapturedPass`.
    """

    def __init__(self, run: Callable[..., Tensor], examples: Iterable[tuple[Tensor, ...]], pool: Any = None) -> None:
        self._run = run
        self._passes = {_shapes(inputs): CapturedPass(run, *inputs, pool=pool) for inputs in examples}

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Return what `run(*inputs)` would."""
        return self._passes.get(_shapes(inputs), self._run)(*inputs)


def _shapes(inputs: Iterable[Tensor]) -> tuple[torch.Size, ...]:
    return tuple(tensor.shape for tensor in inputs)
