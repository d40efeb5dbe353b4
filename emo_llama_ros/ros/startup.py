"""Start emo_llama_node, with what must be looked at before rclpy is imported.

Importing rclpy loads the middleware, and rcl ends the whole process when that is not installed. It also takes a second,
in which Ctrl-C would show a traceback.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence

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


if __name__ == "__main__":
    sys.exit(main())
