"""What a run shows and leaves behind: a progress bar, a JSON log, a plot."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

LOG_NAME = "log.jsonl"
PLOT_NAME = "training.png"


class ProgressBar(TrainerCallback):
    """A `rich` bar with step, loss, accuracy and time left; drawn by the first process only."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._bar: Any = None
        self._task: Any = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Open the bar at the step where the run starts or resumes."""
        if not state.is_world_process_zero:
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(None),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}"),
        )
        self._task = self._bar.add_task(self._title, total=state.max_steps, completed=state.global_step, figures="")
        self._bar.start()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.update(self._task, completed=state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Show the newest figures; on a terminal that is no terminal, print them as a line."""
        if self._bar is None or not logs:
            return
        shown = ("loss", "token_accuracy", "eval_loss", "eval_label_accuracy")
        figures = "  ".join(f"{name} {logs[name]:.3f}" for name in shown if name in logs)
        if not figures:
            return
        self._bar.update(self._task, figures=figures)
        if not self._bar.console.is_terminal:
            line = f"{self._title} {state.global_step}/{state.max_steps}  {figures}"
            self._bar.console.print(line, markup=False, soft_wrap=True)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.stop()


class JsonLog(TrainerCallback):
    """One JSON object per logged step: stage, step, epoch, seconds since start, and every figure of the trainer."""

    def __init__(self, path: Path, stage: str) -> None:
        self._path = path
        self._stage = stage
        self._start = time.monotonic()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Append a line."""
        if state.is_world_process_zero and logs:
            append(self._path, {"stage": self._stage, "step": state.global_step, "epoch": state.epoch, **logs}
                   | {"seconds": round(time.monotonic() - self._start, 2)})  # fmt: skip


def append(path: Path, entry: Mapping[str, Any]) -> None:
    """Write one object as a line at the end of a JSON-lines file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as log:
        log.write(json.dumps(entry, allow_nan=True) + "\n")


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a JSON-lines file."""
    return [json.loads(line) for line in path.read_text().splitlines() if line]


def plot(entries: Iterable[Mapping[str, Any]], path: Path) -> None:
    """Draw loss and accuracy over the steps of all stages into a PNG."""
    from matplotlib.figure import Figure

    from emo_llama_ros.recordings.captions import letters_of_any_script

    figure = Figure(figsize=(9, 4), layout="constrained")
    loss_axis, accuracy_axis = figure.subplots(1, 2)
    accuracies = ("token_accuracy", "eval_token_accuracy", "eval_label_accuracy", "eval_accuracy", "eval_uar")
    axes = {"loss": loss_axis, "eval_loss": loss_axis} | dict.fromkeys(accuracies, accuracy_axis)
    entries = list(entries)
    stages = list(dict.fromkeys(e["stage"] for e in entries if "stage" in e))
    offset = 0
    for stage in stages:
        of_stage = [e for e in entries if e.get("stage") == stage]
        for key, axis in axes.items():
            points = [(offset + e["step"], e[key]) for e in of_stage if key in e]
            if points:
                style = "--o" if key.startswith("eval") else "-"
                axis.plot(*zip(*points, strict=True), style, markersize=3, label=f"{stage}: {key}")
        offset += max((e.get("step", 0) for e in of_stage), default=0)
    for axis, title in ((loss_axis, "loss"), (accuracy_axis, "accuracy")):
        axis.set_xlabel("step")
        axis.set_title(title)
        if axis.has_data():
            axis.legend(fontsize=7)
    with letters_of_any_script():  # a stage may be named in any
        figure.savefig(path, dpi=120)
