"""Backends by name."""

from __future__ import annotations

from emo_llama_ros.backends.backend import Backend
from emo_llama_ros.errors import BadParameter, MissingModel
from emo_llama_ros.options import Options


def make_backend(options: Options) -> Backend:
    """Return the backend that `options.backend` names, not yet loaded.

    Raise BadParameter for an unknown name, and MissingModel where the packages that it needs are not installed.
    """
    # Imported here, because a backend may bring torch and the others must not pay for it.
    if options.backend == "expression":
        from emo_llama_ros.backends.expression import ExpressionBackend

        return ExpressionBackend(options)
    if options.backend == "emo_llama":
        try:
            from emo_llama_ros.backends.emo_llama import EmoLlamaBackend
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("emo_llama_ros"):
                raise
            raise MissingModel(
                f"The backend emo_llama needs {error.name}, which is not installed: "
                "pip install 'emo_llama_ros[model]', or set backend to expression."
            ) from None
        return EmoLlamaBackend(options)
    raise BadParameter(f"There is no backend '{options.backend}'.")
