"""A tiny EMO-LLaMA with tokenizers of its own, and items about numbers that stand for frames."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from emo_llama_ros.labels import RAF_DB
from emo_llama_ros.model.configuration import EmoLlamaConfig, emo_llama_tiny
from emo_llama_ros.model.face_mining import FacePriors
from emo_llama_ros.model.modeling import EmoLlama
from emo_llama_ros.model.processing import BERT_VOCAB_FILE, QFormerTokenizer, TextTokenizer, load_text_tokenizer
from emo_llama_ros.prompts import label_turn, reasoning_turn, render
from emo_llama_ros.training.collate import Collate, Item
from emo_llama_ros.training.synthetic import tokenizer


@dataclass(frozen=True)
class Tiny:
    """A model's configuration and the collate function that fits it."""

    config: EmoLlamaConfig
    collate: Collate
    text_tokenizer: TextTokenizer
    folder: Path

    def model(self, seed: int = 0) -> EmoLlama:
        torch.manual_seed(seed)
        return EmoLlama(self.config)


def make_tiny(folder: Path, *, vision: bool = True, scope: str = "frame") -> Tiny:
    texts = [render([label_turn(RAF_DB, video=v, answer=label), reasoning_turn(f"The lips are parted {label}.")])
             for label in RAF_DB.labels for v in (False, True)]  # fmt: skip
    tokenizer.train(texts, folder, vocab_size=384, prompt_vocab_size=256)
    text, words = load_text_tokenizer(folder), QFormerTokenizer(folder / BERT_VOCAB_FILE)
    config = emo_llama_tiny(vision=vision)
    assert config.face is not None
    aggregator = replace(config.face.aggregator, vocab_size=len(words))
    config = replace(
        config,
        llm=replace(config.llm, vocab_size=384),
        qformer=config.qformer and replace(config.qformer, vocab_size=len(words)),
        face=replace(config.face, aggregator=aggregator, scope=scope, embedding_is_map=False),
    )
    return Tiny(config, Collate(text, words), text, folder)


def make_items(config: EmoLlamaConfig, count: int, seed: int = 0) -> list[Item]:
    """Images and videos in turn; labels go round, so every label has its own random look."""
    rng = torch.Generator().manual_seed(seed)
    items = []
    for i in range(count):
        frames = 1 if i % 2 else 3
        label = RAF_DB.labels[i % 7]
        turns = (
            label_turn(RAF_DB, video=frames > 1, answer=label),
            reasoning_turn(f"The lips are parted {label}."),
        )
        pixels = torch.randn(frames, 3, 56, 56, generator=rng) if config.vision else None
        items.append(Item(turns[: 1 + i % 3 % 2], label, pixels, make_priors(config, frames, rng)))
    return items


def make_priors(config: EmoLlamaConfig, frames: int, rng: torch.Generator) -> FacePriors | None:
    if config.face is None:
        return None
    evidence = torch.randn(frames, config.face.evidence_dim, generator=rng)
    evidence[:, 0] = float("nan")
    valid = torch.ones(frames, dtype=torch.bool)
    if frames > 1:
        valid[1] = False
    return FacePriors(
        valid,
        torch.randn(frames, config.face.embedding_dim, generator=rng),
        torch.rand(frames, config.face.num_landmarks, 2, generator=rng) * 2 - 1,
        evidence,
    )
