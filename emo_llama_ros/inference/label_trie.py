"""The closed label set as a token trie, so that every label is scored in one forward pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class LabelTrie:
    """Labels as token sequences with shared prefixes merged.

    A node is a token that the model must read. What follows a node is read from that node's output, what starts a
    label from the prompt's last output, called node -1. A label therefore is a chain of (node, next token) pairs, and
    its log-likelihood the sum of log p(next token | prompt, ancestors of node, node).
    """

    tokens: tuple[int, ...]
    """Token id of each node; a parent always comes before its children."""
    parents: tuple[int, ...]
    """Parent of each node, -1 for the first token of a label."""
    depths: tuple[int, ...]
    """Distance of each node from the end of the prompt, 0 for the first token of a label."""
    chains: tuple[tuple[tuple[int, int], ...], ...]
    """For each label the (node, next token) pairs whose log-probabilities add up to its log-likelihood."""

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Number of predicted tokens of each label, the terminator included."""
        return tuple(len(chain) for chain in self.chains)

    @cached_property
    def visible(self) -> npt.NDArray[np.bool_]:
        """(K, K) bool: node `column` is node `row` itself or one of its ancestors."""
        seen = np.eye(len(self), dtype=bool)
        for node, parent in enumerate(self.parents):
            if parent >= 0:
                seen[node] |= seen[parent]
        return seen


def build(sequences: Sequence[Sequence[int]], terminator: int | None = None) -> LabelTrie:
    """Return the trie of one token sequence per label.

    With a `terminator` (the model's end token) the likelihood is closed: p("sad", end) does not contain p("sadness").
    Raises ValueError when a sequence is empty, when two are equal, or when one is a prefix of another and there is no
    terminator to tell them apart.
    """
    if not sequences or any(not len(sequence) for sequence in sequences):
        raise ValueError("Every label needs at least one token.")
    endings = [] if terminator is None else [terminator]
    labels = [tuple(sequence) + tuple(endings) for sequence in sequences]
    for i, label in enumerate(labels):
        if any(other[: len(label)] == label for j, other in enumerate(labels) if i != j):
            raise ValueError(f"Label {i} cannot be told apart from another label that has or starts with its tokens.")
    nodes: dict[tuple[int, ...], int] = {}
    tokens: list[int] = []
    parents: list[int] = []
    for label in labels:
        for depth in range(1, len(label)):
            path = label[:depth]
            if path not in nodes:
                nodes[path] = len(tokens)
                tokens.append(path[-1])
                parents.append(nodes.get(path[:-1], -1))
    chains = tuple(tuple((nodes.get(label[:i], -1), label[i]) for i in range(len(label))) for label in labels)
    depths = [0] * len(tokens)
    for path, node in nodes.items():
        depths[node] = len(path) - 1
    return LabelTrie(tuple(tokens), tuple(parents), tuple(depths), chains)
