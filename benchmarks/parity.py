"""Compare the model with a golden folder, tensor by tensor: `python benchmarks/parity.py FOLDER`.

Every case of the folder (see `golden.py`) runs, in float32 on the CPU. The largest absolute difference of each tensor
is printed beside its tolerance. The exit status is 1 when one is beyond it, or when a tensor could not be compared.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Compare the model of this source tree, not of an installed copy.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from golden import Golden, flat
from torch import Tensor

from emo_llama_ros.model.merging import IMAGE_TOKEN, MergedBatch
from emo_llama_ros.model.modeling import ClipInputs
from emo_llama_ros.model.processing import PromptIds, preprocess_clip
from emo_llama_ros.model.token_generation import FrameTokens

TOLERANCES = {"pixel_values": 1e-5, "vision_features": 5e-5, "loss": 1e-4}
DEFAULT_TOLERANCE = 2e-4


@dataclass(frozen=True, slots=True)
class Row:
    """One compared tensor; `problem` tells why it could not be compared."""

    name: str
    difference: float = float("nan")
    tolerance: float = DEFAULT_TOLERANCE
    problem: str = ""

    @property
    def ok(self) -> bool:
        """NaN differences are not ok."""
        return not self.problem and self.difference <= self.tolerance


class Case:
    """One case of a golden folder: finds its inputs, computes every step, compares what the folder has."""

    def __init__(self, golden: Golden, name: str, attention: str) -> None:
        self.golden, self.name = golden, name
        self.given = {k.removeprefix(name + "."): v for k, v in golden.tensors.items() if k.startswith(name + ".")}
        self.config: dict[str, Any] = golden.config.get("cases", {}).get(name, {})
        compress = self.config.get("compress_type", golden.config["vid"].get("compress_type"))
        self.model = golden.model(compress, attention)
        self.used = {name for name in self.given if _stem(name) in ("raw_uint8", "input_ids")}
        ids = self._numbered("input_ids")
        # One padded (B, L) tensor, or one ragged tensor per sample.
        self.input_ids: Tensor | list[Tensor] = ids[0] if len(ids) == 1 else [tensor.reshape(-1) for tensor in ids]
        self.images_per_sample = [int((row == IMAGE_TOKEN).sum()) for row in self.input_ids]

    def rows(self) -> Iterator[Row]:
        """Compare the case; every tensor of the folder gives a row."""
        if not self.given:
            yield Row(self.name, problem="the folder has no tensors for this case")
            return
        yield from self._preprocessing()
        if not len(self.input_ids) and {_stem(name) for name in self.given} <= {"raw_uint8", "pixel_values"}:
            return  # images that other cases refer to
        features = [self.model.encode_frames(pixels) for pixels in self._clips()]
        yield from self._compare("vision_features", features)
        yield from self._check_prompt_ids()
        clips = [ClipInputs(*prompt, f) for prompt, f in zip(self._prompt_ids(), features, strict=True)]
        yield from self._token_generation(clips)
        # The original takes the first blocks where there are more prompts than <image> tokens.
        shown = [
            replace(clip, prompt_ids=clip.prompt_ids[:count], prompt_mask=clip.prompt_mask[:count])
            for clip, count in zip(clips, self.images_per_sample, strict=True)
        ]
        mask, labels = self._mask(), self._input("label", "target")
        batch = self.model.merge(self.input_ids, self.model.visual_blocks(shown), mask, labels)
        yield from self._merged(batch)
        merged_labels = self._of_shape(batch.inputs_embeds.shape[:2], "label", "target")
        yield from self._language_model(batch, shown, mask, labels, merged_labels)
        for name in self.given.keys() - self.used:
            yield Row(f"{self.name}.{name}", problem="no such step is known here")

    # --- inputs ---

    def _preprocessing(self) -> Iterator[Row]:
        clips = []
        for raw in self._numbered("raw_uint8"):
            image = raw.ndim == 3
            pad = image and self.model.config.image_aspect_ratio == "pad"
            frames = (raw[None] if image else raw).numpy()
            clips.append(preprocess_clip(list(frames), self.golden.config["preprocess"]["crop"], pad=pad))
        if clips and not self._numbered("pixel_values"):
            yield Row(f"{self.name}.raw_uint8", problem="there are no pixel_values to compare with")
        elif clips:
            yield from self._compare("pixel_values", clips)

    def _clips(self) -> list[Tensor]:
        """Return each sample's frames (T, 3, S, S), from the case's own tensors or from those its config names."""
        sources = self._numbered("pixel_values")
        self.used.update(name for name in self.given if _stem(name) == "pixel_values")
        if not sources:
            sources = [tensor for name in self._named() for tensor in self.golden.pixels(name)]
        sources = [frames for tensor in sources for frames in (tensor if tensor.ndim == 5 else [tensor])]
        count = len(self.input_ids)
        if len(sources) == 1 and count > 1:
            sources = list(sources[0].split(1)) if len(sources[0]) == count else sources * count
        if len(sources) != count:
            raise LookupError(f"there are {len(sources)} clips for {count} samples")
        return [source if source.ndim == 4 else source[None] for source in sources]

    def _named(self) -> list[str]:
        """Return the tensors or cases that the config of this case refers to."""
        return [text for key, value in self.config.items() if key != "prompts" for text in flat(value)]

    def _prompt_ids(self) -> list[PromptIds]:
        """Return each sample's Q-Former ids: those of the folder, else made from the prompts of the config."""
        ids, masks = self._numbered("qformer_input_ids"), self._numbered("qformer_attention_mask")
        masks = masks or [(tensor != 0).long() for tensor in ids]
        if ids and len(ids) == len(self.input_ids):
            return [
                PromptIds(i.reshape(-1, i.shape[-1]), m.reshape(-1, m.shape[-1]))
                for i, m in zip(ids, masks, strict=True)
            ]
        if ids and sum(map(len, ids)) == sum(self.images_per_sample):
            counts = self.images_per_sample
            all_ids, all_masks = (torch.cat(tensors).split(counts) for tensors in (ids, masks))
            return [PromptIds(i, m) for i, m in zip(all_ids, all_masks, strict=True)]
        return [self.golden.tokenizer(p) if p else _no_prompts() for p in self._prompts()]

    def _prompts(self) -> list[list[str]]:
        """Return each sample's prompts, from a list per sample or from one flat list."""
        given = self.config.get("prompts") or [
            self.golden.config["cases"].get(name.split(".")[0], {}).get("prompts", []) for name in self._named()
        ]
        counts = self.images_per_sample
        if len(given) == len(counts) and all(isinstance(part, list) for part in given):
            return given
        prompts = list(flat(given))
        if len(counts) == 1 and len(prompts) >= counts[0]:
            return [prompts]
        if len(prompts) == 1:
            prompts *= sum(counts)
        if len(prompts) != sum(counts):
            raise LookupError(f"there are {len(prompts)} prompts for {sum(counts)} <image> tokens")
        text = iter(prompts)
        return [[next(text) for _ in range(count)] for count in counts]

    def _check_prompt_ids(self) -> Iterator[Row]:
        """Tokenize the prompts and compare with the ids of the folder, where it has both."""
        names = ("qformer_input_ids", "qformer_attention_mask")
        if not any(self._numbered(name) for name in names):
            return
        made = [self.golden.tokenizer(p) for p in self._prompts() if p]
        for name, tensors in zip(names, zip(*made, strict=True), strict=True):
            yield from self._compare(name, list(tensors), exact=True)

    def _mask(self) -> Tensor | None:
        """Return the mask of input_ids; where the folder has none, of their padding at the end."""
        mask = self._input("mask")
        if mask is None and isinstance(self.input_ids, Tensor):
            pad = self.golden.config["llm"]["pad_token_id"]
            mask = (self.input_ids != pad).flip(1).cummax(dim=1).values.flip(1)
        return mask

    def _input(self, *words: str) -> Tensor | None:
        """Return a tensor with the shape of input_ids (a merged one of the same name is an output)."""
        return self._of_shape(self.input_ids.shape, *words) if isinstance(self.input_ids, Tensor) else None

    def _of_shape(self, shape: torch.Size, *words: str) -> Tensor | None:
        for name, tensor in self.given.items():
            if tensor.shape == shape and "qformer" not in name and any(word in name for word in words):
                self.used.add(name)
                return tensor
        return None

    # --- steps ---

    def _token_generation(self, clips: list[ClipInputs]) -> Iterator[Row]:
        generation = self.model.token_generation
        assert generation is not None
        hidden, steps, blocks = [], [], []
        for clip in clips:
            prompts, frames = len(clip.prompt_ids), clip.num_frames
            if clip.features is None or not prompts:
                continue
            ids = clip.prompt_ids.repeat_interleave(frames, dim=0)
            mask = clip.prompt_mask.repeat_interleave(frames, dim=0)
            features = clip.features.repeat(prompts, 1, 1)
            hidden.append(generation.qformer.hidden_states(generation.visual_norm(features), ids, mask))
            steps.append(generation(features, ids, mask))
            blocks.append(steps[-1].tokens.unflatten(0, (prompts, frames)))  # (P, T, 1 + n, D)
        yield from self._compare("qformer_last_hidden", hidden)
        for name, field_name in (("text_q", "text_query"), ("ctx_token", "context"), ("content_tokens", "content")):
            yield from self._compare(name, [_step(step, field_name) for step in steps])
        yield from self._compare("visual_tokens", blocks)

    def _merged(self, batch: MergedBatch) -> Iterator[Row]:
        yield from self._compare("inputs_embeds", [batch.inputs_embeds])
        shape = batch.inputs_embeds.shape[:2]
        for name, tensor in self.given.items():
            if name in self.used or tensor.shape != shape:
                continue
            if "mask" in name:
                yield from self._compare(name, [batch.attention_mask.long()], exact=True)
            elif batch.labels is not None and ("label" in name or "target" in name):
                yield from self._compare(name, [batch.labels], exact=True)
            elif "position" in name:
                yield from self._compare(name, [batch.position_ids], exact=True)

    def _language_model(
        self,
        batch: MergedBatch,
        clips: list[ClipInputs],
        mask: Tensor | None,
        labels: Tensor | None,
        merged_labels: Tensor | None,
    ) -> Iterator[Row]:
        # Through the model's own front door, so that its wiring is compared, too.
        output = self.model(self.input_ids, clips, mask, labels)
        yield from self._compare("logits", [output.logits])
        loss = output.loss
        if loss is None and merged_labels is not None:
            llm = self.model.language_model
            loss = llm(
                inputs_embeds=batch.inputs_embeds, attention_mask=batch.attention_mask, labels=merged_labels
            ).loss
        yield from self._compare("loss", [] if loss is None else [loss])
        if "greedy_tokens" in self.given:
            steps = self.given["greedy_tokens"].shape[-1]
            yield from self._compare("greedy_tokens", [self._greedy(batch, steps)], exact=True)

    def _greedy(self, batch: MergedBatch, steps: int) -> Tensor:
        llm, cache, tokens = self.model.language_model, None, []
        embeds = batch.inputs_embeds
        if not batch.attention_mask.all():
            raise LookupError("greedy decoding of a padded batch is not defined here")
        for _ in range(steps):
            output = llm(inputs_embeds=embeds, past_key_values=cache, use_cache=True)
            cache = output.past_key_values
            tokens.append(output.logits[:, -1:].argmax(dim=-1))
            embeds = llm.get_input_embeddings()(tokens[-1])
        return torch.cat(tokens, dim=1)

    # --- comparison ---

    def _numbered(self, stem: str) -> list[Tensor]:
        """Return the tensor `stem`, or `stem_0`, `stem_1`, … (or `stem.0`, …) in order."""
        found = [(name, tensor) for name, tensor in self.given.items() if _stem(name) == stem]
        return [tensor for _, tensor in sorted(found, key=lambda item: _number(item[0]))]

    def _compare(self, stem: str, ours: list[Tensor], exact: bool = False) -> Iterator[Row]:
        """Compare the folder's tensor(s) of one step with ours, one per sample or all in one."""
        names = sorted((name for name in self.given if _stem(name) == stem), key=_number)
        if not names:
            return
        self.used.update(names)
        tolerance = 0.0 if exact else TOLERANCES.get(stem, DEFAULT_TOLERANCE)
        if len(names) > 1 and len(names) == len(ours):
            pairs = list(zip(names, ours, strict=True))
        elif len(names) == 1 and ours:
            pairs = [(names[0], ours[0] if len(ours) == 1 else _join(ours))]
        else:
            pairs = []
        for name, tensor in pairs:
            yield _difference(f"{self.name}.{name}", self.given[name], tensor, tolerance)
        for name in names if not pairs else []:
            yield Row(f"{self.name}.{name}", problem=f"the model made {len(ours)} such tensors, not {len(names)}")


