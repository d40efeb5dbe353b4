"""The forward pass of `EmoLlama` for large batches of clips that are seen through face tokens alone.

`EmoLlama.forward` handles each sample by itself, which is right for a 7B and a handful of clips. A small model trains
on hundreds at once, where thousands of tiny kernels would cost more than the arithmetic. A test holds both equal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from emo_llama_ros.model.face_mining import FacePriors
from emo_llama_ros.model.merging import IGNORED_LABEL
from emo_llama_ros.model.modeling import EmoLlama


def applies(model: EmoLlama, batch: Mapping[str, Any]) -> bool:
    """Return whether the batch can run here: face tokens per clip, one prompt and some visible face in each clip."""
    branch = model.face_branch
    return (
        branch is not None
        and branch.config.scope == "clip"
        and "face_priors" in batch
        and all(count == 1 for count in batch["prompt_counts"])
        and all(batch["visible"])
    )


def run(model: EmoLlama, labels: Tensor, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """Return logits (B, L', vocabulary) and the labels (B, L') that belong to them."""
    blocks = clip_tokens(
        model, FacePriors(**batch["face_priors"]), batch["frame_counts"], batch["prompt_ids"], batch["prompt_mask"]
    )  # (B, Q, D)
    input_ids = batch["input_ids"]
    rows = input_ids.numel()
    text = model.language_model.get_input_embeddings()(input_ids.clamp(min=0))  # (B, L, D)
    table = torch.cat((text.flatten(0, 1), blocks.flatten(0, 1).to(text.dtype), text.new_zeros(1, text.shape[-1])))
    plan = _plan(batch["image_places"], batch["lengths"], input_ids.shape[1], blocks.shape[1])
    index = plan.to(input_ids.device, non_blocking=True)  # (B, L')
    wanted = torch.cat((labels.flatten(), labels.new_full((1 + blocks.shape[0] * blocks.shape[1],), IGNORED_LABEL)))
    outputs = model.language_model(inputs_embeds=table[index], attention_mask=index != len(table) - 1, use_cache=False)
    return outputs.logits, wanted[torch.where(index < rows, index, rows)]


def clip_tokens(
    model: EmoLlama, priors: FacePriors, frame_counts: Sequence[int], prompt_ids: Tensor, prompt_mask: Tensor
) -> Tensor:
    """Return the face tokens (B, Q, D) of B clips whose frames lie one behind the other in `priors`."""
    branch = model.face_branch
    assert branch is not None
    frames = max(frame_counts)
    clip = torch.repeat_interleave(torch.arange(len(frame_counts)), torch.tensor(frame_counts))
    number = torch.cat([torch.arange(count) for count in frame_counts])
    slot = (clip * frames + number).to(priors.valid.device, non_blocking=True)[priors.valid]  # (valid,)
    tokens = branch.prior_tokens(priors) + branch.frame_position[:frames][slot % frames].unsqueeze(1)  # (valid, C, W)
    padded = tokens.new_zeros(len(frame_counts) * frames, *tokens.shape[1:]).index_copy(0, slot, tokens)
    shown = torch.zeros(len(padded), dtype=torch.long, device=slot.device).index_fill(0, slot, 1)
    return branch.tokens(
        padded.unflatten(0, (-1, frames)).flatten(1, 2),  # (B, F * C, W)
        prompt_ids,
        prompt_mask,
        shown.unflatten(0, (-1, frames)).repeat_interleave(tokens.shape[1], dim=1),
    )


def _plan(places: Sequence[Sequence[int]], lengths: Sequence[int], width: int, rows: int) -> Tensor:
    """Return for each position of the merged batch its row in [text; blocks; one zero row], (B, L')."""
    first_block = len(lengths) * width
    nothing = first_block + len(lengths) * rows
    length = torch.tensor(lengths).unsqueeze(1)  # (B, 1)
    place = torch.tensor(places)  # (B, 1)
    clip = torch.arange(len(lengths)).unsqueeze(1)
    at = torch.arange(max(lengths) - 1 + rows)  # (L',)
    before = clip * width + at
    block = first_block + clip * rows + at - place
    plan = torch.where(at < place, before, torch.where(at < place + rows, block, before - rows + 1))
    return plan.masked_fill(at >= length - 1 + rows, nothing)
