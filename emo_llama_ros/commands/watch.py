"""`emo_llama watch`: what a running node says, as it says it."""

from __future__ import annotations

from typing import Annotated

import typer


def watch(
    topic: Annotated[str, typer.Option(help="Topic of the estimates, as /left/emotion.")] = "/emotion",
) -> None:
    """Show each person's label, confidence and whole reasoning, of any node that runs, until Ctrl-C.

    In a pipe or a file: one line per message. `ros2 topic echo` cuts texts at 128 characters unless given -f.
    """
    from emo_llama_ros.ros.required import require_ros
    from emo_llama_ros.ros.until_interrupted import until_interrupted

    with until_interrupted() as over:
        require_ros()
        from emo_llama_ros.ros.watch import watch as run

        run("/" + topic.strip("/"), over)