def compare_folder(folder: Path, attention: str = "eager") -> list[Row]:
    """Run every case of a golden folder; `attention` is transformers' implementation of it."""
    golden, rows = Golden(folder), []
    for name in golden.cases():
        try:
            with torch.no_grad():
                for row in Case(golden, name, attention).rows():
                    rows.append(row)
        except Exception as error:  # a case that cannot go on is a failed case; what it compared stands
            rows.append(Row(name, problem=f"{type(error).__name__}: {error}"))
    return rows


def _difference(name: str, wanted: Tensor, ours: Tensor, tolerance: float) -> Row:
    # Prompts, frames and tokens may be separate or flattened axes: their order is the same.
    if wanted.numel() != ours.numel() or wanted.shape[-1:] != ours.shape[-1:]:
        return Row(name, problem=f"shape {tuple(ours.shape)} instead of {tuple(wanted.shape)}")
    if not wanted.numel():
        return Row(name, 0.0, tolerance)
    difference = (wanted.reshape(-1).double() - ours.reshape(-1).double()).abs().max().item()
    return Row(name, difference, tolerance)


def _stem(name: str) -> str:
    return re.sub(r"[._]?\d+$", "", name) if not name.endswith("uint8") else name


def _number(name: str) -> int:
    match = re.search(r"(\d+)$", name)
    return int(match[1]) if match else -1


