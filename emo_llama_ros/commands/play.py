"""`emo_llama play`: a camera for any running node."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def play(
    files: Annotated[list[Path], typer.Argument(help="A rosbag2, or videos and still images, one after another.")],
    topic: Annotated[
        str | None, typer.Option(help="Topic to publish on; where the bag's images were, or /camera/image_raw.")
    ] = None,
    bag_topic: Annotated[
        str | None, typer.Option(help="Image topic of the bag; chosen by name and encoding if not given.")
    ] = None,
    rate: Annotated[float, typer.Option(help="Pace; 2 is twice as fast.", min=0.01, max=100.0)] = 1.0,
    loop: Annotated[bool, typer.Option("--loop", help="Play over and over, until Ctrl-C.")] = False,
    clock: Annotated[
        bool, typer.Option("--clock", help="Keep the recorded stamps and publish /clock, for use_sim_time:=true.")
    ] = False,
) -> None:
    """Publish recorded images as a camera would: TOPIC and TOPIC/compressed, stamped with the present time."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from emo_llama_ros.ros.required import require_ros
    from emo_llama_ros.ros.until_interrupted import until_interrupted

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    columns = (SpinnerColumn(), TextColumn("{task.completed} frames"), TimeElapsedColumn())
    with until_interrupted() as over:
        require_ros()
        from emo_llama_ros.recordings.playable import recording
        from emo_llama_ros.ros.play import play as run

        with (
            recording(files, bag_topic) as source,
            Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar,
        ):
            task = bar.add_task("", total=None)
            name = topic or source.topic
            played, camera = run(
                source,
                "/" + name.strip("/").removesuffix("/compressed"),
                over,
                rate,
                loop,
                clock,
                on_start=lambda text: console.print(text, markup=False),
                on_frame=lambda: bar.advance(task),
            )
            notes = list(source.notes())
    if camera.unusable:
        notes.append(f"{camera.unusable} images could not be decoded and were left out.")
    for note in notes:
        typer.echo(f"Note: {note}", err=True)
    heard = "" if camera.published else "; nobody listened"
    typer.echo(f"{camera.topic}: {played.frames} frames in {played.seconds / rate:.1f} s{heard}")
