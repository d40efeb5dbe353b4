"""What can be said about a choice of options before anything is loaded: the first thing that stands in its way."""

from __future__ import annotations

from pathlib import Path

from emo_llama_ros.errors import BadParameter, MissingModel
from emo_llama_ros.install.fetch import MODEL_WHEELS, model_file
from emo_llama_ros.options import Options

_RESTRICTED_CONTEXTS = ("workplace", "education")


def check_ready(options: Options) -> None:
    """Raise BadParameter or MissingModel with one sentence when the options cannot or must not be run."""
    check_context(options)
    check_files(options)


def check_context(options: Options) -> None:
    """Refuse to read emotions at work or in education without a medical or safety reason (EU AI Act, Art. 5(1)(f))."""
    if options.deployment_context in _RESTRICTED_CONTEXTS and not options.medical_or_safety_reason.strip():
        raise BadParameter(
            f"deployment_context is '{options.deployment_context}', where inferring emotions is prohibited in the EU "
            "but for medical or safety reasons: state yours in medical_or_safety_reason, or do not run this node."
        )


def check_files(options: Options) -> None:
    """Raise MissingModel naming the first model file that is not where the options say."""
    if options.analyzer == "embedded":
        for wheel in MODEL_WHEELS:
            for member in wheel.files:
                model_file(Path(member).name, options.models_folder)
    if options.analyzer == "insightface":
        _folder("insightface_folder", options.insightface_folder)
    if options.expression_model:
        _file("expression_model", options.expression_model)
    if options.expression_labels:
        _file("expression_labels", options.expression_labels)
    if options.calibration_file:
        _file("calibration_file", options.calibration_file)
    if options.backend == "emo_llama" and options.model_path:
        _folder("model_path", options.model_path, "; make one with `emo_llama convert` or `emo_llama train`")


def _folder(name: str, path: str, advice: str = "") -> None:
    if not path:
        raise MissingModel(f"The parameter {name} is empty: set it to the folder of the model.")
    if not Path(path).expanduser().is_dir():
        raise MissingModel(f"{name} is '{path}', but there is no such folder{advice}.")


def _file(name: str, path: str) -> None:
    if not Path(path).expanduser().is_file():
        raise MissingModel(f"{name} is '{path}', but there is no such file.")
