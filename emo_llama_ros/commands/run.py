"""`emo_llama run`: the node of emo.launch.py where launch_ros is not installed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def run(
    context: typer.Context,
    params_file: Annotated[Path | None, typer.Option(help="Parameter file; the shipped emo.yaml if not given.")] = None,
    autostart: Annotated[bool, typer.Option(help="Configure and activate the node at once.")] = True,
) -> None:
    """Run emo_llama_node: emo_llama run image_topic:=/camera/image_raw [--ros-args …]

    NAME:=VALUE sets a parameter; namespace:= and name:= are the node's. What follows --ros-args goes to ROS as it is.
    """
    from emo_llama_ros.ros.required import require_ros

    require_ros()
    from emo_llama_ros.ros.process import main, ros_arguments

    if params_file is not None and not params_file.is_file():
        raise typer.BadParameter(f"There is no parameter file {params_file}.")
    arguments = ros_arguments(context.args, str(params_file) if params_file else "")
    raise typer.Exit(main([*(["--autostart"] if autostart else []), *arguments]))
