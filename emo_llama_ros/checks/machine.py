"""What is fine on this machine, what is not, and what to do: everything that can be said without ROS."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from emo_llama_ros.backends.emo_llama import DECLARATION as EMO_LLAMA
from emo_llama_ros.checks.preflight import check_context, check_files, check_networks
from emo_llama_ros.errors import EmoError
from emo_llama_ros.faces.make import analyzer_declaration
from emo_llama_ros.findings import Finding, Level
from emo_llama_ros.options import Options

_OLDEST_PYTHON = (3, 10)
_SHARED_MEMORY = Path("/dev/shm")
_SHARED_MEMORY_NEED = 128 << 20
"""Two processes with the shipped Fast DDS profile, and room."""
_MEMORY_NEED = 1 << 30


def core_findings(options: Options) -> Iterator[Finding]:
    """Look at everything that needs no ROS, cheapest first. A look that fails is a finding too."""
    looks: tuple[tuple[str, Callable[[], Finding]], ...] = (
        ("Python", _python),
        ("numpy", lambda: _package("numpy")),
        ("opencv", lambda: _package("opencv", "cv2", "opencv-python-headless")),
        ("ai-edge-litert", lambda: _package("ai-edge-litert", "ai_edge_litert")),
        ("face networks", lambda: _networks(options)),
        *([("expression network", lambda: _expression_model(options))] if options.expression_model else []),
        ("parameters", lambda: _parameters(options)),
        ("image converter", lambda: _converter(options)),
        ("language model", _language_model),
        ("memory", _memory),
        ("shared memory", _shared_memory),
    )
    for subject, look in looks:
        try:
            yield look()
        except Exception as error:  # a broken installation raises anything; that is what is looked for here
            found = f"{type(error).__name__}: {' '.join(str(error).split())}"
            yield Finding(Level.FAIL, subject, found, "install it anew: pip install --force-reinstall emo_llama_ros")


def _python() -> Finding:
    found = f"{platform.python_version()} in {sys.prefix}"
    if sys.version_info < _OLDEST_PYTHON:
        return Finding(Level.FAIL, "Python", found, "use Python 3.10 or newer")
    return Finding(Level.OK, "Python", found)


def _package(name: str, module: str = "", distribution: str = "") -> Finding:
    if importlib.util.find_spec(module or name) is None:
        return Finding(Level.FAIL, name, "not installed", f"pip install {distribution or name}")
    for candidate in (distribution, name):
        try:
            return Finding(Level.OK, name, importlib.metadata.version(candidate))
        except (importlib.metadata.PackageNotFoundError, ValueError):
            continue
    return Finding(Level.OK, name, "installed by the system")


def _networks(options: Options) -> Finding:
    try:
        check_networks(options)
    except EmoError as error:
        return Finding(Level.FAIL, "face networks", str(error), "run `emo_llama fetch`")
    count = len(analyzer_declaration(options).networks)
    return Finding(Level.OK, "face networks", f"{count} files, checksums right")


def _parameters(options: Options) -> Finding:
    """Look for what would refuse `configure`, beside the networks."""
    try:
        check_context(options)
        check_files(options)
    except EmoError as error:
        return Finding(Level.FAIL, "parameters", str(error), "give other values with --set, and to the node")
    return Finding(Level.OK, "parameters", "the node can be configured with them")


def _expression_model(options: Options) -> Finding:
    """Load the user's network, and look at what it makes of the sample faces."""
    from emo_llama_ros.faces.make import build_analyzer
    from emo_llama_ros.faces.reader import make_expression_reader
    from emo_llama_ros.faces.sample_check import label_disagreement

    try:
        notes = getattr(make_expression_reader(options), "notes", ())
        doubt = label_disagreement(build_analyzer(options))
    except EmoError as error:
        return Finding(Level.FAIL, "expression network", str(error))
    if doubt:
        return Finding(Level.WARN, "expression network", doubt)
    return Finding(Level.OK, "expression network", " ".join([f"{options.expression_model}.", *notes]))


def _converter(options: Options) -> Finding:
    from emo_llama_ros.images.converter import make_converter

    try:
        converter = make_converter(options)
    except EmoError as error:
        return Finding(Level.FAIL, "image converter", str(error), "set image_converter to auto")
    return Finding(Level.OK, "image converter", f"{converter.name}. {converter.reason}")


def _language_model() -> Finding:
    """Look for what the backend emo_llama needs; the expression backend runs without any of it."""
    missing = [name for name in EMO_LLAMA.packages if importlib.util.find_spec(name) is None]
    if missing:
        return Finding(
            Level.WARN, "language model", f"{', '.join(missing)} not installed, so only the expression backend works",
            "pip install 'emo_llama_ros[model]', or set backend to expression",
        )  # fmt: skip
    import torch

    versions = f"torch {torch.__version__}"
    if importlib.util.find_spec("bitsandbytes") is not None:
        versions += f", bitsandbytes {importlib.metadata.version('bitsandbytes')}"
    if not torch.cuda.is_available():
        return Finding(Level.OK, "language model", f"{versions}; no CUDA GPU, models run on the CPU")
    free, total = torch.cuda.mem_get_info()
    gpu = f"{torch.cuda.get_device_name()}, {free / 1e9:.1f} of {total / 1e9:.1f} GB free"
    return Finding(Level.OK, "language model", f"{versions}; {gpu}")


def _memory() -> Finding:
    import psutil

    free = psutil.virtual_memory().available
    found = f"{free / 1e9:.1f} GB free, {os.cpu_count()} CPU cores"
    if free < _MEMORY_NEED:
        return Finding(Level.WARN, "memory", found, "close other programs: the node and its worker want 1 GB")
    return Finding(Level.OK, "memory", found)


def _shared_memory() -> Finding:
    if not _SHARED_MEMORY.is_dir():
        return Finding(Level.WARN, "shared memory", f"no {_SHARED_MEMORY}", "Fast DDS then sends images over UDP")
    free = shutil.disk_usage(_SHARED_MEMORY).free
    found = f"{free / 1e6:.0f} MB free in {_SHARED_MEMORY}"
    if free < _SHARED_MEMORY_NEED:
        advice = "large images will be lost: in Docker start with --shm-size=512m or --ipc=host"
        return Finding(Level.WARN, "shared memory", found, advice)
    return Finding(Level.OK, "shared memory", found)
