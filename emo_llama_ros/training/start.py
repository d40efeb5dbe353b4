"""Start the run that a recipe file describes, whatever it trains."""

from __future__ import annotations

from pathlib import Path

from emo_llama_ros.checks.extras import require
from emo_llama_ros.errors import BadParameter
from emo_llama_ros.training.recipe import load_recipe, read_yaml

EYES = "eyes"


def start(path: Path, output: Path | None = None, *, data: str = "", smoke: bool = False, resume: bool = False) -> str:
    """Train what the recipe at `path` describes and return a sentence about where the result lies.

    Recipes with `kind: eyes` train emo-eyes on `data`, all others a language model. Raise BadParameter for a recipe
    that contradicts itself, or for data where the recipe names its own; MissingDependency without the extras.
    """
    require("Training", "model", "metrics")
    raw = read_yaml(path)
    # The runs import torch and transformers, which takes seconds: after the recipe is known to be one.
    if isinstance(raw, dict) and raw.get("kind") == EYES:
        from emo_llama_ros.training.eyes.recipe import load_eyes_recipe
        from emo_llama_ros.training.eyes.run import train_eyes

        made = train_eyes(load_eyes_recipe(path), data, output, smoke=smoke, resume=resume)
        return (
            f"Trained {made.folder} (accuracy {made.point.accuracy:.3f}, UAR {made.point.uar:.3f} on held-out faces); "
            f"log {made.log}, plot {made.plot}."
        )
    if data:
        raise BadParameter("Only the recipe of emo-eyes takes --data; this recipe names its own data.")
    wanted = load_recipe(path)
    from emo_llama_ros.training.run import train

    result = train(wanted, output, smoke=smoke, resume=resume)
    return f"Trained {result.folder}; log {result.log}, plot {result.plot}."
