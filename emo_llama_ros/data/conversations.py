"""Conversation items: free questions and answers about a labelled face, from a vision model or from measurements.

The output file grows by one line per finished item, so an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emo_llama_ros.data.category import record_id, record_path
from emo_llama_ros.data.datasets import Sample, sample_frames
from emo_llama_ros.data.records import Record, read_records
from emo_llama_ros.data.writer import ItemFailed, Usage, Writer, WriterUnusable
from emo_llama_ros.errors import BadData

GIVE_UP_AFTER = 20
"""So many failures in a row mean that the writer is down, not that the items are bad."""


@dataclass(slots=True)
class Progress:
    """Counters of a run."""

    written: int = 0
    skipped: int = 0
    """Items that an earlier run has written."""
    failed: int = 0
    usage: Usage = field(default_factory=Usage)

    def cost(self, prompt_price: float, completion_price: float) -> float:
        """Return the money spent, from prices per million tokens."""
        return (self.usage.prompt_tokens * prompt_price + self.usage.completion_tokens * completion_price) / 1e6


def write_conversations(
    samples: Iterable[Sample],
    out: str | Path,
    writer: Writer,
    *,
    concurrency: int = 4,
    frames: int = 4,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Progress:
    """Write one conversation record per sample to the `.jsonl` file `out`, asking `concurrency` at a time.

    A video is shown as `frames` frames. Items already in `out` are skipped; failed ones are appended with their
    reason to `OUT.failed.jsonl` and tried again by the next run. Raises EmoError when the writer cannot be used.
    """
    out = Path(out)
    if out.suffix != ".jsonl":
        raise BadData(f"Conversations are appended one by one: name a .jsonl file, not {out.name}.")
    out.parent.mkdir(parents=True, exist_ok=True)
    run = _Run(out, writer, frames, on_progress)
    return asyncio.run(run.all(iter(samples), concurrency))


def failures_path(out: Path) -> Path:
    """Return the file that lists failed items."""
    return out.with_name(out.stem + ".failed.jsonl")


class _Run:
    def __init__(self, out: Path, writer: Writer, frames: int, on_progress: Callable[[Progress], None]) -> None:
        self._out = out
        self._writer = writer
        self._frames = frames
        self._on_progress = on_progress
        self._progress = Progress()
        self._in_a_row = 0

    async def all(self, samples: Iterator[Sample], concurrency: int) -> Progress:
        _drop_cut_off_line(self._out)
        done = {record.id for record in read_records(self._out)} if self._out.exists() else set()
        failures_path(self._out).unlink(missing_ok=True)
        workers = [asyncio.create_task(self._work(samples, done)) for _ in range(concurrency)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            await self._writer.close()
        return self._progress

    async def _work(self, samples: Iterator[Sample], done: set[str]) -> None:
        for sample in samples:
            name = record_id(sample)
            if name in done:
                self._progress.skipped += 1
            else:
                done.add(name)
                await self._write(sample, name)
            self._on_progress(self._progress)

    async def _write(self, sample: Sample, name: str) -> None:
        try:
            frames = await asyncio.to_thread(sample_frames, sample, self._frames)
            turns, usage = await self._writer.converse(frames, sample.label)
        except (ItemFailed, BadData) as error:
            self._fail(name, error)
            return
        record = Record(
            id=name,
            medium="image" if sample.is_image else "video",
            path=record_path(sample, self._out.parent),
            turns=turns,
            kind="conversation",
            label=sample.label,
            dataset=sample.dataset,
            split=sample.split,
            fold=sample.fold,
        )
        _append(self._out, record.to_json())
        self._progress.written += 1
        self._progress.usage += usage
        self._in_a_row = 0

    def _fail(self, name: str, error: Exception) -> None:
        _append(failures_path(self._out), {"id": name, "reason": str(error)})
        self._progress.failed += 1
        if isinstance(error, ItemFailed):
            self._progress.usage += error.usage
            self._in_a_row += 1
        if self._in_a_row >= GIVE_UP_AFTER:
            raise WriterUnusable(f"{self._in_a_row} items failed in a row, the last with: {error}")


def _append(path: Path, entry: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry, ensure_ascii=False) + "\n")


def _drop_cut_off_line(path: Path) -> None:
    """Remove the half line that a killed run may have left at the end."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)
