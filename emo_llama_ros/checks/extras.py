"""Which packages of pip's extras a piece of work needs, said before it starts."""

from __future__ import annotations

import importlib.util

from emo_llama_ros.backends.registry import declaration
from emo_llama_ros.errors import MissingDependency
from emo_llama_ros.faces.make import analyzer_declaration
from emo_llama_ros.options import Options

# Modules as they are imported, by the extra of pyproject.toml that brings them.
_MODULES = {
    "model": ("torch", "transformers", "tokenizers", "accelerate", "peft", "safetensors", "sentencepiece"),
    "quantized": ("bitsandbytes",),
    "metrics": ("sklearn",),
    "endpoint": ("openai",),
    "insightface": ("insightface",),
}
_EXTRAS = {"quantized": "model", "metrics": "train", "endpoint": "train"}
_PACKAGES = {"sklearn": "scikit-learn"}


def require(what: str, *needs: str, instead: str = "") -> None:
    """Raise MissingDependency, naming packages and the extra that brings them, when `what` cannot be done.

    `needs` are model, quantized, metrics, endpoint or insightface; `instead` says what else can be done. Nothing
    is imported.
    """
    missing: dict[str, list[str]] = {}
    for need in needs:
        for module in _MODULES[need]:
            if importlib.util.find_spec(module) is None:
                missing.setdefault(_EXTRAS.get(need, need), []).append(_PACKAGES.get(module, module))
    if missing:
        packages = ", ".join(dict.fromkeys(name for names in missing.values() for name in names))
        choice = f", or {instead}" if instead else ""
        raise MissingDependency(
            f"{what} needs {packages}, not installed here: pip install 'emo_llama_ros[{','.join(missing)}]'{choice}."
        )


def require_for(options: Options) -> None:
    """Raise MissingDependency when what the options choose needs packages that are not installed."""
    declared = declaration(options)
    if declared.extra:
        require(f"The backend {declared.name}", declared.extra, instead="set backend to expression")
    if "quantization" in declared.options and options.quantization in ("nf4", "int8"):
        require(f"quantization {options.quantization}", "quantized", instead="set quantization to none")
    if options.expression_model and importlib.util.find_spec("onnxruntime") is None:
        raise MissingDependency("expression_model needs onnxruntime, not installed here: pip install onnxruntime.")
    analyzer = analyzer_declaration(options)
    if analyzer.extra:
        require(f"The {analyzer.name} analyzer", analyzer.extra, instead=f"set analyzer to {Options().analyzer}")
