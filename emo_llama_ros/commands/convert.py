"""`emo_llama convert`: a published LLaMA-VID checkpoint becomes one self-describing folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def convert(
    source: Annotated[Path, typer.Argument(help="Checkpoint folder: LLaMA-VID as published, or one of ours.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    adapters: Annotated[
        list[Path] | None, typer.Option(help="Folder of trained adapters to merge; may be given several times.")
    ] = None,
    quantize: Annotated[
        str, typer.Option(help="Write the language model quantized: nf4 or int8; keep leaves it as it is.")
    ] = "keep",
    label_set: Annotated[str, typer.Option(help="Label set the model answers with, for example raf-db.")] = "",
    qformer_vocab: Annotated[
        Path | None, typer.Option(help="vocab.txt of bert-base-uncased, where the source has none.")
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="Folder with the language model's tokenizer, where the source has none.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="config.json of ours for a source that is not of the published sizes.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="auto, bfloat16, float16 or float32, for what is not quantized.")] = "auto",
    device: Annotated[str, typer.Option(help="Where to quantize: auto, cpu, cuda or cuda:N.")] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the folder if it exists.")] = False,
) -> None:
    """Write a checkpoint as one folder with weights, tokenizers, labels, prompts' version and checksums."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    from emo_llama_ros.checks.extras import require

    require("Converting", "model", *(["quantized"] if quantize in ("nf4", "int8") else []))
    from emo_llama_ros.model.configuration import EmoLlamaConfig
    from emo_llama_ros.model.convert import convert as convert_checkpoint
    from emo_llama_ros.model.memory import gigabytes
    from emo_llama_ros.model.shards import find_shards, read_json

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as bar:
        task = bar.add_task("Converting", total=find_shards(source).size)
        result = convert_checkpoint(
            source,
            out,
            adapters=adapters or (),
            quantization=quantize,
            dtype=dtype,
            device=device,
            label_set=label_set,
            qformer_vocab=qformer_vocab,
            tokenizer=tokenizer,
            config=EmoLlamaConfig.from_dict(read_json(config)) if config else None,
            overwrite=overwrite,
            progress=lambda name, count: bar.advance(task, count),
        )
    typer.echo(
        f"Wrote {result.folder}: {result.parameters / 1e6:,.1f} million parameters, quantization "
        f"{result.quantization}, {gigabytes(result.written_bytes)} of weights from "
        f"{gigabytes(result.source_bytes)} in {result.seconds:.0f} s."
    )
