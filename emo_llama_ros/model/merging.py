"""Puts visual blocks into the text: one block of rows for every `<image>` of a prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

IMAGE_TOKEN = -200
IGNORED_LABEL = -100


@dataclass(frozen=True, slots=True)
class MergedBatch:
    """Inputs of the language model for B samples, padded on the right to L rows."""

    inputs_embeds: Tensor
    """(B, L, D); padding rows are zero vectors."""
    attention_mask: Tensor
    """(B, L) bool; False for padding."""
    position_ids: Tensor
    """(B, L) int64: 0, 1, 2, …"""
    labels: Tensor | None
    """(B, L) int64; -100 for visual rows and padding. None when no labels were given."""


def merge(
    embed: Callable[[Tensor], Tensor],
    input_ids: Sequence[Tensor] | Tensor,
    blocks: Sequence[Sequence[Tensor]],
    attention_mask: Tensor | None = None,
    labels: Sequence[Tensor] | Tensor | None = None,
) -> MergedBatch:
    """Replace the k-th -200 of sample b by blocks[b][k] (rows, D), cast to the dtype of the embedded text.

    input_ids: (B, L) padded on the right with attention_mask (B, L), or B ragged 1-D tensors without a mask.
    Padding that input_ids bring along is embedded like text but masked, as in the original; new padding is zeros.
    Raise ValueError when a sample does not have one block for each -200, or is padded on the left.
    """
    if attention_mask is not None and _left_padded(attention_mask):
        raise ValueError("Token ids must be padded on the right.")
    if len(blocks) != len(input_ids):
        raise ValueError(f"There are {len(input_ids)} samples but visual blocks for {len(blocks)}.")
    rows, masks, row_labels = [], [], []
    for b, ids in enumerate(input_ids):
        keep = ids.new_ones(len(ids), dtype=torch.bool) if attention_mask is None else attention_mask[b].bool()
        given = None if labels is None else labels[b]
        if given is not None and given.shape != ids.shape:
            raise ValueError(f"Sample {b} has {len(ids)} token ids but {len(given)} labels.")
        pieces, mask, label = _merge_one(embed, ids, blocks[b], keep, given, b)
        rows.append(pieces)
        masks.append(mask)
        row_labels.append(label)
    inputs_embeds = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    padded_mask = torch.nn.utils.rnn.pad_sequence(masks, batch_first=True)
    padded_labels = (
        None
        if labels is None
        else torch.nn.utils.rnn.pad_sequence(row_labels, batch_first=True, padding_value=IGNORED_LABEL)
    )
    position_ids = torch.arange(inputs_embeds.shape[1], device=inputs_embeds.device).expand(len(rows), -1)
    return MergedBatch(inputs_embeds, padded_mask, position_ids, padded_labels)


def _merge_one(
    embed: Callable[[Tensor], Tensor],
    ids: Tensor,
    blocks: Sequence[Tensor],
    keep: Tensor,
    labels: Tensor | None,
    sample: int,
) -> tuple[Tensor, Tensor, Tensor]:
    places = (ids == IMAGE_TOKEN).nonzero().flatten().tolist()
    if len(places) != len(blocks):
        raise ValueError(f"Sample {sample} has {len(places)} <image> tokens but {len(blocks)} visual blocks.")
    text = embed(ids.where(ids != IMAGE_TOKEN, 0))  # (L, D)
    labels = torch.full_like(ids, IGNORED_LABEL) if labels is None else labels
    pieces, masks, row_labels, start = [], [], [], 0
    for place, block in zip([*places, len(ids)], [*blocks, text[:0]], strict=True):
        pieces += [text[start:place], block.to(text)]
        masks += [keep[start:place], keep.new_ones(len(block))]
        row_labels += [labels[start:place], labels.new_full((len(block),), IGNORED_LABEL)]
        start = place + 1
    return torch.cat(pieces), torch.cat(masks), torch.cat(row_labels)


def _left_padded(attention_mask: Tensor) -> bool:
    return bool((attention_mask.long().diff(dim=1) > 0).any())
