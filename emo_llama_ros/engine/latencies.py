"""Rolling latency percentiles per stage."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

_KEPT = 512


class Latencies:
    """Keeps the last few hundred durations of every stage."""

    def __init__(self) -> None:
        self._ns: defaultdict[str, deque[int]] = defaultdict(lambda: deque(maxlen=_KEPT))

    def add(self, stage: str, duration_ns: int) -> None:
        """Add one duration, nanoseconds."""
        self._ns[stage].append(duration_ns)

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Add the wall time of the block."""
        start = time.perf_counter_ns()
        try:
            yield
        finally:
            self.add(stage, time.perf_counter_ns() - start)

    def percentiles_ms(self) -> dict[str, tuple[float, float]]:
        """Return stage → (p50, p95) in milliseconds."""
        return {
            stage: (float(np.percentile(values, 50)) / 1e6, float(np.percentile(values, 95)) / 1e6)
            for stage, values in {s: list(v) for s, v in list(self._ns.items())}.items()
        }
