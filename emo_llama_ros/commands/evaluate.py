"""`emo_llama evaluate`: how good a backend is on labelled faces."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer


def evaluate(
    data: Annotated[
        Path,
        typer.Argument(
            help="Dataset folder (RAF-DB, AffectNet, FERPlus, DFEW, FERV39k, MAFW), FER+ in a fer2013.csv or .npz, a "
            "folder per label, or a .csv or .jsonl with path and label (and person)."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the report.")],
    backend: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME, NAME=MODEL_FOLDER, or onnx=MODEL.onnx:LABELS.txt for any ONNX classifier; several are compared "
            "with the first. [default: emo_llama]"
        ),
    ] = None,
    model: Annotated[
        str, typer.Option(help="Checkpoint folder of backends named without one; {fold} stands for the fold.")
    ] = "",
    dataset: Annotated[str, typer.Option(help="Name of the dataset; told from its files when not given.")] = "",
    split: Annotated[str, typer.Option(help="Split to evaluate; the dataset's test split when not given.")] = "",
    fold: Annotated[int, typer.Option(help="Evaluate this fold alone; 0 averages over all.", min=0)] = 0,
    labels: Annotated[
        str,
        typer.Option(
            help="Label set that counts, as raf-db for FER+ without contempt; the dataset's own when not given."
        ),
    ] = "",
    frames: Annotated[int, typer.Option(help="Frames of a video.", min=1, max=64)] = 16,
    faces: Annotated[
        str,
        typer.Option(
            help="auto, detect, pad (a border around tight crops) or whole (the picture is the face, cut as FER2013; "
            "nothing in it is measured, which emo-llama-nano needs)."
        ),
    ] = "auto",
    limit: Annotated[int, typer.Option(help="Only this many samples per fold, spread evenly; 0 takes all.", min=0)] = 0,
    reasoning: Annotated[
        bool, typer.Option("--reasoning", help="Let the backends explain themselves, and check every statement.")
    ] = False,
    fit_calibration: Annotated[str, typer.Option(help="Fit a calibration first: temperature or vector.")] = "",
    fit_split: Annotated[str, typer.Option(help="Split to fit on; validation, or else train.")] = "",
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Set a parameter of config/emo.yaml.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap intervals.")] = 0,
    jobs: Annotated[int, typer.Option(help="Processes; 0 takes one per core, or one for a large model.", min=0)] = 0,
) -> None:
    """Measure accuracy, calibration and speed of one or more backends on the same labelled clips.

    Results are kept as they come: after a stop, the same command goes on where it was.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from emo_llama_ros.backends.registry import declaration
    from emo_llama_ros.data.datasets import open_dataset
    from emo_llama_ros.data.datasets.clip_source import Faces
    from emo_llama_ros.errors import BadParameter
    from emo_llama_ros.evaluation.contenders import check_contenders, contenders, fitting_jobs
    from emo_llama_ros.evaluation.evaluate import Plan
    from emo_llama_ros.evaluation.report_view import report_view
    from emo_llama_ros.evaluation.study import JOURNAL, Study, run_study
    from emo_llama_ros.images.files import shown
    from emo_llama_ros.labels import label_set
    from emo_llama_ros.options import Options, parse

    if faces not in [f.value for f in Faces]:
        raise BadParameter(f"--faces must be one of {', '.join(f.value for f in Faces)}, not '{faces}'.")
    options = Options().with_values(dict(parse(setting) for setting in settings or ()))
    # Whatever is missing is said before a dataset is read, which takes a while.
    check_contenders(contenders(backend or [options.backend], model, options, options.label_set))
    opened = open_dataset(data, dataset)
    wanted = label_set(labels) if labels else opened.label_set
    made = contenders(backend or [options.backend], model, options, wanted.name)
    where = Faces(faces).resolve(opened, any(declaration(c.options).reads_mesh for c in made))
    chosen = split or opened.test_split
    every = tuple(range(1, opened.folds + 1)) or (0,)
    others = [s for s in ("validation", "train") if s in opened.splits and s != chosen]
    plan = Plan(opened, data, chosen, (fold,) if fold else every, frames, where, reasoning, limit, wanted)
    study = Study(
        plan,
        made,
        options,
        out,
        title=f"{opened.name} {chosen}" + (f" fold {fold}" if fold else ""),
        command=shlex.join(["emo_llama", *sys.argv[1:]]),
        fit_method=fit_calibration,
        fit_split=fit_split or (others[0] if others else chosen),
        seed=seed,
        settings={"frames": frames, "faces": where.value, "limit": limit},
        jobs=jobs or fitting_jobs(made),
    )
    console = Console()
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(None),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    try:
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task("", total=None)
            found = run_study(
                study, lambda what, done, total: bar.update(task, description=what, completed=done, total=total)
            )
    except KeyboardInterrupt:
        typer.echo(f"Stopped. The answers so far are in {shown(out / JOURNAL)}; the same command goes on from there.")
        raise typer.Exit(130) from None
    console.print(report_view((out / "report.md").read_text(encoding="utf-8")))
    for result in found["results"]:
        if result["settings"]["first_error"]:
            typer.secho(f"{result['name']}, first fault: ", fg="yellow", nl=False)
            typer.echo(result["settings"]["first_error"])
    typer.echo(f"Report and pictures are in {shown(out)}.")
