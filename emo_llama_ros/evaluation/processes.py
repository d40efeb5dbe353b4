"""Answer many samples on all cores, with the same result as on one."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol

from emo_llama_ros.backends.backend import ModelInfo
from emo_llama_ros.data.datasets import Sample
from emo_llama_ros.errors import EmoError
from emo_llama_ros.evaluation.contenders import Contender, loaded
from emo_llama_ros.evaluation.evaluate import Entrant, Plan, answer
from emo_llama_ros.evaluation.prediction import Prediction

SAMPLES_AT_ONCE = 4
"""Handed to a process together: one by one, the handing over would cost more than a light backend's answer."""


class Answering(Protocol):
    """Loaded contenders."""

    @property
    def models(self) -> dict[str, ModelInfo]:
        """What each contender runs, by its name."""

    def answers(self, samples: Sequence[Sample]) -> Iterator[list[Prediction]]:
        """Yield all contenders' answers to each sample, in the order of the samples."""


@contextmanager
def answering(plan: Plan, made: Sequence[Contender], fold: int, jobs: int) -> Iterator[Answering]:
    """Load the contenders in `jobs` processes, or in this one when `jobs` is 1; raises EmoError as they do."""
    with ExitStack() as stack:
        if jobs <= 1:
            entrants = stack.enter_context(loaded(made, plan.faces.resolve(plan.dataset), fold))
            yield _Here(plan, entrants)
            return
        # One thread for each process: the cores are shared already.
        alone = [replace(c, options=c.options.with_values({"worker_threads": 1})) for c in made]
        lean = replace(plan, dataset=replace(plan.dataset, reader=_no_samples))
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(jobs, context, _begin, (lean, alone, fold))
        try:
            yield _Elsewhere(pool, _result(pool))
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _no_samples(*_: object) -> Iterator[Sample]:
    # Stands for the reader in other processes, where nothing is read by it: readers of lists cannot be sent.
    return iter(())


@dataclass(frozen=True, slots=True)
class _Here:
    plan: Plan
    entrants: list[Entrant]

    @property
    def models(self) -> dict[str, ModelInfo]:
        return {e.name: e.backend.info for e in self.entrants}

    def answers(self, samples: Sequence[Sample]) -> Iterator[list[Prediction]]:
        return (answer(self.plan, sample, self.entrants) for sample in samples)


@dataclass(frozen=True, slots=True)
class _Elsewhere:
    pool: ProcessPoolExecutor
    models: dict[str, ModelInfo]

    def answers(self, samples: Sequence[Sample]) -> Iterator[list[Prediction]]:
        try:
            yield from self.pool.map(_answer, samples, chunksize=SAMPLES_AT_ONCE)
        except BrokenProcessPool:
            raise EmoError(_ENDED) from None


_ENDED = (
    "A process of the evaluation was ended from outside, most likely because memory ran out; run the same command "
    "with --jobs 1 to go on from where it stopped."
)


def _result(pool: ProcessPoolExecutor) -> dict[str, ModelInfo]:
    try:
        return pool.submit(_models).result()
    except BrokenProcessPool:
        raise EmoError(_ENDED) from None


@dataclass(slots=True)
class _Process:
    """What a process of the pool keeps between samples."""

    plan: Plan
    made: Sequence[Contender]
    fold: int
    entrants: list[Entrant] | None = None
    stack: ExitStack = field(default_factory=ExitStack)

    def ready(self) -> list[Entrant]:
        # Not in `_begin`: what is raised there reaches nobody.
        if self.entrants is None:
            faces = self.plan.faces.resolve(self.plan.dataset)
            self.entrants = self.stack.enter_context(loaded(self.made, faces, self.fold))
        return self.entrants


_process: _Process | None = None


def _begin(plan: Plan, made: Sequence[Contender], fold: int) -> None:
    import signal

    import cv2

    global _process
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears the keyboard, and ends the pool
    cv2.setNumThreads(1)
    _process = _Process(plan, made, fold)


def _models() -> dict[str, ModelInfo]:
    assert _process is not None
    return {e.name: e.backend.info for e in _process.ready()}


def _answer(sample: Sample) -> list[Prediction]:
    assert _process is not None
    return answer(_process.plan, sample, _process.ready())
