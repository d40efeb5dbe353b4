"""Clips and prompts of realistic size in random pixels and tokens: time does not depend on what they show."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from emo_llama_ros.inference import label_trie
from emo_llama_ros.inference.clip_reader import Prompt
from emo_llama_ros.inference.frame_encoder import ClipFrames, VisualPrompt
from emo_llama_ros.model.configuration import EmoLlamaConfig
from emo_llama_ros.model.face_mining import FacePriors
from emo_llama_ros.model.merging import IMAGE_TOKEN
from emo_llama_ros.model.modeling import ClipInputs, EmoLlama
from emo_llama_ros.model.processing import preprocess_clip

EOS = 2
FRAMES = 8
HEAD_TOKENS, TAIL_TOKENS, WORDS = 40, 64, 40  # Vicuna's system sentence; the question with its seven options; in BERT
LABEL_TOKENS = (2, 1, 3, 2, 3, 1, 2)  # as SentencePiece cuts the seven labels, roughly


class Film:
    """Random face crops and priors of one person, on the host and prepared there as a camera's would be."""

    def __init__(self, config: EmoLlamaConfig, frames: int, device: torch.device, dtype: torch.dtype) -> None:
        generator = torch.Generator().manual_seed(1)
        self._device, self._dtype = device, dtype
        self.frames = frames
        self._crops = self._embedding = self._landmarks = self._evidence = None
        if config.vision is not None:
            shape = (frames, config.vision.image_size, config.vision.image_size, 3)
            self._crops = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator).numpy()
        face = config.face
        if face is not None and face.embedding_dim:
            grid = (face.global_grid,) * 2 if face.embedding_is_map else ()
            self._embedding = torch.randn(frames, face.embedding_dim, *grid, generator=generator)
        if face is not None and face.landmark_regions:
            self._landmarks = torch.rand(frames, face.num_landmarks, 2, generator=generator) * 2 - 1
        if face is not None and face.evidence_dim:
            self._evidence = torch.rand(frames, face.evidence_dim, generator=generator)
        self._has_face = face is not None

    def pixels(self, numbers: Sequence[int]) -> torch.Tensor:
        """Preprocess frames and upload them."""
        assert self._crops is not None
        size = self._crops.shape[1]
        return preprocess_clip([self._crops[i] for i in numbers], size, pad=True).to(self._device).to(self._dtype)

    def priors(self, numbers: Sequence[int]) -> FacePriors:
        """Return face priors, on the host."""
        rows = list(numbers)
        return FacePriors(
            torch.ones(len(rows), dtype=torch.bool),
            *(
                None if part is None else part[rows].to(self._dtype)
                for part in (self._embedding, self._landmarks, self._evidence)
            ),
        )

    def clip(self, first: int, person: str = "a") -> ClipFrames:
        """Return the clip of FRAMES frames that begins with frame `first` of an endless loop."""
        numbers = [(first + i) % self.frames for i in range(FRAMES)]
        return ClipFrames(
            person,
            tuple(range(first, first + FRAMES)),
            None if self._crops is None else lambda wanted: self.pixels([numbers[i] for i in wanted]),
            (lambda wanted: self.priors([numbers[i] for i in wanted])) if self._has_face else None,
        )


def make_prompt(config: EmoLlamaConfig, device: torch.device) -> tuple[Prompt, label_trie.LabelTrie, list[list[int]]]:
    """Return a prompt of realistic length in random tokens, and seven labels."""
    generator = torch.Generator().manual_seed(2)
    readers = [config.qformer, config.face.aggregator if config.face else None]
    words_known = min(reader.vocab_size for reader in readers if reader is not None)

    def tokens(count: int, vocabulary: int) -> list[int]:
        return torch.randint(3, vocabulary, (count,), generator=generator).tolist()

    words = torch.tensor([tokens(WORDS, words_known)], device=device)
    vocabulary = config.llm.vocab_size
    prompt = Prompt(
        tuple(tokens(HEAD_TOKENS, vocabulary)),
        tuple(tokens(TAIL_TOKENS, vocabulary)),
        VisualPrompt(words, torch.ones_like(words), "benchmark"),
    )
    first = torch.randperm(vocabulary - 3, generator=generator)[: len(LABEL_TOKENS)] + 3
    labels = [[int(f), *tokens(n - 1, vocabulary)] for f, n in zip(first, LABEL_TOKENS, strict=True)]
    return prompt, label_trie.build(labels, EOS), labels


def plain_inputs(model: EmoLlama, film: Film, prompt: Prompt, first: int = 0) -> torch.Tensor:
    """Return `plain_embeds` of the film's clip that begins with frame `first`."""
    return plain_embeds(model, film.clip(first), prompt)


def plain_embeds(model: EmoLlama, clip: ClipFrames, prompt: Prompt) -> torch.Tensor:
    """Return what the language model reads of a clip, everything computed afresh: (1, L, hidden)."""
    numbers = range(len(clip.stamps_ns))
    features = model.encode_frames(clip.pixel_values(numbers)) if clip.pixel_values is not None else None
    priors = clip.face_priors(numbers).to(model.device) if clip.face_priors is not None else None
    inputs = ClipInputs(prompt.visual.prompt_ids, prompt.visual.prompt_mask, features, priors)
    ids = torch.tensor([[*prompt.head_ids, IMAGE_TOKEN, *prompt.tail_ids]], device=model.device)
    return model.merge(ids, model.visual_blocks([inputs])).inputs_embeds
