"""The data source `synthetic` of a recipe: sampled and recorded clips, and the tokenizers made from their words.

| key of `data` | meaning |
|---|---|
| `clips` | how many clips to sample |
| `held_out` | how many more to sample for figures and calibration |
| `recordings` | file of real measurements, relative to the recipe; see `synthetic.__main__` |
| `recorded_share` | share of training clips that are real |
| `max_frames` | longest clip |
| `vocab_size`, `prompt_vocab_size` | sizes of the two tokenizers |
| `smoke` | table of keys that `--smoke` changes |

| key of a stage's `data` | meaning |
|---|---|
| `items` | how many items the stage draws from the clips |
| `conversations` | share of items that go on from a label and ask for more |
| `kinds` | kinds of questions (`dialogue.KINDS`) and their shares, where they are not the usual ones |
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from emo_llama_ros import prompts
from emo_llama_ros.errors import BadParameter
from emo_llama_ros.evaluation.calibration_fit import Fit
from emo_llama_ros.labels import LABEL_SETS, RAF_DB
from emo_llama_ros.model.clip_priors import FRAME_EVIDENCE_NAMES
from emo_llama_ros.model.configuration import EmoLlamaConfig
from emo_llama_ros.model.modeling import EmoLlama
from emo_llama_ros.model.processing import BERT_VOCAB_FILE, QFormerTokenizer, load_text_tokenizer
from emo_llama_ros.training.collate import Collate, Item
from emo_llama_ros.training.sampling import LengthGroupedSampler
from emo_llama_ros.training.synthetic import dialogue, posterior, recordings, synthesis, tokenizer
from emo_llama_ros.training.synthetic.clips import SyntheticClips
from emo_llama_ros.training.synthetic.items import SyntheticItems

_TOKENIZER_TEXTS = 6000
_PROMPT_TOKENS = 64
_GROUP = 32
"""So many items of about the same length come one after the other."""


@dataclass(frozen=True, slots=True)
class Options:
    """The keys of `data`."""

    recordings: str
    clips: int = 200_000
    held_out: int = 4_096
    recorded_share: float = 0.08
    max_frames: int = 16
    vocab_size: int = 1536
    prompt_vocab_size: int = 1024


class SyntheticClipSource:
    """Makes the clips once, and the items of each stage from them."""

    def __init__(self, data: Mapping[str, Any], recipe_folder: Path, output: Path, seed: int, smoke: bool) -> None:
        values = {key: value for key, value in data.items() if key not in ("source", "smoke")}
        try:
            self.options = Options(**(values | (dict(data.get("smoke", {})) if smoke else {})))
        except TypeError as error:
            raise BadParameter(f"The recipe's data has a wrong key: {error}.") from None
        self._seed, self._folder = seed, output / "tokenizer"
        options, processes = self.options, len(os.sched_getaffinity(0))
        self._workers = max(0, processes - 2)
        recorded, mean_face = recordings.load(recipe_folder / options.recordings)
        sampled = synthesis.generate(options.clips + options.held_out, seed, options.max_frames, mean_face, processes)
        real = recordings.clips_of(recorded, 8, options.max_frames, seed)
        rng = np.random.default_rng((seed, 1))
        order = rng.permutation(len(sampled))
        drawn = rng.integers(len(real), size=round(options.clips * options.recorded_share))
        self.held_out = sampled.take(order[: options.held_out])
        mixed = SyntheticClips.cat([sampled.take(order[options.held_out :]), real.take(drawn)])
        self.clips = mixed.take(rng.permutation(len(mixed)))
        tokenizer.train(_texts(self.clips, seed), self._folder, options.vocab_size, options.prompt_vocab_size)
        text = load_text_tokenizer(self._folder)
        words = QFormerTokenizer(self._folder / BERT_VOCAB_FILE, max_tokens=_PROMPT_TOKENS)
        self._prompt_words = len(words)
        self.collate = Collate(text, words)

    @property
    def tokenizer_files(self) -> list[Path]:
        """Files that belong into the checkpoint folder."""
        return sorted(self._folder.iterdir())

    def sized(self, config: EmoLlamaConfig) -> EmoLlamaConfig:
        """Return `config` with the vocabularies and sizes of the priors of this source."""
        if config.face is None:
            raise BadParameter("The data source synthetic shows faces only: the recipe's model needs a face branch.")
        aggregator = replace(config.face.aggregator, vocab_size=self._prompt_words, max_prompt_tokens=_PROMPT_TOKENS)
        face = replace(
            config.face,
            aggregator=aggregator,
            embedding_dim=len(RAF_DB.labels),
            embedding_is_map=False,
            embedding_source="expression",
            evidence_dim=len(FRAME_EVIDENCE_NAMES),
            scope="clip",
            max_frames=self.options.max_frames,
        )
        llm = replace(config.llm, vocab_size=self.options.vocab_size)
        return replace(config, llm=llm, face=face, evidence_note=True)

    def prepare(self, model: EmoLlama) -> None:
        """Tell the face branch mean and deviation of its evidence."""
        mining = model.face_branch.mining if model.face_branch else None
        if mining is None or not mining.config.evidence_dim:
            return
        rows = self.clips.evidence[:20_000].reshape(-1, self.clips.evidence.shape[-1])
        # Masked, because a fact may be unknown in every clip. Rare facts would be magnified without a floor.
        known = np.ma.masked_invalid(rows)
        mining.evidence_mean.copy_(torch.from_numpy(known.mean(axis=0).filled(0.0)))
        mining.evidence_std.copy_(torch.from_numpy(np.maximum(known.std(axis=0).filled(1.0), 0.1)))

    def items(self, stage_data: Mapping[str, Any], number: int) -> tuple[SyntheticItems, SyntheticItems]:
        """Return what a stage trains on, and what it is measured on."""
        unknown = set(stage_data) - {"items", "conversations", "kinds"}
        if unknown:
            raise BadParameter(f"The stage's data has an unknown key '{min(unknown)}'.")
        count, share = int(stage_data["items"]), float(stage_data.get("conversations", 0.0))
        kinds = dialogue.kinds_of(stage_data.get("kinds", {}))
        seed = self._seed + 1000 * (number + 1)
        measured = min(len(self.held_out), 1024)
        return (
            SyntheticItems(self.clips, count, seed, share, kinds),
            SyntheticItems(self.held_out, measured, seed, 1.0 if share else 0.0, kinds),
        )

    def sampler(self, items: Dataset[Item], seed: int) -> Sampler[int]:
        """Draw every item once, beside others of its length: the clips come balanced."""
        assert isinstance(items, SyntheticItems)
        return LengthGroupedSampler(items.lengths(), _GROUP, seed)

    def finish(self, model: EmoLlama) -> Fit:
        """Fit the temperature of the trained model on the held-out clips."""
        model.eval()
        read = posterior.posteriors(model, self.collate, self.held_out, workers=self._workers)
        return posterior.calibrate(self.held_out, read)


def _texts(clips: SyntheticClips, seed: int) -> Iterator[str]:
    """Yield what is said about clips, for the tokenizers."""
    for label_set in LABEL_SETS.values():
        for video in (True, False):
            turns = [prompts.label_turn(label_set, video=video, answer=label) for label in label_set.labels]
            yield from (prompts.render([turn]) for turn in turns for _ in range(3))
    yield from (question for _, questions in dialogue.MOVEMENTS for question in questions)
    yield from dialogue.THINGS
    items = SyntheticItems(clips, _TOKENIZER_TEXTS, seed, conversations=1.0)
    yield from (prompts.render(items[i].turns) for i in range(_TOKENIZER_TEXTS))
