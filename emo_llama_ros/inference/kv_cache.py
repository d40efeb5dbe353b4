"""Keys and values of every layer in fixed memory, written in place."""

from __future__ import annotations

import torch
from torch import Tensor


class KVCache:
    """Preallocated keys and values, each (L layers, B rows, H key-value heads, S slots, D head dim).

    The buffers never move, so a captured CUDA graph may keep their addresses, and forking a cached prefix means
    nothing more than writing behind it. Which slots are valid is known to whoever builds the attention mask.
    """

    def __init__(
        self, layers: int, rows: int, heads: int, slots: int, head_dim: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        shape = (layers, rows, heads, slots, head_dim)
        # Zeros, not empty: a masked slot still meets softmax weight 0 times its value, and 0 x NaN is NaN.
        self.keys = torch.zeros(shape, device=device, dtype=dtype)
        self.values = torch.zeros(shape, device=device, dtype=dtype)
        self.prefix: tuple[int, ...] = ()
        """Token ids that the first slots of every row hold; see `PrefixCache`."""
        self.owner: object = None
        """Whose tokens the slots behind the prefix hold; lets a reader notice that they were overwritten."""

    @property
    def rows(self) -> int:
        """Sequences that fit side by side."""
        return self.keys.shape[1]

    @property
    def slots(self) -> int:
        """Tokens that fit into a row."""
        return self.keys.shape[3]

    @property
    def nbytes(self) -> int:
        """Bytes of both buffers."""
        return 2 * self.keys.numel() * self.keys.element_size()

    def copy_row(self, source: KVCache, row: int, length: int) -> None:
        """Copy the first `length` slots of one row of `source` into row 0."""
        self.keys[:, 0, :, :length].copy_(source.keys[:, row, :, :length])
        self.values[:, 0, :, :length].copy_(source.values[:, row, :, :length])

    def fill_rows(self, keys: Tensor, values: Tensor) -> None:
        """Write a prefix, (L, 1, H, P, D) each, to the front of every row."""
        length = keys.shape[3]
        self.keys[:, :, :, :length] = keys
        self.values[:, :, :, :length] = values
