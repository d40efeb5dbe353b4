"""How many people's clips go through the model at once."""

from __future__ import annotations

from emo_llama_ros.frames import SECOND_NS
from emo_llama_ros.options import Options


class BatchSize:
    """As many clips as the last batch lets expect to be done within half of `max_age_s`; the other half is for waiting.

    Without this rule a slow model would work through a large batch and be too late for everyone in it. Starts with one
    clip, because nothing is known before.
    """

    def __init__(self, options: Options, most: int) -> None:
        self._budget_ns = round(options.max_age_s * SECOND_NS / 2)
        self._most = most
        self.now = 1

    def took(self, count: int, duration_ns: int) -> None:
        """Learn that a batch of `count` clips took this long."""
        self.now = max(1, min(self._most, self._budget_ns * count // max(duration_ns, 1)))
