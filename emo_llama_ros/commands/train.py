"""`emo_llama train`: a recipe becomes a model, or the adapters of one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def train(
    recipe: Annotated[Path, typer.Argument(help="Recipe to train, for example config/train/nano.yaml.")],
    output: Annotated[
        Path | None, typer.Option(help="Folder for everything the run makes. [default: the recipe's]")
    ] = None,
    data: Annotated[
        str, typer.Option(help="FER+, for the recipe of emo-eyes: a folder or an .npz, see docs/training.md.")
    ] = "",
    smoke: Annotated[bool, typer.Option("--smoke", help="Run all of it in miniature, to see that it works.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the newest checkpoint of an interrupted run.")
    ] = False,
) -> None:
    """Train the model that a recipe describes. Several GPUs: accelerate launch -m emo_llama_ros.training RECIPE."""
    from emo_llama_ros.training.start import start

    typer.echo(start(recipe, output, data=data, smoke=smoke, resume=resume))