def _step(step: FrameTokens, name: str) -> Tensor:
    return getattr(step, name)


def _no_prompts() -> PromptIds:
    empty = torch.zeros(0, 0, dtype=torch.long)
    return PromptIds(empty, empty)


def _join(tensors: list[Tensor]) -> Tensor:
    if len({tensor.shape[1:] for tensor in tensors}) == 1:
        return torch.cat(tensors)
    return torch.nn.utils.rnn.pad_sequence([row for tensor in tensors for row in tensor], batch_first=True)


def main(arguments: list[str] | None = None) -> int:
    """Print the comparison; return 0 when everything is within its tolerance."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--attention", default="eager", choices=("eager", "sdpa"))
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)  # the models are tiny
    rows = compare_folder(options.folder, options.attention)
    width = max((len(row.name) for row in rows), default=0)
    for row in rows:
        verdict = "ok" if row.ok else "FAIL"
        print(
            f"{row.name:{width}}  {row.problem or f'{row.difference:.1e}  (tolerance {row.tolerance:.0e})'}  {verdict}"
        )
    failed = sum(not row.ok for row in rows)
    print(f"{len(rows) - failed} of {len(rows)} tensors within tolerance.")
    return 1 if failed or not rows else 0


if __name__ == "__main__":
    sys.exit(main())
