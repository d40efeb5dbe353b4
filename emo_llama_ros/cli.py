"""The `emo_llama` command.

Every subcommand is a function in `emo_llama_ros.commands`. Those modules import nothing heavy at their top, so that
`emo_llama --help` answers at once; `main` turns an EmoError into one sentence on stderr and exit code 1.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from emo_llama_ros import __version__
from emo_llama_ros.commands import data
from emo_llama_ros.commands.bag import bag
from emo_llama_ros.commands.convert import convert
from emo_llama_ros.commands.demo import demo
from emo_llama_ros.commands.doctor import doctor
from emo_llama_ros.commands.evaluate import evaluate
from emo_llama_ros.commands.fetch import fetch
from emo_llama_ros.commands.play import play
from emo_llama_ros.commands.replay import replay
from emo_llama_ros.commands.run import run
from emo_llama_ros.commands.train import train
from emo_llama_ros.commands.watch import watch
from emo_llama_ros.errors import DEBUG_VARIABLE, EmoError, traceback_wanted

app = typer.Typer(
    name="emo_llama",
    help="Displayed facial emotion for robots: EMO-LLaMA as a ROS 2 perception node.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(bag)
app.command()(convert)
app.command()(demo)
app.command()(doctor)
app.command()(fetch)
app.command()(evaluate)
app.command()(play)
app.command()(replay)
app.command()(train)
app.command()(watch)
app.add_typer(data.app, name="data")
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(run)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[
        bool, typer.Option("--debug", help=f"Show the traceback of an error (also {DEBUG_VARIABLE}=1).")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    if debug:
        os.environ[DEBUG_VARIABLE] = "1"  # worker processes inherit it


def main() -> None:
    """Run the command line of this process and exit with its code: 1 after an error, 2 after wrong arguments."""
    try:
        app(prog_name="emo_llama")
    except Exception as error:
        if traceback_wanted():
            raise
        print(f"emo_llama: {_sentence(error)}", file=sys.stderr)
        sys.exit(1)


def _sentence(error: Exception) -> str:
    """Return what to tell a person about an error: its own sentence, or what the system or a library said."""
    if isinstance(error, EmoError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:  # a full disk, a folder without permission
        return f"{error.strerror}: {error.filename}." if error.filename is not None else f"{error.strerror}."
    words = " ".join(str(error).split()).rstrip(".")
    return (
        f"Unexpected {type(error).__name__}{': ' if words else ''}{words}. `emo_llama --debug …` shows where it arose."
    )


if __name__ == "__main__":
    main()
