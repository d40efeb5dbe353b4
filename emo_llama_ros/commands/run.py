"""`emo_llama run`: the node of emo.launch.py where launch_ros is not installed, with a camera and a view if wanted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def run(
    context: typer.Context,
    params_file: Annotated[Path | None, typer.Option(help="Parameter file; the shipped emo.yaml if not given.")] = None,
    autostart: Annotated[bool, typer.Option(help="Configure and activate the node at once.")] = True,
    webcam: Annotated[
        str | None,
        typer.Option(
            help="Publish this camera too: its number (0 is the first), its device or stream address, or a video file, "
            "which is repeated."
        ),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show the estimates here, as `emo_llama watch`; the log goes to a file.")
    ] = False,
) -> None:
    """Run emo_llama_node: emo_llama run image_topic:=/camera/image_raw [--ros-args …]

    NAME:=VALUE sets a parameter; namespace, name, params_file, use_sim_time, log_level and autostart say how the node
    is started, as for emo.launch.py. What follows --ros-args goes to ROS as it is.
    """
    from emo_llama_ros.ros.required import require_ros

    require_ros()
    from emo_llama_ros.ros.launch_arguments import node_start, ros_arguments, split
    from emo_llama_ros.ros.process import main

    given, more = list(context.args), []
    if "--ros-args" in given:
        at = given.index("--ros-args")
        given, more = given[:at], given[at + 1 :]
    values = {"autostart": "true" if autostart else "false", **split(given)}
    if params_file is not None:
        values["params_file"] = str(params_file)
    if webcam is None and not watch:
        raise typer.Exit(main(ros_arguments(node_start(values, launched=False), more)))
    from emo_llama_ros.ros.run_with import run_with

    raise typer.Exit(run_with(values, more, webcam, watch))
