"""From frames to visual tokens, each frame once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from emo_llama_ros.inference.visual_cache import FrameKey, VisualCache
from emo_llama_ros.model.face_mining import FacePriors
from emo_llama_ros.model.modeling import EmoLlama


@dataclass(frozen=True, slots=True)
class ClipFrames:
    """One person's frames, made ready for the model only where they are not cached."""

    face_id: str
    stamps_ns: tuple[int, ...]
    pixel_values: Callable[[Sequence[int]], Tensor] | None = None
    """Frame numbers → (n, 3, S, S) in the model's dtype, on its device; None without a vision tower."""
    face_priors: Callable[[Sequence[int]], FacePriors] | None = None
    """Frame numbers → n rows in the model's dtype, best on the host: asking a GPU which are valid would wait for it.
    None switches the face branch off."""
    priors_version: str = ""
    """Changes when the face priors of the same frames change (evidence is relative to a baseline that is learned)."""


@dataclass(frozen=True, slots=True)
class VisualPrompt:
    """The words under which the Q-Formers read a frame: (1, L) ids and mask, and what identifies them."""

    prompt_ids: Tensor
    prompt_mask: Tensor
    prompt_hash: str


Frames = Sequence[tuple[ClipFrames, int]]
"""Frames of one or more clips, those of one clip side by side."""


