"""Start emo_llama_node, with what must be looked at before rclpy is imported.

Importing rclpy loads the middleware, and rcl ends the whole process when that is not installed. It also takes a second,
in which Ctrl-C would show a traceback.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence

from emo_llama_ros.errors import MissingDependency, traceback_wanted
from emo_llama_ros.ros.environment import one_sentence
from emo_llama_ros.ros.required import require_ros


def main(arguments: Sequence[str] | None = None) -> int:
    """Run emo_llama_node and return its exit code; see `process.main`."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until the node has handlers of its own
    try:
        require_ros()
    except MissingDependency as error:
        print(f"emo_llama_node: {error}", file=sys.stderr)
        return 1
    try:
        from emo_llama_ros.ros import process
    except Exception as error:  # made for another Python, or against another library: compiled modules raise anything
        if traceback_wanted():
            raise
        print(f"emo_llama_node: ROS 2 is installed but cannot be loaded: {one_sentence(error)}", file=sys.stderr)
        return 1
    return process.main(arguments)


if __name__ == "__main__":
    sys.exit(main())
