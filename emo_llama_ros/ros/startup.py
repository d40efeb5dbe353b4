"""Start emo_llama_node, with what must be looked at before rclpy is imported.

Importing rclpy loads the middleware, and rcl ends the whole process when that is not installed. It also takes a second,
in which Ctrl-C would show a traceback.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from emo_llama_ros.errors import MissingDependency
from emo_llama_ros.ros.required import require_ros


def main(arguments: Sequence[str] | None = None) -> int:
    """Run emo_llama_node and return its exit code; see `process.main`."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until the node has handlers of its own
    try:
        require_ros()
    except MissingDependency as error:
        print(f"emo_llama_node: {error}", file=sys.stderr)
        return 1
    from emo_llama_ros.ros import process

    return process.main(arguments)


def one_sentence(error: object) -> str:
    """Return what rcl says about a failure as one line, without the places in its source."""
    text = " ".join(str(error).split())
    text = re.sub(r",? at /?\S+\.(?:c|cpp|h|hpp):\d+", "", text)
    text = re.sub(r"^(?:failed to initialize rcl|Failed to parse ROS arguments): ", "", text)
    if "ROS_DOMAIN_ID" in text:
        return f"ROS_DOMAIN_ID is '{os.environ.get('ROS_DOMAIN_ID', '')}', which is no number from 0 to 232: set one."
    return text.rstrip(". ") + "." if text else type(error).__name__


def log_folder() -> Path:
    """Return where ROS writes its log files."""
    if os.environ.get("ROS_LOG_DIR"):
        return Path(os.environ["ROS_LOG_DIR"]).expanduser()
    home = os.environ.get("ROS_HOME") or os.path.join(os.environ.get("HOME") or os.path.expanduser("~"), ".ros")
    return Path(home).expanduser() / "log"


def can_be_written(folder: Path) -> bool:
    """Make a folder and return whether files can be made in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)


if __name__ == "__main__":
    sys.exit(main())
