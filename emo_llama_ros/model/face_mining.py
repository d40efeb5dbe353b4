"""The face branch: Face Info Mining and the aggregator that makes face tokens.

EMO-LLaMA (arXiv 2408.11424) names the parts: global and local facial information, "dual attention" between them, a
Q-Former that aggregates their tokens. It publishes no equations; the concrete choices here are ours and stand in
`FaceConfig`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emo_llama_ros.model.configuration import FaceConfig
from emo_llama_ros.model.qformer import QFormer


@dataclass(frozen=True, slots=True)
class FacePriors:
    """What was measured about one face in each of N frames. Rows that are not valid may hold anything.

    Priors that the model does not use may be None.
    """

    valid: Tensor
    """(N,) bool: False where no face was found, or where a prior of the model is missing."""
    embedding: Tensor | None = None
    """(N, E) face embedding, or (N, E, h, w) face feature map."""
    landmarks: Tensor | None = None
    """(N, landmarks, 2): x, y in [-1, 1] of the face crop."""
    evidence: Tensor | None = None
    """(N, M) measured facts, NaN where one is unknown."""

    def __len__(self) -> int:
        return len(self.valid)

    def __getitem__(self, index: slice | Tensor) -> FacePriors:
        """Return some of the frames."""
        chosen = (None if part is None else part[index] for part in self._parts()[1:])
        return FacePriors(self.valid[index], *chosen)

    @property
    def given(self) -> tuple[Tensor, ...]:
        """The priors that there are: embedding, landmarks, evidence."""
        return tuple(part for part in self._parts()[1:] if part is not None)

    @property
    def complete(self) -> bool:
        """Whether every row is valid and finite, but for unknown evidence. Waits for priors that are on a GPU."""
        given = [part for part in (self.embedding, self.landmarks) if part is not None]
        return bool(self.valid.all()) and all(bool(part.isfinite().all()) for part in given)

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> FacePriors:
        """Move to a device and cast the priors (not `valid`) to `dtype`."""
        moved = (None if part is None else part.to(device=device, dtype=dtype) for part in self._parts()[1:])
        return FacePriors(self.valid.to(device), *moved)

    @staticmethod
    def cat(clips: Sequence[FacePriors]) -> FacePriors:
        """Join clips in time; raise ValueError when one has a prior that another lacks."""
        joined = []
        for parts in zip(*(clip._parts() for clip in clips), strict=True):
            given = [part for part in parts if part is not None]
            if given and len(given) != len(parts):
                raise ValueError("Clips with different priors cannot be joined.")
            joined.append(torch.cat(given) if given else None)
        return FacePriors(*joined)  # type: ignore[arg-type]

    def _parts(self) -> tuple[Tensor | None, ...]:
        return tuple(getattr(self, f.name) for f in fields(self))


class FaceInfoMining(nn.Module):
    """Joins global priors (face embedding) and local priors (landmarks) by cross-attention in both directions."""

    evidence_mean: Tensor
    evidence_std: Tensor

    def __init__(self, config: FaceConfig) -> None:
        super().__init__()
        self.config = config
        width = config.hidden_size
        if config.embedding_dim:
            per_row = 1 if config.embedding_is_map else config.global_tokens
            self.global_norm = nn.LayerNorm(config.embedding_dim, eps=config.layer_norm_eps)
            self.global_projector = nn.Linear(config.embedding_dim, per_row * width)
            self.global_position = _table(config.num_global_tokens, width)
        if config.landmark_regions:
            self.landmark_projector = _mlp(2, config.landmark_hidden_size, width)
            self.landmark_point = _table(config.num_landmarks, width)
            self.landmark_region = _table(len(config.landmark_regions), width)
        if config.embedding_dim and config.landmark_regions:
            self.local_attention = nn.MultiheadAttention(width, config.num_attention_heads, batch_first=True)
            self.local_norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
            self.global_attention = nn.MultiheadAttention(width, config.num_attention_heads, batch_first=True)
            self.fused_global_norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        if config.evidence_dim:
            # Statistics of the training data; set by the trainer, saved with the weights.
            self.register_buffer("evidence_mean", torch.zeros(config.evidence_dim))
            self.register_buffer("evidence_std", torch.ones(config.evidence_dim))
            self.evidence_projector = _mlp(
                2 * config.evidence_dim, config.evidence_hidden_size, config.evidence_tokens * width
            )
            self.evidence_position = _table(config.evidence_tokens, width)

    def forward(self, priors: FacePriors) -> Tensor:
        """Return the tokens (N, C, W) of N valid faces: one global, then the local ones, then the evidence.

        Local ones are of the landmarks, or of their regions. Without landmarks the global ones are merely projected.
        Raise ValueError where a prior is missing or not finite; evidence may be NaN.
        """
        for name, size in (("embedding", self.config.embedding_dim), ("landmarks", self.config.num_landmarks)):
            prior = getattr(priors, name)
            if size and prior is not None and not prior.isfinite().all():
                raise ValueError(f"Face {name} of a valid face must be finite numbers; mark the face as not valid.")
        return self.mine(priors)

    def mine(self, priors: FacePriors) -> Tensor:
        """Do as `forward` with priors that are known to be finite; it never waits for a GPU, so it can be recorded."""
        config, tokens = self.config, []
        face = self._global(priors) if config.embedding_dim else None  # (N, G, W)
        points = self._local(priors) if config.landmark_regions else None  # (N, L, W)
        if face is not None and points is not None:
            pooled = face.mean(dim=1, keepdim=True)  # (N, 1, W)
            seen, _ = self.global_attention(pooled, points, points, need_weights=False)
            detail, _ = self.local_attention(points, face, face, need_weights=False)
            face, points = self.fused_global_norm(pooled + seen), self.local_norm(points + detail)
        if points is not None and config.landmark_pooling:
            regions = points.split(config.landmark_regions, dim=1)
            points = torch.stack([region.mean(dim=1) for region in regions], dim=1)  # (N, R, W)
        tokens += [part for part in (face, points) if part is not None]
        if config.evidence_dim:
            tokens.append(self._evidence(priors))
        return torch.cat(tokens, dim=1)

    def _global(self, priors: FacePriors) -> Tensor:
        config = self.config
        shape = (config.embedding_dim, None, None) if config.embedding_is_map else (config.embedding_dim,)
        embedding = _checked(priors.embedding, "embedding", shape)
        if config.embedding_is_map:
            pooled = F.adaptive_avg_pool2d(embedding, config.global_grid)  # (N, E, g, g)
            tokens = self.global_projector(self.global_norm(pooled.flatten(2).transpose(1, 2)))  # (N, g², W)
        else:
            tokens = self.global_projector(self.global_norm(embedding)).unflatten(-1, (-1, config.hidden_size))
        return tokens + self.global_position

    def _local(self, priors: FacePriors) -> Tensor:
        regions = self.config.landmark_regions
        landmarks = _checked(priors.landmarks, "landmarks", (self.config.num_landmarks, 2))
        region = torch.cat(
            [row.expand(points, -1) for row, points in zip(self.landmark_region, regions, strict=True)]
        )  # (L, W)
        return self.landmark_projector(landmarks) + self.landmark_point + region  # (N, L, W)

    def _evidence(self, priors: FacePriors) -> Tensor:
        evidence = _checked(priors.evidence, "evidence", (self.config.evidence_dim,))
        known = evidence.isfinite()
        standard = (evidence - self.evidence_mean) / self.evidence_std
        # An unknown entry is told apart from a measured mean by its second input.
        facts = torch.cat((standard.where(known, 0.0), known.to(standard.dtype)), dim=-1)  # (N, 2M)
        tokens = self.evidence_projector(facts).unflatten(-1, (-1, self.config.hidden_size))
        return tokens + self.evidence_position  # (N, evidence_tokens, W)


class FaceBranch(nn.Module):
    """Face Info Mining, the Q-Former over its tokens and the prompt, and the projection into the language model."""

    def __init__(self, config: FaceConfig, llm_width: int, attn_implementation: str | None = None) -> None:
        super().__init__()
        self.config = config
        self.mining = FaceInfoMining(config)
        if config.scope == "clip":
            self.frame_position = _table(config.max_frames, config.hidden_size)
        self.aggregator = QFormer(config.aggregator, config.hidden_size, attn_implementation)
        self.norm = nn.LayerNorm(config.aggregator.hidden_size, eps=config.layer_norm_eps)
        self.projector = nn.Linear(config.aggregator.hidden_size, llm_width)

    def prior_tokens(self, priors: FacePriors) -> Tensor:
        """Return the tokens (valid faces, C, W) of all valid rows, in order. They do not depend on the prompt."""
        return self.mining(priors[priors.valid])

    def tokens(self, priors: Tensor, prompt_ids: Tensor, prompt_mask: Tensor, mask: Tensor | None = None) -> Tensor:
        """Aggregate the priors' tokens (N, C, W) under the prompts (N, L) to face tokens (N, num_query, D).

        `mask` (N, C) is 0 for what is padding.
        """
        return self.projector(self.norm(self.aggregator(priors, prompt_ids, prompt_mask, mask)))

    def complete_tokens(self, priors: FacePriors, prompt_ids: Tensor, prompt_mask: Tensor) -> Tensor:
        """Return (N, num_query, D) for priors that are `complete`, prompts (N, L); it never waits for a GPU."""
        return self.tokens(self.mining.mine(priors), prompt_ids, prompt_mask)

    def frame_tokens(self, priors: FacePriors, prompt_ids: Tensor, prompt_mask: Tensor) -> list[Tensor]:
        """Return per frame (num_query, D), or (0, D) where there is no face. Prompts (N, L), one per frame."""
        counts = priors.valid.long().tolist()
        if not any(counts):
            return [self._none(prompt_ids)] * len(counts)
        tokens = self.tokens(self.prior_tokens(priors), prompt_ids[priors.valid], prompt_mask[priors.valid])
        per_face = iter(tokens)
        return [next(per_face) if count else self._none(prompt_ids) for count in counts]

    def clip_tokens(self, priors: FacePriors, prompt_ids: Tensor, prompt_mask: Tensor) -> Tensor:
        """Return the face tokens (num_query, D) of a whole clip under one prompt (1, L); (0, D) without any face."""
        if len(priors) > self.config.max_frames:
            raise ValueError(f"A clip of {len(priors)} frames is longer than max_frames = {self.config.max_frames}.")
        if not priors.valid.any():
            return self._none(prompt_ids)
        when = self.frame_position[: len(priors)][priors.valid].unsqueeze(1)  # (faces, 1, W)
        read = (self.prior_tokens(priors) + when).flatten(0, 1).unsqueeze(0)  # (1, faces * C, W)
        return self.tokens(read, prompt_ids, prompt_mask)[0]

    def _none(self, prompt_ids: Tensor) -> Tensor:
        weight = self.projector.weight
        return torch.empty(0, self.projector.out_features, dtype=weight.dtype, device=prompt_ids.device)


def _checked(prior: Tensor | None, name: str, shape: tuple[int | None, ...]) -> Tensor:
    if prior is None:
        raise ValueError(f"The face branch of this model needs {name}, but the face priors have none.")
    given = tuple(prior.shape[1:])
    if len(given) != len(shape) or any(want not in (None, got) for want, got in zip(shape, given, strict=True)):
        want = ", ".join("any" if size is None else str(size) for size in shape)
        raise ValueError(f"Face {name} must have the shape (N, {want}), not {tuple(prior.shape)}.")
    return prior


def _mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.GELU(), nn.Linear(hidden, outputs))


def _table(rows: int, width: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(rows, width).normal_(std=0.02))
