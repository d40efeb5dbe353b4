"""Which item comes next: class-balanced, and the same on every rank and after every restart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch.utils.data import Sampler
from transformers.trainer_pt_utils import get_length_grouped_indices


def balanced_weights(labels: Sequence[str], balance: float) -> torch.Tensor:
    """Return the sampling weight of each item, shape (N,), mean 1: label frequency to the power of -balance.

    With balance 0 every item weighs the same; with 1 every label does. FER data run up to 61:1 (FERPlus).
    """
    count = Counter(labels)
    weights = torch.tensor([count[label] ** -balance for label in labels], dtype=torch.float64)
    return weights / weights.mean()


def mixed_weights(
    labels: Sequence[str], kinds: Sequence[str], balance: float, shares: Mapping[str, float] | None = None
) -> torch.Tensor:
    """Return weights (N,), mean 1, that balance labels within each kind and give the kinds their `shares`.

    Kinds that `shares` does not name divide what is left in proportion to their number, and those that do not occur
    leave their share to the others. Without shares, kinds weigh as they are.
    """
    weights = torch.ones(len(labels), dtype=torch.float64)
    count = Counter(kinds)
    named = {kind: share for kind, share in (shares or {}).items() if kind in count}
    others = sum(n for kind, n in count.items() if kind not in named)
    for kind, number in count.items():
        members = [i for i, k in enumerate(kinds) if k == kind]
        left = max(1 - sum(named.values()), 0.0) * number / others if kind not in named else named[kind]
        share = left if named else number / len(kinds)
        weights[members] = balanced_weights([labels[i] for i in members], balance) * share * len(kinds) / number
    return weights / weights.mean()


class BalancedSampler(Sampler[int]):
    """Draws an epoch of indices by weight.

    Equal weights give a permutation, others a draw with replacement. The order depends on `seed` and the epoch alone,
    so ranks agree and a resumed run continues where the interrupted one would have gone.
    """

    def __init__(self, weights: torch.Tensor, seed: int) -> None:
        self._weights = weights
        self._uniform = bool((weights == weights[0]).all())
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; the trainer calls this."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._weights)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed + 1_000_003 * self._epoch)
        if self._uniform:
            order = torch.randperm(len(self._weights), generator=generator)
        else:
            order = torch.multinomial(self._weights, len(self._weights), replacement=True, generator=generator)
        yield from order.tolist()


class LengthGroupedSampler(Sampler[int]):
    """Draws every index once, in batches of about the same length, so that little is computed on padding.

    Batches come in random order; order and batches depend on `seed` and the epoch alone.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self._lengths, self._batch_size = list(lengths), batch_size
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; the trainer calls this."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed + 1_000_003 * self._epoch)
        order = get_length_grouped_indices(self._lengths, self._batch_size, generator=generator)
        batches = [order[i : i + self._batch_size] for i in range(0, len(order), self._batch_size)]
        # Within each of the library's blocks the longest comes first, which a schedule of few steps would notice.
        for i in torch.randperm(len(batches), generator=generator).tolist():
            yield from batches[i]
