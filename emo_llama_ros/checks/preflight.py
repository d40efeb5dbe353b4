"""What can be said about a choice of options before anything is loaded: the first thing that stands in its way."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

from emo_llama_ros import calibration
from emo_llama_ros.backends.registry import declaration
from emo_llama_ros.checks.extras import require_for
from emo_llama_ros.errors import BadParameter, MissingDependency, MissingModel
from emo_llama_ros.faces.make import analyzer_declaration
from emo_llama_ros.install.fetch import model_file
from emo_llama_ros.options import Options

_RESTRICTED_CONTEXTS = ("workplace", "education")


def check_ready(options: Options) -> None:
    """Raise BadParameter, MissingDependency or MissingModel in one sentence when the options cannot or must not run."""
    check_context(options)
    check_converter(options)
    require_for(options)
    check_networks(options)
    check_files(options)


def check_context(options: Options) -> None:
    """Refuse to read emotions at work or in education without a medical or safety reason (EU AI Act, Art. 5(1)(f))."""
    if options.deployment_context in _RESTRICTED_CONTEXTS and not options.medical_or_safety_reason.strip():
        raise BadParameter(
            f"deployment_context is '{options.deployment_context}', where inferring emotions is prohibited in the EU "
            "but for medical or safety reasons: state yours in medical_or_safety_reason, or do not run this node."
        )


def check_converter(options: Options) -> None:
    """Raise MissingDependency when cv_bridge is demanded and not installed; whether it is healthy takes longer."""
    if options.image_converter == "cv_bridge" and importlib.util.find_spec("cv_bridge") is None:
        raise MissingDependency(
            "image_converter is cv_bridge, which is not installed: install ros-<distro>-cv-bridge with apt, or set "
            "image_converter to auto."
        )


def check_networks(options: Options) -> None:
    """Raise MissingModel naming the first network that the analyzer reads and that was not fetched."""
    if options.models_folder:
        _is(Path.is_dir, "models_folder", options.models_folder)
    for name in analyzer_declaration(options).networks:
        model_file(name, options.models_folder)


def check_files(options: Options) -> None:
    """Raise MissingModel naming the first file or folder that is not where the options say."""
    folder = analyzer_declaration(options).folder
    if folder:
        _folder(folder, getattr(options, folder))
    if options.expression_model:
        _file("expression_model", options.expression_model)
    if options.expression_labels:
        _file("expression_labels", options.expression_labels)
    if options.calibration_file:
        _file("calibration_file", options.calibration_file)
        _calibration(Path(options.calibration_file).expanduser())
    if options.model_path and "model_path" in declaration(options).options:
        _folder("model_path", options.model_path, "; make one with `emo_llama convert` or `emo_llama train`")


def _calibration(path: Path) -> None:
    """Refuse what is no calibration file at all; whether it fits the model's labels shows when the model is loaded."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise BadParameter(f"calibration_file is '{path}', which cannot be read as JSON: {error}.") from None
    if not isinstance(content, dict) or content.get("format") != calibration.FORMAT:
        raise BadParameter(f"calibration_file is '{path}', whose format is not '{calibration.FORMAT}'.")


def _folder(name: str, path: str, advice: str = "") -> None:
    if not path:
        raise MissingModel(f"The parameter {name} is empty: set it to the folder of the model.")
    if not _is(Path.is_dir, name, path):
        raise MissingModel(f"{name} is '{path}', but there is no such folder{advice}.")


def _file(name: str, path: str) -> None:
    if not _is(Path.is_file, name, path):
        raise MissingModel(f"{name} is '{path}', but there is no such file.")


def _is(kind: Callable[[Path], bool], name: str, path: str) -> bool:
    try:
        return kind(Path(path).expanduser())
    except (OSError, RuntimeError, ValueError) as error:  # too long, a user that does not exist, a zero byte
        raise BadParameter(f"{name} cannot be a path: {error}.") from None
