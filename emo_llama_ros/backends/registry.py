"""Backends by name: each choice of the option `backend` is a module of this folder with a `DECLARATION`."""

from __future__ import annotations

from importlib import import_module

from emo_llama_ros.backends.backend import Backend, Declaration
from emo_llama_ros.errors import MissingModel
from emo_llama_ros.options import Options


def declaration(options: Options) -> Declaration:
    """Return what the backend that `options.backend` names says of itself; imports nothing heavy."""
    declared: Declaration = import_module(f"emo_llama_ros.backends.{options.backend}").DECLARATION
    return declared


def make_backend(options: Options) -> Backend:
    """Return the backend that `options.backend` names, not yet loaded.

    Raise BadParameter where it does not know `options.label_set`, and MissingModel where the packages that it needs
    are not installed.
    """
    declared = declaration(options)
    try:
        return declared.make(options)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("emo_llama_ros"):
            raise
        raise MissingModel(
            f"The backend {declared.name} needs {error.name}, which is not installed: "
            f"pip install 'emo_llama_ros[{declared.extra}]', or set backend to expression."
        ) from None
