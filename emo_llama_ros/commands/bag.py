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
        float | None,
        typer.Option(help="At most this many frames per second; still images have 10 unless given.", min=0.1),
    ] = None,
    gap: Annotated[float, typer.Option(help="Seconds without a frame between two files.", min=0.0)] = 2.0,
    topic: Annotated[str, typer.Option(help="Topic of the images.")] = "/camera/image_raw",
    frame_id: Annotated[str, typer.Option(help="frame_id of the images.")] = "camera",
    storage: Annotated[Storage, typer.Option(help="Storage plugin of rosbag2.")] = Storage.sqlite3,
    raw: Annotated[
        bool, typer.Option("--raw", help="Write raw images to TOPIC; about ten times larger than JPEG ones.")
    ] = False,
    quality: Annotated[
        int | None, typer.Option(help="Quality of the JPEG images; 90 if not given.", min=1, max=100)
    ] = None,
) -> None:
    """Turn videos, still images or a webcam into a rosbag2 of JPEG images on TOPIC/compressed, or raw ones on TOPIC."""
    from itertools import chain

    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from emo_llama_ros.images.files import shown
    from emo_llama_ros.recordings.bag_writer import BagWriter
    from emo_llama_ros.recordings.media import JPEG_QUALITY, file_frames, jpeg_frame, webcam_frames

    if bool(files) == (webcam is not None):
        raise typer.BadParameter("Give either files or --webcam.")
    if raw and quality is not None:
        raise typer.BadParameter("--quality is that of JPEG images; leave out --raw.")
    if webcam is not None:
        frames = webcam_frames(webcam, fps, duration, frame_id)
    else:
        frames = file_frames(files or [], hold, fps, gap, frame_id)
    name = "/" + topic.strip("/") + ("" if raw else "/compressed")
    first = next(frames, None)  # a file or camera that cannot be read shows before the bag is created
    if first is None:
        raise typer.BadParameter("These arguments give no frame.")
    last = first
    console = Console(stderr=True)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description} {task.completed} frames", markup=False),
        TimeElapsedColumn(),
    )
    bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    with BagWriter(out, storage.value) as writer, bar as progress:
        task = progress.add_task(f"Writing {shown(Path(out.name))}:", total=None)
        try:
            for last in chain([first], frames):
                writer.write_image(name, last if raw else jpeg_frame(last, quality or JPEG_QUALITY))
                progress.advance(task)
        except KeyboardInterrupt:  # the usual end of a webcam recording
            progress.stop()
    seconds = (last.stamp_ns - first.stamp_ns) / 1e9
    typer.echo(f"{shown(out)}: {writer.count} frames of {first.width}×{first.height}, {seconds:.1f} s on {name}")
