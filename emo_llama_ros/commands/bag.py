"""`emo_llama bag`: videos, pictures or a webcam become a rosbag2."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer


class Storage(str, Enum):
    """Storage plugins that every rosbag2 since Humble has."""

    sqlite3 = "sqlite3"
    mcap = "mcap"


def bag(
    out: Annotated[Path, typer.Option(help="Folder of the new bag; must not exist yet.")],
    files: Annotated[list[Path] | None, typer.Argument(help="Videos and still images, one after another.")] = None,
    webcam: Annotated[int | None, typer.Option(help="Record this camera (0 is the first) until Ctrl-C.")] = None,
    duration: Annotated[float | None, typer.Option(help="Stop the webcam after this many seconds.", min=0.0)] = None,
    hold: Annotated[float, typer.Option(help="Seconds for which each still image is held.", min=0.0)] = 5.0,
    fps: Annotated[
        float | None, typer.Option(help="At most this many frames per second; still images have 10 unless given.")
    ] = None,
    gap: Annotated[float, typer.Option(help="Seconds without a frame between two files.", min=0.0)] = 2.0,
    topic: Annotated[str, typer.Option(help="Topic of the images.")] = "/camera/image_raw",
    storage: Annotated[Storage, typer.Option(help="Storage plugin of rosbag2.")] = Storage.sqlite3,
    compressed: Annotated[bool, typer.Option("--compressed", help="Write JPEG images to TOPIC/compressed.")] = False,
) -> None:
    """Turn videos, still images or a webcam into a rosbag2."""
    raise NotImplementedError
