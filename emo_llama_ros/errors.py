"""The errors an operator may meet. Each message is one sentence: what is wrong and what to do."""

from __future__ import annotations

import os

DEBUG_VARIABLE = "EMO_LLAMA_DEBUG"


def traceback_wanted() -> bool:
    """Return whether the user asked to see tracebacks, by `emo_llama --debug` or DEBUG_VARIABLE."""
    return os.environ.get(DEBUG_VARIABLE, "0") not in ("", "0")


class EmoError(Exception):
    """Base of all errors whose message is written for the operator, not for the debugger."""


class BadImage(EmoError):
    """An image message cannot be turned into pixels: wrong size, step or encoding, or a corrupt payload."""


class BadRecording(EmoError):
    """A bag, video or picture file cannot be read or written."""


class BadParameter(EmoError):
    """A parameter is unknown, of the wrong type, or out of its range."""


class BadData(EmoError):
    """A dataset folder or a file of training records is not laid out as its format says."""


class MissingModel(EmoError):
    """A model file is not where it should be, or is not the file it should be."""


class BadCheckpoint(EmoError):
    """A checkpoint has a missing, unexpected or misshapen tensor, or a wrong checksum."""


class OutOfMemory(EmoError):
    """A model does not fit into the memory that is free, before or while it runs."""


class MissingDependency(EmoError):
    """A Python package that this feature needs is not installed; the message names the extra that brings it."""
