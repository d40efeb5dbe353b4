"""Choose the engine of a set of options."""

from __future__ import annotations

from collections.abc import Callable

from emo_llama_ros.engine.api import Engine
from emo_llama_ros.engine.in_process import InProcessEngine
from emo_llama_ros.engine.worker_engine import WorkerEngine
from emo_llama_ros.estimate import Estimate
from emo_llama_ros.options import Options


def make_engine(options: Options, on_estimate: Callable[[Estimate], None]) -> Engine:
    """Return the engine that `options.worker` names, not yet started."""
    return WorkerEngine(options, on_estimate) if options.worker == "process" else InProcessEngine(options, on_estimate)
