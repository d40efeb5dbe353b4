"""`emo_llama replay`: what the node would say about a recorded bag, computed offline."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer


def replay(
    bag: Annotated[Path, typer.Argument(help="A rosbag2: its folder, or one .mcap or .db3 file.")],
    out: Annotated[Path, typer.Option(help="Folder for the results.")],
    backend: Annotated[str | None, typer.Option(help="What reads the clips: emo_llama or expression.")] = None,
    topic: Annotated[str | None, typer.Option(help="Image topic; chosen by name and encoding if not given.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Set a parameter of config/emo.yaml.")
    ] = None,
    thumbnails: Annotated[bool, typer.Option("--thumbnails", help="Show faces in the timeline picture.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace earlier results in the folder.")] = False,
    live: Annotated[
        bool, typer.Option("--live", help="Play the bag in real time over DDS, with /clock, to a node started for it.")
    ] = False,
    rate: Annotated[float | None, typer.Option(help="Pace of --live; 2 is twice as fast.", min=0.01, max=100.0)] = None,
) -> None:
    """Read a rosbag2 offline: the same bag gives the same output, and nothing is dropped."""
    from emo_llama_ros.checks.extras import require_for
    from emo_llama_ros.options import Options, parse

    values = dict(parse(setting) for setting in settings or ())
    if backend is not None:
        values["backend"] = backend
    options = Options().with_values(values)
    require_for(options)
    if live:
        for name in ("image_topic", "image_transport"):
            if name in values:
                raise typer.BadParameter(f"{name} follows from the bag; choose with --topic.")
        if thumbnails:
            raise typer.BadParameter("--thumbnails works offline only; leave out --live.")
    elif rate is not None:
        raise typer.BadParameter("--rate works with --live only; an offline replay is as fast as it can be.")

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from emo_llama_ros.images.files import shown
    from emo_llama_ros.recordings.replay import refuse_live_only
    from emo_llama_ros.recordings.replay import replay as run

    if not live:
        refuse_live_only(values)
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(None),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(f"Replaying {shown(Path(bag.resolve().name))}", total=None)

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        if live:
            from emo_llama_ros.ros.required import require_ros

            require_ros()
            from emo_llama_ros.ros.live_results import replay_live_into

            done = replay_live_into(out, bag, values, topic, rate or 1.0, overwrite, show)
        else:
            result = run(bag, out, options, topic, thumbnails, overwrite, show)
    if live:
        _tell(done.notes)
        typer.echo(done.summary)
        if done.reason:
            typer.echo(f"No estimate: {done.reason}", err=True)
            raise typer.Exit(1)
        return
    lost = [
        (result.unreadable, f"messages on {result.topic.name} are no valid images"),
        (result.stats.drops.get("bad_image", 0), f"images could not be decoded ({result.stats.last_bad_image})"),
        (result.stats.drops.get("old_stamp", 0), "images carry a stamp no later than that of the image before"),
    ]
    _tell([*result.notes, *(f"{n} of {result.topic.count} {what}; they were left out." for n, what in lost if n)])
    speed = result.seconds / result.wall_s if result.wall_s else 0.0
    typer.echo(f"{result.topic.name}: {result.frames} frames, {result.seconds:.1f} s, {speed:.1f}× real time")
    people = "1 person" if len(result.people) == 1 else f"{len(result.people)} people"
    statuses = ", ".join(f"{count} {name}" for name, count in sorted(result.statuses().items())) or "none"
    typer.echo(f"{people}; estimates: {statuses}")
    for sentence in dict.fromkeys(filter(None, (*result.stats.remarks, result.stats.silence))):
        typer.echo(sentence)
    typer.echo(f"{shown(out / 'timeline.png')}, estimates.jsonl, estimates.csv, bag/, report.json")
    if result.interrupted:
        typer.echo("Interrupted: the results end where you stopped.", err=True)
        raise typer.Exit(130)
    if result.reason:
        typer.echo(f"No estimate: {result.reason}", err=True)
        raise typer.Exit(1)


def _tell(notes: Iterable[str]) -> None:
    for note in notes:
        typer.echo(f"Note: {note}", err=True)
