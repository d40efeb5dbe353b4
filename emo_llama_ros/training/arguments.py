"""A recipe's `training` table as transformers' TrainingArguments."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from emo_llama_ros.errors import BadParameter


def training_arguments(name: str, values: Mapping[str, Any], folder: Path, seed: int) -> TrainingArguments:
    """Return the arguments of the run called `name`, whose checkpoints go to `folder`.

    What every run has in common is added to `values`. Raise BadParameter where they name what TrainingArguments does
    not have.
    """
    fixed: dict[str, Any] = {
        "output_dir": str(folder),
        "seed": seed,
        "data_seed": seed,
        # Without it, processes on CPUs would not find each other.
        "use_cpu": bool(values.get("use_cpu")) or not torch.cuda.is_available(),
        "dataloader_pin_memory": torch.cuda.is_available(),
        "remove_unused_columns": False,
        "report_to": [],
        "disable_tqdm": True,
    }
    try:
        return TrainingArguments(**(dict(values) | fixed))
    except TypeError as error:
        raise BadParameter(f"'{name}' sets something that TrainingArguments does not have: {error}.") from None
