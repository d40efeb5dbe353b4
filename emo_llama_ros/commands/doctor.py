"""`emo_llama doctor`: what is fine, what is not, what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def doctor(
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Check with this parameter.")
    ] = None,
    seconds: Annotated[float, typer.Option(help="How long to look for cameras.", min=0.0)] = 2.0,
    model: Annotated[
        Path | None, typer.Option(help="Check this EMO-LLaMA checkpoint alone: what it is, what it needs, if it fits.")
    ] = None,
) -> None:
    """Check Python, ROS, DDS, GPU, model files and cameras; exit code 1 when something must be repaired."""
    from rich.console import Console

    from emo_llama_ros.checks.machine import core_findings
    from emo_llama_ros.errors import MissingDependency
    from emo_llama_ros.findings import Finding, Level
    from emo_llama_ros.options import Options, parse
    from emo_llama_ros.ros.required import require_ros

    console = Console(highlight=False, soft_wrap=True)
    colours = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "red"}
    worst = Level.OK

    def say(finding: Finding) -> None:
        nonlocal worst
        worst = max(worst, finding.level, key=list(Level).index)
        console.print(f"[{colours[finding.level]}]{finding.level.value:4}[/]", end="  ")
        console.print(f"{finding.subject}: {finding.found}", markup=False)
        if finding.advice:
            console.print(f"      → {finding.advice}", markup=False)

    options = Options().with_values(dict(parse(setting) for setting in settings or ()))
    if model is not None:
        from emo_llama_ros.checks.extras import require

        require("Looking into a checkpoint", "model")
        from emo_llama_ros.model.inspection import model_report

        for finding in model_report(model, options.device, options.quantization, options.dtype):
            say(finding)
        if worst is Level.FAIL:
            raise typer.Exit(1)
        return
    for finding in core_findings(options):
        say(finding)
    try:
        require_ros()
        from emo_llama_ros.ros.graph import ros_findings

        for finding in ros_findings(options, seconds):
            say(finding)
    except MissingDependency as error:
        say(Finding(Level.FAIL, "ROS 2", str(error)))
    except Exception as error:  # a broken installation raises anything; that is what is looked for here
        found = f"{type(error).__name__}: {' '.join(str(error).split())}"
        say(Finding(Level.FAIL, "ROS 2", found, "install ROS 2 anew, or `make setup` in the repository"))
    if worst is Level.FAIL:
        raise typer.Exit(1)
