"""The constant head of a prompt is prefilled once, and forked by writing behind it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor

from emo_llama_ros.inference.kv_cache import KVCache
from emo_llama_ros.inference.runner import LlamaRunner


class PrefixCache:
    """Keys and values of the token sequences that prompts begin with (everything before the first visual token).

    Sequences of few tokens, so the few most recent are kept whole, and a cache that already holds the wanted prefix is
    left alone.
    """

    def __init__(self, runner: LlamaRunner, max_prefixes: int = 4) -> None:
        self._runner = runner
        self._max = max_prefixes
        self._known: OrderedDict[tuple[int, ...], KVCache] = OrderedDict()

    def place(self, token_ids: Sequence[int], cache: KVCache) -> int:
        """Make every row of `cache` begin with `token_ids`; return their number.

        The caller must not write to the slots of the prefix itself.
        """
        key = tuple(token_ids)
        if cache.prefix == key:
            return len(key)
        prefix = self._known.get(key)
        if prefix is None:
            prefix = self._prefill(key)
        self._known.move_to_end(key)
        cache.fill_rows(prefix.keys, prefix.values)
        cache.prefix = key
        return len(key)

    def clear(self) -> None:
        """Free all prefixes."""
        self._known.clear()

    def _prefill(self, key: tuple[int, ...]) -> KVCache:
        prefix = self._runner.new_cache(1, len(key))
        ids: Tensor = torch.tensor([key], dtype=torch.long, device=self._runner.device)
        self._runner.extend(self._runner.embed(ids), prefix, 0)
        self._known[key] = prefix
        while len(self._known) > self._max:
            self._known.popitem(last=False)
        return prefix
