"""`emo_llama data`: instruction data from labelled faces."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from emo_llama_ros.data.datasets import Dataset, LeftOut
    from emo_llama_ros.data.writer import Writer

app = typer.Typer(help="Make instruction data for training out of labelled faces.", no_args_is_help=True)

Data = Annotated[
    Path,
    typer.Argument(
        help="Dataset folder (RAF-DB, AffectNet, FERPlus, DFEW, FERV39k, MAFW), a folder per label, or a .csv or "
        ".jsonl with path and label."
    ),
]
Name = Annotated[str, typer.Option("--dataset", help="Name of the dataset; told from its files when not given.")]
Split = Annotated[str, typer.Option(help="Split to read.")]
Fold = Annotated[int, typer.Option(help="Fold, for datasets that have folds.", min=0)]


@app.command()
def category(
    data: Data,
    out: Annotated[Path, typer.Option(help="Record file to write: .jsonl or .json.")],
    dataset: Name = "",
    split: Split = "train",
    fold: Fold = 0,
) -> None:
    """Write one closed-set question with a one-word answer for each labelled face."""
    from emo_llama_ros.data.category import category_records
    from emo_llama_ros.data.datasets import LeftOut, open_dataset
    from emo_llama_ros.data.records import write_records

    opened, left_out = open_dataset(data, dataset), LeftOut()
    count = write_records(out, category_records(opened, data, split, fold, out.parent, left_out))
    typer.echo(f"Wrote {count} category items of {opened.name} {split} to {out}.")
    _tell(left_out)


@app.command()
def conversation(
    data: Data,
    out: Annotated[Path, typer.Option(help="Record file to append to: .jsonl. A second run goes on where it stopped.")],
    dataset: Name = "",
    split: Split = "train",
    fold: Fold = 0,
    local: Annotated[
        bool, typer.Option("--local", help="No service: describe the facial movements measured on this machine.")
    ] = False,
    base_url: Annotated[str, typer.Option(help="OpenAI-compatible endpoint.", envvar="OPENAI_BASE_URL")] = "",
    model: Annotated[str, typer.Option(help="Vision model.", envvar="EMO_LLAMA_VISION_MODEL")] = "",
    concurrency: Annotated[int, typer.Option(help="Requests open at a time.", min=1, max=256)] = 4,
    frames: Annotated[int, typer.Option(help="Frames of a video that are looked at.", min=1, max=64)] = 8,
    timeout: Annotated[float, typer.Option(help="Seconds until a request is repeated.", min=1.0)] = 60.0,
    retries: Annotated[int, typer.Option(help="Repeats of a failed request, with back-off.", min=0)] = 5,
    prompt_price: Annotated[float, typer.Option(help="Price of a million prompt tokens, for the display.")] = 0.0,
    completion_price: Annotated[float, typer.Option(help="Price of a million answer tokens, for the display.")] = 0.0,
    limit: Annotated[int, typer.Option(help="Only this many samples, spread evenly; 0 takes all.", min=0)] = 0,
) -> None:
    """Write questions and answers about each labelled face, by a vision model or from measurements.

    The API key is read from OPENAI_API_KEY. Faces leave this machine unless --local is given or the endpoint is yours.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    from emo_llama_ros.checks.extras import require
    from emo_llama_ros.data.conversations import Progress, failures_path, write_conversations
    from emo_llama_ros.data.datasets import LeftOut, open_dataset, spread
    from emo_llama_ros.images.files import shown

    endpoint: Writer | None = None
    if not local:  # what it lacks shows before a data set is read, which takes a while
        require("Writing conversations", "endpoint", instead="give --local")
        endpoint = _endpoint(base_url, model, timeout, retries)
    opened, left_out = open_dataset(data, dataset), LeftOut()
    samples = spread(list(opened.read(data, split, fold, left_out)), limit)
    _tell(left_out)
    writer = endpoint or _measured_writer(opened)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(None),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}"),
    )
    with Bar(*columns) as bar:
        task = bar.add_task(f"{opened.name} {split}", total=len(samples), figures="")

        def show(progress: Progress) -> None:
            tokens = progress.usage.prompt_tokens + progress.usage.completion_tokens
            cost = progress.cost(prompt_price, completion_price)
            figures = [f"{progress.failed} failed", f"{tokens:,} tokens", f"cost {cost:.2f}" if cost else ""]
            done = progress.written + progress.skipped + progress.failed
            bar.update(task, completed=done, figures="  ".join(filter(None, figures)))

        # Measuring is one thing at a time on this machine, and its records keep the order of the data.
        at_once = 1 if local else concurrency
        result = write_conversations(samples, out, writer, concurrency=at_once, frames=frames, on_progress=show)
    typer.echo(f"{result.written} written, {result.skipped} were there, {result.failed} failed: {shown(out)}")
    if result.failed:
        typer.echo(f"Reasons of the failures are in {shown(failures_path(out))}; run the command again to retry them.")


def _tell(left_out: LeftOut) -> None:
    for line in left_out.lines():
        typer.echo(f"Left out: {line}", err=True)


def _endpoint(base_url: str, model: str, timeout_s: float, retries: int) -> Writer:
    from emo_llama_ros.data.endpoint import EndpointSettings, VisionEndpoint

    return VisionEndpoint(EndpointSettings(base_url, "", model, timeout_s, retries))


def _measured_writer(dataset: Dataset) -> Writer:
    from emo_llama_ros.data.datasets.clip_source import Faces
    from emo_llama_ros.data.measured import MeasuredWriter
    from emo_llama_ros.faces.make import make_analyzer
    from emo_llama_ros.options import Options

    # On a picture that counts as the face itself nothing would be measured.
    where = Faces.PAD if dataset.cropped else Faces.DETECT
    return MeasuredWriter(make_analyzer(Options()), where, Options())
