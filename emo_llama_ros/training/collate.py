"""From conversations about clips to the tensors of one training step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from emo_llama_ros.model.face_mining import FacePriors
from emo_llama_ros.model.merging import IGNORED_LABEL, IMAGE_TOKEN
from emo_llama_ros.model.modeling import ClipInputs, EmoLlama
from emo_llama_ros.model.processing import PromptIds, TextTokenizer, tokenize_conversation
from emo_llama_ros.prompts import Turn, one_line, qformer_prompts
from emo_llama_ros.training import batched_clips


@dataclass(frozen=True, slots=True)
class Item:
    """One training sample: a conversation about a clip of T frames (an image is a clip of one)."""

    turns: tuple[Turn, ...]
    label: str = ""
    """What the sampler balances by."""
    pixel_values: Tensor | None = None
    """(T, 3, S, S) preprocessed frames; None for a model without a vision tower."""
    face_priors: FacePriors | None = None
    """T rows; None switches the face branch off for the sample."""
    words: str = ""
    """What the Q-Formers read the clip under; empty: the question of the turn that shows it."""
    given: int = 0
    """So many answers are given: the loss is on the later ones."""


@dataclass(frozen=True, slots=True)
class Collate:
    """Makes a batch of items; the loss is on answers and their end tokens alone."""

    text_tokenizer: TextTokenizer
    prompt_tokenizer: Callable[[Sequence[str]], PromptIds]
    pad_id: int = 0
    max_length: int = 2048
    """Longer conversations lose their end."""

    def __call__(self, items: Sequence[Item]) -> dict[str, Any]:
        """Return input_ids, labels, attention_mask (B, L) and, per sample, prompts, frames and face priors."""
        rows = [self._tokens(item) for item in items]
        length = min(max(len(ids) for ids, _ in rows), self.max_length)
        input_ids = torch.full((len(rows), length), self.pad_id)
        labels = torch.full((len(rows), length), IGNORED_LABEL)
        mask = torch.zeros((len(rows), length), dtype=torch.bool)
        for row, (ids, wanted) in enumerate(rows):
            kept = min(len(ids), length)
            input_ids[row, :kept] = torch.tensor(ids[:kept])
            labels[row, :kept] = torch.tensor(wanted[:kept])
            mask[row, :kept] = True
        questions = [[one_line(item.words)] if item.words else qformer_prompts(item.turns) for item in items]
        prompts = self.prompt_tokenizer([q for asked in questions for q in asked])
        batch: dict[str, Any] = {
            "input_ids": input_ids,
            "labels": labels,
            "attention_mask": mask,
            "prompt_ids": prompts.ids,
            "prompt_mask": prompts.mask,
            "prompt_counts": [len(asked) for asked in questions],
            # Kept on the CPU as plain numbers: reading them from the device would stop the pipeline.
            "image_places": [[i for i, t in enumerate(ids[:length]) if t == IMAGE_TOKEN] for ids, _ in rows],
            "lengths": [min(len(ids), length) for ids, _ in rows],
        }
        pixels = [item.pixel_values for item in items]
        priors = [item.face_priors for item in items]
        if all(p is not None for p in pixels):
            batch["pixel_values"] = torch.cat(pixels)  # type: ignore[arg-type]
        if all(p is not None for p in priors):
            batch["face_priors"] = parts(FacePriors.cat(priors))  # type: ignore[arg-type]
        batch["visible"] = [p is not None and bool(p.valid.any()) for p in priors]
        batch["frame_counts"] = [
            len(next(part for part in (p, f) if part is not None)) for p, f in zip(pixels, priors, strict=True)
        ]
        return batch

    def _tokens(self, item: Item) -> tuple[list[int], list[int]]:
        ids, labels = tokenize_conversation(item.turns, self.text_tokenizer)
        ends = [i for i, label in enumerate(labels) if label == self.text_tokenizer.eos_id]
        known = ends[item.given - 1] + 1 if item.given else 0
        return ids, [IGNORED_LABEL] * known + labels[known:]


def parts(priors: FacePriors) -> dict[str, Tensor]:
    """Return the priors that are there, and which are valid, as a dict, which the trainer can move to a device."""
    return {f.name: value for f in fields(priors) if (value := getattr(priors, f.name)) is not None}


class Tunable(nn.Module):
    """An EmoLlama under the trainer: tensors of `Collate` in, loss and right-answer counts out."""

    def __init__(self, model: EmoLlama) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, labels: Tensor, num_items_in_batch: Tensor | int | None = None, **batch: Any
    ) -> dict[str, Tensor]:
        """Return `loss` and `counts` (B, 3): right answer tokens, answer tokens, 1 if the whole answer is right.

        The loss is the mean over this batch's answer tokens, or their sum over `num_items_in_batch` tokens.
        """
        if self.model.vision_tower is None and batched_clips.applies(self.model, batch):
            return score(*batched_clips.run(self.model, labels, batch), num_items_in_batch)
        return score(*self._run(labels, **batch), num_items_in_batch)

    def activation_checkpointing_enable(self, **options: Any) -> None:
        """Trade time for memory in the language model; the trainer calls this with transformers' own options."""
        self.model.language_model.activation_checkpointing_enable(**options)
        self.model.language_model.enable_input_require_grads()

    def train(self, mode: bool = True) -> Tunable:
        """Switch to training; the vision tower and a frozen Q-Former stay as they are used, without dropout."""
        super().train(mode)
        for part in (self.model.vision_tower, self.model.token_generation and self.model.token_generation.qformer):
            if part is not None and not any(parameter.requires_grad for parameter in part.parameters()):
                part.eval()
        return self

    def _features(self, pixel_values: Tensor) -> Tensor:
        assert self.model.vision_tower is not None
        return self.model.encode_frames(pixel_values.to(next(self.model.vision_tower.parameters()).dtype))

    def _run(self, labels: Tensor, **batch: Any) -> tuple[Tensor, Tensor]:
        clips, frame, prompt = [], 0, 0
        features = self._features(batch["pixel_values"]) if "pixel_values" in batch else None
        priors = None
        if "face_priors" in batch and self.model.face_branch is not None:
            priors = FacePriors(**batch["face_priors"])
            priors = priors.to(priors.valid.device, self.model.face_branch.projector.weight.dtype)
        for frames, prompts in zip(batch["frame_counts"], batch["prompt_counts"], strict=True):
            of_clip, of_prompt = slice(frame, frame + frames), slice(prompt, prompt + prompts)
            clips.append(
                ClipInputs(
                    batch["prompt_ids"][of_prompt],
                    batch["prompt_mask"][of_prompt],
                    None if features is None else features[of_clip],
                    None if priors is None else priors[of_clip],
                )
            )
            frame, prompt = frame + frames, prompt + prompts
        merged = self.model.merge(batch["input_ids"], self.model.visual_blocks(clips), batch["attention_mask"], labels)
        assert merged.labels is not None
        outputs = self.model.language_model(
            inputs_embeds=merged.inputs_embeds,
            attention_mask=merged.attention_mask,
            position_ids=merged.position_ids,
            use_cache=False,
        )
        return outputs.logits, merged.labels


def score(logits: Tensor, wanted: Tensor, num_items_in_batch: Tensor | int | None = None) -> dict[str, Tensor]:
    """Return loss and counts as `Tunable.forward` does; logits (B, L, vocabulary) predict the next of wanted (B, L)."""
    logits, wanted = logits[:, :-1].float(), wanted[:, 1:]
    answers = wanted != IGNORED_LABEL
    total = nn.functional.cross_entropy(
        logits.flatten(0, 1), wanted.flatten(), ignore_index=IGNORED_LABEL, reduction="sum"
    )
    right = (logits.argmax(-1) == wanted) & answers
    counts = torch.stack((right.sum(1), answers.sum(1), (right == answers).all(1)), 1)
    return {"loss": total / (answers.sum() if num_items_in_batch is None else num_items_in_batch), "counts": counts}
