"""Exact log-likelihood of every label from one forward pass."""

from __future__ import annotations

import torch
from torch import Tensor

from emo_llama_ros.inference.kv_cache import KVCache
from emo_llama_ros.inference.label_trie import LabelTrie
from emo_llama_ros.inference.runner import LlamaRunner

ALIGNMENT = 8  # slots; fused attention kernels want the rows of a mask to begin on 16 bytes


class TreePass:
    """One pass that reads the rest of B prompts and all labels.

    The label tokens ride behind the prompt under a tree mask: each sees the prompt, its ancestors and itself, at the
    position it would have if its label stood alone. They stay in the cache behind the prompt; writing from slot
    `prefix + lengths[row]` on discards them. Positions, slots and mask are constant for given lengths, so that a CUDA
    graph can keep them.
    """

    def __init__(
        self,
        trie: LabelTrie,
        prefix: int,
        padded: int,
        lengths: tuple[int, ...],
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        """Slots 0..`prefix` of every row hold the common head of the prompts; behind it are `padded` embeddings.

        `lengths` is the true number of those of each row. The cache needs room for prompts and labels, rounded up to 8
        slots.
        """
        nodes, rows = len(trie), len(lengths)
        end = prefix + padded + nodes
        self.extent = -(-end // ALIGNMENT) * ALIGNMENT
        self.token_ids = torch.tensor(trie.tokens, dtype=torch.long, device=device)  # (K,)
        self.slots = torch.arange(prefix, end, device=device)
        ends = torch.tensor(lengths, device=device)[:, None]  # (B, 1)
        depths = torch.tensor(trie.depths, dtype=torch.long, device=device)[None]  # (1, K)
        prompt_positions = torch.arange(prefix, prefix + padded, device=device).expand(rows, -1)
        self.positions = torch.cat([prompt_positions, prefix + ends + depths], 1)  # (B, N + K)
        self.mask = torch.full((rows, 1, padded + nodes, self.extent), float("-inf"), dtype=dtype, device=device)
        self.mask[..., :end].masked_fill_(self._visible(trie, prefix, padded, ends, device), 0)
        # Outputs that count: the last prompt token of each row, then every node.
        node_rows = torch.arange(padded, padded + nodes, device=device).expand(rows, -1)
        self.outputs = torch.cat([ends - 1, node_rows], 1)  # (B, 1 + K)
        # Label by chain step: which output predicts which token, and whether the chain is that long. Summed along a
        # row, not scattered, so that the order of the sum is always the same.
        longest = max(trie.lengths)
        steps = torch.zeros(3, len(trie.chains), longest, dtype=torch.long)
        for label, chain in enumerate(trie.chains):
            steps[:, label, : len(chain)] = torch.tensor([(node + 1, token, 1) for node, token in chain]).T
        self.node, self.token, self.counts = steps.to(device)

    @staticmethod
    def _visible(trie: LabelTrie, prefix: int, padded: int, ends: Tensor, device: torch.device) -> Tensor:
        """Return (B, 1, N + K, prefix + N + K) bool: which slot each new token may look at."""
        rows, nodes = ends.shape[0], len(trie)
        see = torch.zeros(rows, padded + nodes, prefix + padded + nodes, dtype=torch.bool, device=device)
        see[:, :, :prefix] = True
        see[:, :padded, prefix : prefix + padded] = torch.ones(padded, padded, dtype=torch.bool, device=device).tril()
        real = torch.arange(padded, device=device)[None] < ends  # (B, N)
        see[:, padded:, prefix : prefix + padded] = real[:, None]
        see[:, padded:, prefix + padded :] = torch.from_numpy(trie.visible).to(device)
        return see[:, None]

    def run(self, runner: LlamaRunner, cache: KVCache, embeds: Tensor) -> Tensor:
        """Return the log-likelihoods, (B, labels) float32, for right-padded prompt embeddings (B, N, hidden)."""
        nodes = runner.embed(self.token_ids).expand(embeds.shape[0], -1, -1)
        x = runner.hidden_states(
            torch.cat([embeds, nodes], 1), self.positions, cache, self.slots, self.extent, self.mask
        )
        wanted = x.gather(1, self.outputs[..., None].expand(-1, -1, x.shape[-1]))  # (B, 1 + K, hidden)
        log_p = runner.logits(wanted).float().log_softmax(-1)  # (B, 1 + K, vocab)
        return log_p[:, self.node, self.token].masked_fill(self.counts == 0, 0.0).sum(-1)
