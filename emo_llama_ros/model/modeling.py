"""EMO-LLaMA: vision tower, token generation, face branch and language model, joined.

Symbols of the shape comments: B samples, P prompts of a sample (one per `<image>`), T frames of its clip,
K = 1 + patches rows of a frame, V vision width, L tokens, D width of the language model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.models.instructblip.modeling_instructblip import InstructBlipQFormerEmbeddings
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from emo_llama_ros.model.configuration import EmoLlamaConfig, LlmConfig
from emo_llama_ros.model.face_mining import FaceBranch, FacePriors
from emo_llama_ros.model.merging import MergedBatch, merge
from emo_llama_ros.model.token_generation import TokenGeneration
from emo_llama_ros.model.vision import VisionTower


@dataclass(frozen=True, slots=True)
class ClipInputs:
    """What the model sees of one sample: a clip of T frames (an image is a clip of one) under P prompts."""

    prompt_ids: Tensor
    """(P, L) int64, one row per `<image>` of the sample, from the BERT tokenizer."""
    prompt_mask: Tensor
    """(P, L) int64, 0 for padding."""
    features: Tensor | None = None
    """(T, K, V) from `EmoLlama.encode_frames`; None for a model without a vision tower."""
    face_priors: FacePriors | None = None
    """T rows; None switches the face branch off for this sample."""

    @property
    def num_frames(self) -> int:
        """T. Raise ValueError when features and face priors tell different numbers, or neither is given."""
        counts = {len(part) for part in (self.features, self.face_priors) if part is not None}
        if len(counts) != 1:
            raise ValueError("A clip needs as many face priors as frames, and at least one of both.")
        return counts.pop()


class EmoLlama(nn.Module):
    """EMO-LLaMA. With `config.face` None it computes exactly LLaMA-VID.

    Parts (None where the config has none): vision_tower, token_generation, face_branch, language_model.
    `attn_implementation` is transformers' ("sdpa", "eager", …); None takes its default.
    """

    def __init__(self, config: EmoLlamaConfig, attn_implementation: str | None = None) -> None:
        super().__init__()
        self.config = config
        self.vision_tower = VisionTower(config.vision, attn_implementation) if config.vision else None
        self.token_generation = TokenGeneration(config, attn_implementation) if config.vision else None
        self.face_branch = FaceBranch(config.face, config.llm.hidden_size, attn_implementation) if config.face else None
        self.language_model = LlamaForCausalLM(_llama_config(config.llm, attn_implementation))
        self.eval()

    def encode_frames(self, pixel_values: Tensor) -> Tensor:
        """Encode preprocessed frames (N, 3, S, S) to features (N, K, V); they do not depend on any prompt.

        Runs without gradients: the vision tower is frozen.
        """
        if self.vision_tower is None:
            raise ValueError("This model has no vision tower: it sees faces through their priors only.")
        return self.vision_tower.encode(pixel_values)

    def frame_tokens(
        self,
        features: Tensor | None,
        prompt_ids: Tensor,
        prompt_mask: Tensor,
        face_priors: FacePriors | None = None,
    ) -> list[Tensor]:
        """Return the tokens (n_i, D) of each of N frames: context, content, then face tokens.

        features (N, K, V); prompt_ids and prompt_mask (N, L), or (1, L) for one prompt over all frames; face_priors
        N rows. A frame without a face, or without face_priors, has no face tokens. Frames do not influence each
        other, so results can be cached per frame and prompt. Face tokens of scope 'clip' are not among them: see
        `clip_tokens`.
        """
        count = ClipInputs(prompt_ids, prompt_mask, features, face_priors).num_frames
        prompt_ids, prompt_mask = prompt_ids.expand(count, -1), prompt_mask.expand(count, -1)
        frames: list[list[Tensor]] = [[] for _ in range(count)]
        if self.token_generation is not None:
            if features is None:
                raise ValueError("This model needs the features of the frames.")
            for parts, tokens in zip(
                frames, self.token_generation(features, prompt_ids, prompt_mask).tokens, strict=True
            ):
                parts.append(tokens)  # (1 + n, D)
        if self.face_branch is not None and face_priors is not None and self.face_branch.config.scope == "frame":
            for parts, tokens in zip(
                frames, self.face_branch.frame_tokens(face_priors, prompt_ids, prompt_mask), strict=True
            ):
                parts.append(tokens)  # (k or 0, D)
        if not all(frames):
            return [self._no_rows()] * count
        return [parts[0] if len(parts) == 1 else torch.cat(parts) for parts in frames]

    def clip_tokens(self, prompt_ids: Tensor, prompt_mask: Tensor, face_priors: FacePriors | None) -> Tensor:
        """Return the face tokens (k, D) that follow a whole clip under one prompt (1, L); (0, D) when there are none.

        They are none unless the face branch has the scope 'clip' and some frame shows the face.
        """
        if self.face_branch is None or face_priors is None or self.face_branch.config.scope != "clip":
            return self._no_rows()
        return self.face_branch.clip_tokens(face_priors, prompt_ids, prompt_mask)

    def visual_blocks(self, clips: Sequence[ClipInputs]) -> list[list[Tensor]]:
        """Return for each sample one block (rows, D) per prompt: the whole clip, re-read under that prompt.

        All (sample, prompt, frame) triples run as one batch.
        """
        shown = [clip for clip in clips if len(clip.prompt_ids)]
        if not shown:
            return [[] for _ in clips]
        length = max(clip.prompt_ids.shape[1] for clip in shown)
        ids, masks, features, priors = [], [], [], []
        for clip in shown:
            prompts, frames = len(clip.prompt_ids), clip.num_frames
            pad = (0, length - clip.prompt_ids.shape[1])
            ids.append(nn.functional.pad(clip.prompt_ids, pad).repeat_interleave(frames, dim=0))  # (P * T, L)
            masks.append(nn.functional.pad(clip.prompt_mask, pad).repeat_interleave(frames, dim=0))
            if clip.features is not None:
                features.append(clip.features.repeat(prompts, 1, 1))  # (P * T, K, V), prompt-major
            if clip.face_priors is not None:
                priors += [clip.face_priors] * prompts
        if len({(clip.features is None, clip.face_priors is None) for clip in shown}) > 1:
            raise ValueError("All clips of a batch must have features, or none; the same holds for face priors.")
        tokens = iter(
            self.frame_tokens(
                torch.cat(features) if features else None,
                torch.cat(ids),
                torch.cat(masks),
                FacePriors.cat(priors) if priors else None,
            )
        )
        blocks: list[list[Tensor]] = []
        for clip in clips:
            blocks.append([])
            for p in range(len(clip.prompt_ids)):
                rows = [next(tokens) for _ in range(clip.num_frames)]
                prompt = slice(p, p + 1)
                rows.append(self.clip_tokens(clip.prompt_ids[prompt], clip.prompt_mask[prompt], clip.face_priors))
                blocks[-1].append(torch.cat(rows))
        return blocks

    def merge(
        self,
        input_ids: Sequence[Tensor] | Tensor,
        blocks: Sequence[Sequence[Tensor]],
        attention_mask: Tensor | None = None,
        labels: Sequence[Tensor] | Tensor | None = None,
    ) -> MergedBatch:
        """Put visual blocks in the place of each -200; see `merging.merge`."""
        return merge(self._embedding, input_ids, blocks, attention_mask, labels)

    def forward(
        self,
        input_ids: Sequence[Tensor] | Tensor,
        clips: Sequence[ClipInputs],
        attention_mask: Tensor | None = None,
        labels: Sequence[Tensor] | Tensor | None = None,
        use_cache: bool = False,
    ) -> CausalLMOutputWithPast:
        """Run B samples: logits (B, L, vocabulary) and, with labels, the mean next-token loss over labels ≠ -100.

        input_ids, attention_mask and labels as in `merge`. A sample without `<image>` still brings its clip, with
        no prompt: prompt_ids (0, L).
        """
        batch = self.merge(input_ids, self.visual_blocks(clips), attention_mask, labels)
        return self.language_model(
            inputs_embeds=batch.inputs_embeds,
            attention_mask=batch.attention_mask,
            position_ids=batch.position_ids,
            labels=batch.labels,
            use_cache=use_cache,
        )

    @property
    def device(self) -> torch.device:
        """Where the language model's embeddings are, and where inputs belong."""
        return self._embedding.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Number format of everything that is not quantized."""
        return self._embedding.weight.dtype

    def restore_buffers(self) -> None:
        """Recompute the tables that no checkpoint holds, after a model built on the meta device got its memory."""
        for module in self.modules():
            if isinstance(module, InstructBlipQFormerEmbeddings):
                positions = torch.arange(module.config.max_position_embeddings, device=self.device)
                module.position_ids = positions.expand((1, -1))
            elif isinstance(module, LlamaRotaryEmbedding):
                fresh = LlamaRotaryEmbedding(config=module.config).to(self.device)
                module.inv_freq, module.original_inv_freq = fresh.inv_freq, fresh.original_inv_freq

    def init_face_aggregator(self) -> None:
        """Copy the first layers of the main Q-Former into the face branch's, wherever a tensor has the same shape."""
        if self.face_branch is None or self.token_generation is None:
            raise ValueError("Needs both a Q-Former and a face branch.")
        source = self.token_generation.qformer.bert.state_dict()
        target = self.face_branch.aggregator.bert.state_dict()
        fitting = {
            name: source[name] for name, old in target.items() if name in source and source[name].shape == old.shape
        }
        self.face_branch.aggregator.bert.load_state_dict(fitting, strict=False)

    def _no_rows(self) -> Tensor:
        return self._embedding.weight.new_empty(0, self.config.llm.hidden_size)

    @property
    def _embedding(self) -> nn.Embedding:
        return cast(nn.Embedding, self.language_model.get_input_embeddings())

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> EmoLlama:
        # `to(torch.bfloat16)` would round the RoPE frequencies as well; they must stay float32.
        super()._apply(fn, recurse)
        if self.device.type != "meta":
            self.restore_buffers()
        return self


def _llama_config(config: LlmConfig, attn_implementation: str | None) -> LlamaConfig:
    attention: dict[str, Any] = {"attn_implementation": attn_implementation}
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": config.rope_theta}
    if config.rope_linear_factor != 1.0:
        rope |= {"rope_type": "linear", "factor": config.rope_linear_factor}
    return LlamaConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_hidden_layers=config.num_hidden_layers,
        num_attention_heads=config.num_attention_heads,
        num_key_value_heads=config.num_key_value_heads,
        max_position_embeddings=config.max_position_embeddings,
        rms_norm_eps=config.rms_norm_eps,
        rope_parameters=rope,
        tie_word_embeddings=config.tie_word_embeddings,
        bos_token_id=config.bos_token_id,
        eos_token_id=config.eos_token_id,
        pad_token_id=config.pad_token_id,
        **attention,
    )
