"""Where a recipe's items come from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from torch.utils.data import Dataset, Sampler

from emo_llama_ros.errors import BadParameter
from emo_llama_ros.evaluation.calibration_fit import Fit
from emo_llama_ros.model.configuration import EmoLlamaConfig
from emo_llama_ros.model.modeling import EmoLlama
from emo_llama_ros.training.collate import Collate, Item
from emo_llama_ros.training.recipe import Recipe


class Source(Protocol):
    """Items for the stages of a recipe, and what the model must know about them."""

    collate: Collate

    @property
    def tokenizer_files(self) -> list[Path]:
        """Files that belong into the checkpoint folder of a model that starts here."""

    def sized(self, config: EmoLlamaConfig) -> EmoLlamaConfig:
        """Return the configuration with the sizes that the data decide."""

    def prepare(self, model: EmoLlama) -> None:
        """Set what the model holds of the data's statistics."""

    def items(self, stage_data: Mapping[str, Any], number: int) -> tuple[Dataset[Item], Dataset[Item] | None]:
        """Return what stage `number` trains on, and what it is measured on."""

    def sampler(self, items: Dataset[Item], seed: int) -> Sampler[int]:
        """Return the order of the items."""

    def finish(self, model: EmoLlama) -> Fit | None:
        """Return the calibration of the trained model, None where nothing was held out for it."""


def make_source(recipe: Recipe, output: Path, smoke: bool) -> Source:
    """Return the source that `data.source` names; raise BadParameter for an unknown one."""
    kind, folder = recipe.data.get("source"), recipe.path.parent
    if kind == "synthetic":
        from emo_llama_ros.training.synthetic.source import SyntheticClipSource

        return SyntheticClipSource(recipe.data, folder, output, recipe.seed, smoke)
    if kind == "records":
        from emo_llama_ros.training.record_source import RecordSource

        return RecordSource(recipe.data, recipe.model.checkpoint, output, smoke)
    raise BadParameter(f"The recipe's data.source is '{kind}'; choose 'records' or 'synthetic'.")