class FrameEncoder:
    """Visual tokens of clips. Frames of earlier clips come from two caches: features, and tokens under one prompt."""

    def __init__(self, model: EmoLlama, max_bytes: int) -> None:
        self._model = model
        # Features are needed again only under another prompt (a free question), tokens in every overlapping clip.
        # A frame's features are some twenty times larger, hence the split.
        self.features: VisualCache[Tensor] = VisualCache(max_bytes * 3 // 4)
        self.tokens: VisualCache[Tensor] = VisualCache(max_bytes // 4)
        branch = model.face_branch
        self._per_frame = model.vision_tower is not None or (branch is not None and branch.config.scope == "frame")
        self.encode: Callable[[Tensor], Tensor] = model.encode_frames
        """Pixels (n, 3, S, S) → features (n, K, V); replaced by a captured pass where that is faster."""
        self.generate: Callable[[Tensor, Tensor, Tensor], Tensor] = self.generate_plainly
        """Features and the prompt's ids and mask (n, L) → context and content tokens (n, m, D); replaced likewise."""
        self.mine: Callable[[FacePriors, Tensor, Tensor], Tensor] = self.mine_plainly
        """Complete face priors and the prompt's ids and mask (n, L) → face tokens (n, k, D); replaced likewise."""

    def blocks(self, clips: Sequence[ClipFrames], prompt: VisualPrompt) -> list[Tensor]:
        """Return the visual block (rows, D) of each clip; all frames that are new run as one batch."""
        wanted = [self._keys(clip, prompt) for clip in clips]
        found = {key: self.tokens.get(key) for keys in wanted for key in keys}
        new = {
            key: (clip, frame)
            for clip, keys in zip(clips, wanted, strict=True)
            for frame, key in enumerate(keys)
            if found[key] is None
        }
        if new:
            for key, tokens in zip(new, self._read(list(new.values()), prompt), strict=True):
                found[key] = tokens
                self.tokens.put(key, tokens)
        blocks = []
        for clip, keys in zip(clips, wanted, strict=True):
            rows = [known for key in keys if (known := found[key]) is not None]
            blocks.append(torch.cat([*rows, *self._clip_tokens(clip, prompt)]))
        return blocks

    def generate_plainly(self, features: Tensor, prompt_ids: Tensor, prompt_mask: Tensor) -> Tensor:
        """Return the context and content tokens (n, m, D) of frames under a prompt."""
        assert self._model.token_generation is not None
        tokens: Tensor = self._model.token_generation(features, prompt_ids, prompt_mask).tokens
        return tokens

    def mine_plainly(self, priors: FacePriors, prompt_ids: Tensor, prompt_mask: Tensor) -> Tensor:
        """Return the face tokens (n, k, D) of frames under a prompt, all of which show the face."""
        assert self._model.face_branch is not None
        tokens: Tensor = self._model.face_branch.complete_tokens(priors, prompt_ids, prompt_mask)
        return tokens

    def uncapture(self, part: str) -> None:
        """Run "vision", "tokens" or "faces" plainly again."""
        if part == "vision":
            self.encode = self._model.encode_frames
        elif part == "tokens":
            self.generate = self.generate_plainly
        else:
            self.mine = self.mine_plainly

    def forget(self, face_id: str) -> None:
        """Drop the frames of a person who has left."""
        self.features.forget(face_id)
        self.tokens.forget(face_id)

    def clear(self) -> None:
        """Free both caches."""
        self.features.clear()
        self.tokens.clear()

    def _keys(self, clip: ClipFrames, prompt: VisualPrompt) -> list[FrameKey]:
        words = f"{prompt.prompt_hash} {clip.priors_version}"
        return [FrameKey(clip.face_id, stamp, words) for stamp in clip.stamps_ns] if self._per_frame else []

    def _read(self, frames: Frames, prompt: VisualPrompt) -> list[Tensor]:
        """Return the tokens (m, D) of each frame: context, content, then face tokens, as `EmoLlama.frame_tokens`."""
        ids = prompt.prompt_ids.expand(len(frames), -1)
        mask = prompt.prompt_mask.expand(len(frames), -1)
        parts: list[list[Tensor]] = [[] for _ in frames]
        # An upload waits for everything that runs on the GPU, so this one comes first.
        faces = self._faces(frames)
        if self._model.vision_tower is not None:
            made = self.generate(torch.stack(self._features(frames)), ids, mask)
            # A clone, since a captured pass may use the output of another one as its working memory.
            for part, tokens in zip(parts, made.clone(), strict=True):
                part.append(tokens)
        if faces is not None:
            for part, tokens in zip(parts, faces(ids, mask), strict=True):
                part.append(tokens)
        # Clones: a cached row must not keep the whole batch alive, nor the output of a captured pass.
        return [torch.cat(part) if len(part) > 1 else part[0].clone() for part in parts]

    def _faces(self, frames: Frames) -> Callable[[Tensor, Tensor], Iterable[Tensor]] | None:
        """Upload the face priors; return what makes one tensor of face tokens per frame of the prompt's ids and mask.

        None without a face branch, or when face tokens are not made per frame.
        """
        branch = self._model.face_branch
        if branch is None or branch.config.scope != "frame" or not all(clip.face_priors for clip, _ in frames):
            return None
        known = FacePriors.cat([clip.face_priors(numbers) for clip, numbers in _by_clip(frames)])  # type: ignore[misc]
        complete, priors = known.complete, known.to(self._model.device)
        if complete:
            return lambda ids, mask: self.mine(priors, ids, mask)
        return lambda ids, mask: branch.frame_tokens(priors, ids, mask)

    def _features(self, frames: Frames) -> list[Tensor]:
        keys = [FrameKey(clip.face_id, clip.stamps_ns[frame]) for clip, frame in frames]
        found = [self.features.get(key) for key in keys]
        missing = [i for i, features in enumerate(found) if features is None]
        if missing:
            pixels = []
            for clip, numbers in _by_clip([frames[i] for i in missing]):
                if clip.pixel_values is None:
                    raise ValueError("This model has a vision tower: its clips need pixels.")
                pixels.append(clip.pixel_values(numbers))
            for i, encoded in zip(missing, self.encode(torch.cat(pixels)), strict=True):
                kept = encoded.clone()
                found[i] = kept
                self.features.put(keys[i], kept)
        return [features for features in found if features is not None]

    def _clip_tokens(self, clip: ClipFrames, prompt: VisualPrompt) -> list[Tensor]:
        branch = self._model.face_branch
        if branch is None or branch.config.scope != "clip" or clip.face_priors is None:
            return []
        priors = clip.face_priors(range(len(clip.stamps_ns))).to(self._model.device)
        return [self._model.clip_tokens(prompt.prompt_ids, prompt.prompt_mask, priors)]


def _by_clip(frames: Frames) -> Iterator[tuple[ClipFrames, list[int]]]:
    for _, run in groupby(frames, key=lambda frame: id(frame[0])):
        group = list(run)
        yield group[0][0], [number for _, number in group]
