"""The worker process: one `ModelSide` behind a pipe.

`python -m emo_llama_ros.engine.worker PIPE_FD PIXELS_FD` is started by `worker_engine.WorkerEngine`, never by hand.
Messages are pickled tuples on the pipe; pixels lie in an anonymous shared memory file, so they have no name, survive no
crash, and touch no disk. A fresh interpreter, not a fork: forking after DDS or CUDA have started threads is undefined.
"""

from __future__ import annotations

import gc
import mmap
import os
import signal
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from emo_llama_ros.backends.backend import Backend, ModelInfo
from emo_llama_ros.engine.api import EngineState, TimedEstimate
from emo_llama_ros.options import Options

HEARTBEAT_S = 0.5


class PipeSink:
    """Sends results over the pipe; any thread may call it."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()

    def send(self, *message: Any) -> None:
        """Send one message; when the node is gone there is nobody to tell, and this process ends."""
        try:
            with self._lock:
                self._pipe.send(message)
        except OSError:
            os._exit(0)

    def on_state(self, state: EngineState, message: str, info: ModelInfo | None) -> None:
        if state is EngineState.READY:
            # What is loaded stays. A full collection would walk half a million objects of a 7B, a stall of 0.2 s.
            gc.collect()
            gc.freeze()
        self.send("state", state, message, info)

    def on_estimate(self, timed: TimedEstimate) -> None:
        self.send("estimate", timed)

    def on_text(self, piece: str, ticket: object) -> None:
        self.send("text", piece, ticket)

    def on_refused(self, sentence: str, ticket: object) -> None:
        self.send("refused", sentence, ticket)


def default_threads() -> int:
    """Return how many CPU threads a model gets: all cores but the one that is left to the camera."""
    return max(1, len(os.sched_getaffinity(0)) - 1)


def main(make_backend: Callable[[Options], Backend] | None = None) -> None:
    """Serve the node until it says stop or goes away.

    A program that calls this with a `make_backend` of its own is a worker for backends that this package does not
    know; see `worker_engine.WorkerEngine`.
    """
    # Ctrl-C in a terminal reaches the whole process group; the node alone decides when its worker ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pipe, pixels_fd = Connection(int(sys.argv[-2])), int(sys.argv[-1])
    _, options = pipe.recv()
    os.nice(options.worker_nice)
    # Read by OpenMP, MKL and OpenBLAS when they are first loaded, so set before any of them is.
    os.environ["OMP_NUM_THREADS"] = str(options.worker_threads or default_threads())

    from emo_llama_ros.engine.model_side import ModelSide

    sink = PipeSink(pipe)
    side = ModelSide(options, sink, make_backend) if make_backend else ModelSide(options, sink)
    side.start()
    threading.Thread(target=_beat, args=(side, sink), daemon=True).start()
    try:
        _serve(pipe, pixels_fd, side, sink)
    except (EOFError, OSError):
        os._exit(0)
    side.stop(1.0)
    sink.send("stats", side.stats())
    sys.stdout.flush()
    # Interpreter shutdown may wait for a thread that is deep in a model; there is nothing left to save.
    os._exit(0)


def _serve(pipe: Connection, pixels_fd: int, side: Any, sink: PipeSink) -> None:
    import time
    from dataclasses import replace

    import numpy as np

    pixels, size = None, 0
    while True:
        kind, *content = pipe.recv()
        if kind == "frame":
            frame, length, file_size = content
            if file_size != size:
                pixels, size = mmap.mmap(pixels_fd, file_size, prot=mmap.PROT_READ), file_size
            picked_up_ns = time.monotonic_ns()
            data = np.frombuffer(pixels or b"", np.uint8, count=length)
            fate = side.observe(replace(frame, data=data))
            sink.send("observed", fate, picked_up_ns - frame.received_ns)
        elif kind == "ask":
            side.ask(*content)
        elif kind == "option":
            side.set_option(*content)
        elif kind == "flush":
            side.flush()
        elif kind == "stop":
            return


def _beat(side: Any, sink: PipeSink) -> None:
    import time

    while True:
        sink.send("stats", side.stats())
        time.sleep(HEARTBEAT_S)


if __name__ == "__main__":
    main()
