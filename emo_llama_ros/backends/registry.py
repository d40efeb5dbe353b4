"""Backends by name."""

from __future__ import annotations

from emo_llama_ros.backends.backend import Backend
from emo_llama_ros.errors import BadParameter
from emo_llama_ros.options import Options


def make_backend(options: Options) -> Backend:
    """Return the backend that `options.backend` names, not yet loaded; raise BadParameter for an unknown name."""
    # Imported here, because a backend may bring torch and the others must not pay for it.
    if options.backend == "expression":
        from emo_llama_ros.backends.expression import ExpressionBackend

        return ExpressionBackend(options)
    if options.backend == "emo_llama":
        from emo_llama_ros.backends.emo_llama import EmoLlamaBackend

        return EmoLlamaBackend(options)
    raise BadParameter(f"There is no backend '{options.backend}'.")
