"""`emo_llama replay`: what the node would say about a recorded bag, computed offline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def replay(
    bag: Annotated[Path, typer.Argument(help="A rosbag2: its folder, or one .mcap or .db3 file.")],
    out: Annotated[Path, typer.Option(help="Folder for the results.")],
    backend: Annotated[str | None, typer.Option(help="What reads the clips: expression, emo_llama, …")] = None,
    topic: Annotated[str | None, typer.Option(help="Image topic; chosen by name and size when not given.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Set a parameter of config/emo.yaml.")
    ] = None,
    thumbnails: Annotated[bool, typer.Option("--thumbnails", help="Show faces in the timeline picture.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier replay in the folder.")] = False,
) -> None:
    """Read a rosbag2 offline: same bag, same output, nothing dropped."""
    raise NotImplementedError
