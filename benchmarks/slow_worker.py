"""A worker whose model is slow on purpose.

python benchmarks/slow_worker.py SECONDS_PER_CLIP wait|burn PIPE_FD PIXELS_FD

`wait` sleeps, as a host does while its GPU works; `burn` keeps the CPU busy with matrix products. Started by
`WorkerEngine(options, on_estimate, command)`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from emo_llama_ros.backends.backend import Backend, LabelAnswer
from emo_llama_ros.backends.expression import ExpressionBackend
from emo_llama_ros.engine import worker
from emo_llama_ros.options import Options
from emo_llama_ros.perception.clips import Clip

TOKENS_PER_REASONING = 64


def slow_command(seconds_per_clip: float, kind: str = "wait") -> list[str]:
    """Return the command of such a worker for `WorkerEngine`."""
    return [__file__, str(seconds_per_clip), kind]


class SlowBackend(ExpressionBackend):
    """The expression backend, `seconds_per_clip` slower for each clip of a batch, and as slow again to explain one."""

    def __init__(self, options: Options, seconds_per_clip: float, pass_time: Callable[[float], None]) -> None:
        super().__init__(options)
        self._seconds, self._pass_time = seconds_per_clip, pass_time

    def label(self, clips: Sequence[Clip]) -> list[LabelAnswer]:
        self._pass_time(self._seconds * len(clips))
        return super().label(clips)

    def explain(
        self, clip: Clip, answer: LabelAnswer, question: str = "", cancelled: Callable[[], bool] = lambda: False
    ) -> Iterator[str]:
        for _ in range(TOKENS_PER_REASONING):
            if cancelled():
                return
            self._pass_time(self._seconds / TOKENS_PER_REASONING)
        yield from super().explain(clip, answer, question, cancelled)


def burn(seconds: float) -> None:
    """Multiply matrices for that long."""
    import numpy as np

    matrix = np.ones((512, 512), np.float32)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        matrix @ matrix


def make_backend(options: Options) -> Backend:
    """Return the backend that this process's arguments describe."""
    return SlowBackend(options, float(sys.argv[1]), burn if sys.argv[2] == "burn" else time.sleep)


if __name__ == "__main__":
    worker.main(make_backend)
