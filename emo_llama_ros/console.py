"""Start the `emo_llama` command: Ctrl-C ends it without a traceback while it is still being imported, too."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line of this process and exit with its code, 130 after Ctrl-C; see `cli.main`."""
    try:
        from emo_llama_ros.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)
