"""`emo_llama demo`: two real face videos, the real node, real DDS."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the bag, the estimates and the timeline picture.")] = Path(
        "demo"
    ),
) -> None:
    """Play two face videos to a running node over DDS, and show what it publishes."""
    from emo_llama_ros.checks.extras import require_for
    from emo_llama_ros.options import Options
    from emo_llama_ros.ros.required import require_ros

    require_ros()
    require_for(Options())
    from emo_llama_ros.ros.demo import run_demo

    run_demo(out)
