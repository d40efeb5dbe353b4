"""`emo_llama train` without the command line's own needs, for `accelerate launch -m emo_llama_ros.training RECIPE`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from emo_llama_ros.errors import EmoError


def main() -> int:
    """Train a recipe; print where the result lies."""
    parser = argparse.ArgumentParser(prog="emo_llama_ros.training", description=__doc__)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--output", type=Path, help="folder for everything the run makes; default: the recipe's")
    parser.add_argument("--data", default="", help="FER+, for the recipe of emo-eyes")
    parser.add_argument("--smoke", action="store_true", help="run all of it in miniature")
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint")
    arguments = parser.parse_args()
    from emo_llama_ros.training.start import start

    try:
        said = start(
            arguments.recipe, arguments.output, data=arguments.data, smoke=arguments.smoke, resume=arguments.resume
        )
    except EmoError as error:
        print(f"emo_llama: {error}", file=sys.stderr)
        return 1
    print(said)
    return 0


if __name__ == "__main__":
    sys.exit(main())
