"""Every option of the product in one table: name, default, range, unit, meaning.

The ROS parameters, config/emo.yaml, the command line and the README table all come from this dataclass, so a name, a
bound or a default stands in one place. `Options` is frozen: a changed option makes a new object.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from typing import Any

from emo_llama_ros.errors import BadParameter
from emo_llama_ros.labels import LABEL_SETS


@dataclass(frozen=True, slots=True)
class Spec:
    """What may be put into one option."""

    name: str
    group: str
    type: type
    default: Any
    description: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    live: bool = False
    """True when a change takes effect at once; otherwise the node must be configured again."""


def _option(default: Any, description: str, **spec: Any) -> Any:
    return field(default=default, metadata={"description": description, **spec})


@dataclass(frozen=True, slots=True)
class Options:
    """All options with their defaults. Build one with `from_mapping`, which checks names, types and ranges."""

    # --- camera ---
    image_topic: str = _option("camera/image_raw", "Camera topic; relative names follow the node's namespace.")
    image_transport: str = _option(
        "raw", "'raw' reads image_topic, 'compressed' reads image_topic/compressed.", choices=("raw", "compressed")
    )
    image_converter: str = _option(
        "auto", "Who turns image messages into pixels; 'auto' takes cv_bridge where it is installed and healthy.",
        choices=("auto", "cv_bridge", "builtin"),
    )  # fmt: skip
    input_reliability: str = _option(
        "auto", "QoS of the camera subscription: 'auto' asks for what the camera's publishers offer, best_effort "
        "receives from every camera, reliable loses fewer large images and refuses best-effort cameras.",
        choices=("auto", "best_effort", "reliable"),
    )  # fmt: skip
    max_image_megapixels: float = _option(50.0, "Larger images are refused.", unit="Mpx", low=0.01, high=100.0)
    camera_timeout_s: float = _option(2.0, "Warn when no frame came for this long.", unit="s", low=0.1, high=60.0)
    enabled: bool = _option(True, "False drops every frame before it is decoded (privacy switch).", live=True)
    deployment_context: str = _option(
        "research", "Where the robot works. Inferring emotions at work or in education is prohibited in the EU "
        "(AI Act, Art. 5) but for medical or safety reasons: those two need medical_or_safety_reason.",
        choices=("research", "home", "care_medical", "public", "workplace", "education"),
    )  # fmt: skip
    medical_or_safety_reason: str = _option("", "Why emotions are read at work or in education; shown in diagnostics.")

    # --- faces ---
    analyzer: str = _option(
        "embedded", "'embedded' uses the small networks of `emo_llama fetch`, 'insightface' a local model pack.",
        choices=("embedded", "insightface"),
    )  # fmt: skip
    models_folder: str = _option("", "Folder with the fetched networks; empty uses the user's cache.")
    insightface_folder: str = _option("", "Folder with an insightface model pack (non-commercial licence).")
    expression_operating_point: float = _option(
        0.5, "Where emo-eyes answers: 1 follows how often displays occur in everyday pictures and is right most often, "
        "0 takes all for equally likely and finds disgust and fear more often. The probabilities stay calibrated.",
        low=-0.5, high=1.0,
    )  # fmt: skip
    expression_model: str = _option("", "ONNX expression classifier to use instead of emo-eyes.")
    expression_labels: str = _option("", "Text file with one label per line, in the order of the ONNX outputs.")
    analysis_rate_hz: float = _option(
        10.0, "Frames per second in which faces are looked for; other frames are skipped undecoded.",
        unit="Hz", low=1.0, high=60.0,
    )  # fmt: skip
    search_rate_hz: float = _option(
        2.0, "While somebody is followed, the whole image is searched for others this often; known faces are looked "
        "for where they were, in every frame. Where nobody is followed, or somebody was lost, every frame is searched.",
        unit="Hz", low=0.1, high=60.0,
    )  # fmt: skip
    max_faces: int = _option(8, "At most this many people are followed, the largest faces first.", low=1, high=64)
    min_face_px: int = _option(36, "Narrower faces are LOW_QUALITY.", unit="px", low=8, high=1000)
    max_yaw_deg: float = _option(35.0, "Faces turned further are LOW_QUALITY.", unit="deg", low=5.0, high=90.0)
    max_pitch_deg: float = _option(25.0, "Faces tilted further are LOW_QUALITY.", unit="deg", low=5.0, high=90.0)
    track_memory_s: float = _option(
        1.0, "A face that is hidden for less than this keeps its face_id.", unit="s", low=0.0, high=30.0
    )

    # --- clips ---
    clip_s: float = _option(2.0, "Length of the time window the model looks at.", unit="s", low=0.1, high=30.0)
    clip_frames: int = _option(8, "Frames of one clip, spread evenly over the window.", low=1, high=64)
    clip_min_s: float = _option(
        0.5,
        "A new person gets a first estimate when seen for this long; of a slower camera, at once.",
        unit="s",
        low=0.0,
        high=30.0,
    )
    max_gap_s: float = _option(
        1.0,
        "A longer gap between frames, or a clock that jumps back, empties the windows; of a slower camera, a gap "
        "longer than 2.5 of its intervals.",
        unit="s",
        low=0.1,
        high=60.0,
    )

    # --- scheduling ---
    label_rate_hz: float = _option(2.0, "Estimates per second for each person.", unit="Hz", low=0.01, high=30.0)
    max_rate_hz: float = _option(
        0.0,
        "Estimates per second for all people together; 0 sets no limit.",
        unit="Hz",
        low=0.0,
        high=1000.0,
        live=True,
    )
    max_age_s: float = _option(
        1.5, "A clip whose newest frame is older than this is dropped and counted.", unit="s", low=0.05, high=600.0
    )
    reasoning: bool = _option(True, "Publish a FINAL estimate with the model's reasoning after the label.", live=True)
    reasoning_rate_hz: float = _option(
        0.5,
        "Reasonings per second for each person, at most; one that is preempted does not count.",
        unit="Hz",
        low=0.01,
        high=30.0,
    )
    on_demand: bool = _option(False, "Stay silent and answer only the ask action.", live=True)
    skip_unchanged: float = _option(
        0.0, "Skip a clip whose face changed less than this mean pixel difference since the last one; 0 never skips.",
        low=0.0, high=1.0,
    )  # fmt: skip

    # --- model ---
    backend: str = _option(
        "emo_llama", "What reads the clips: a language model, or the expression network alone.",
        choices=("emo_llama", "expression"),
    )  # fmt: skip
    model_path: str = _option(
        "", "Folder of an EMO-LLaMA checkpoint (made by `emo_llama convert` or `train`); empty takes the shipped "
        "emo-llama-nano.",
    )  # fmt: skip
    quantization: str = _option(
        "auto", "Weights of the language model; 'auto' keeps the checkpoint's own, NF4 for a 7B.",
        choices=("auto", "none", "nf4", "int8"),
    )  # fmt: skip
    device: str = _option("auto", "Where the model runs: auto, cpu, cuda or cuda:N.")
    dtype: str = _option(
        "auto", "Number format of unquantized weights.", choices=("auto", "float32", "bfloat16", "float16")
    )
    performance: str = _option(
        "auto", "'auto' measures the decode paths at start and takes the fastest; 'plain' takes none.",
        choices=("auto", "plain", "compile"),
    )  # fmt: skip
    label_set: str = _option("raf-db", "Closed set of labels.", choices=tuple(LABEL_SETS))
    calibration_file: str = _option("", "JSON with temperature or vector scaling; empty uses the model's own, if any.")
    min_confidence: float = _option(
        0.4, "Below this calibrated probability the status is LOW_CONFIDENCE.", low=0.0, high=1.0, live=True
    )
    max_reasoning_tokens: int = _option(96, "Reasoning stops at this length.", unit="tokens", low=1, high=1024)
    agr_prompt: bool = _option(
        False, "Tell the model apparent age, gender and race (ablation only; legally restricted)."
    )

    # --- worker ---
    worker: str = _option(
        "process", "'process' runs the model side in a process of its own, which may crash and is restarted.",
        choices=("process", "in_process"),
    )  # fmt: skip
    worker_nice: int = _option(10, "Niceness of the worker process.", low=0, high=19)
    worker_threads: int = _option(0, "CPU threads of the model; 0 leaves one core to the camera.", low=0, high=256)
    worker_timeout_s: float = _option(
        30.0, "A worker silent for this long while it has work is restarted.", unit="s", low=1.0, high=3600.0
    )
    worker_max_restarts: int = _option(3, "Give up after this many restarts within a minute.", low=0, high=100)

    # --- output ---
    overlay: bool = _option(False, "Publish ~/overlay: the camera image with boxes and labels drawn in.", live=True)
    seed: int = _option(
        0, "0 draws random face ids in each session; replay and tests set another number.", low=0, high=2**31 - 1
    )

    def with_values(self, values: Mapping[str, Any]) -> Options:
        """Return a copy with checked `values`; raise BadParameter naming the first value that is not allowed."""
        return replace(self, **{name: check(name, value) for name, value in values.items()})


def specs() -> dict[str, Spec]:
    """Return the specification of every option, in the order of the table."""
    return dict(_SPECS)


def check(name: str, value: Any) -> Any:
    """Return `value` in the option's own type; raise BadParameter when name, type or range is wrong."""
    spec = _SPECS.get(name)
    if spec is None:
        raise BadParameter(unknown_option(name))
    if spec.type is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not spec.type:
        raise BadParameter(f"Parameter '{name}' must be a {spec.type.__name__}, not {value!r}.")
    if spec.choices and value not in spec.choices:
        raise BadParameter(f"Parameter '{name}' must be one of {', '.join(spec.choices)}, not '{value}'.")
    if isinstance(value, (int, float)) and not _within(value, spec.low, spec.high):
        unit = f" {spec.unit}" if spec.unit else ""
        raise BadParameter(f"Parameter '{name}' must be between {spec.low:g} and {spec.high:g}{unit}, not {value:g}.")
    return value


def unknown_option(name: str, more: Iterable[str] = ()) -> str:
    """Return the sentence that refuses a name, with the nearest option, or one of `more` names, that was meant."""
    (nearest, *_) = (*get_close_matches(name.lower(), [*_SPECS, *more], 1, 0.6), "")
    return f"There is no parameter '{name}'{f'; did you mean {nearest!r}?' if nearest else '.'}"


def parse(setting: str) -> tuple[str, Any]:
    """Return the checked (name, value) of a "name=value" typed by a person; raise BadParameter like `check`."""
    name, equals, text = (part.strip() for part in setting.partition("="))
    if not equals:
        raise BadParameter(f"'{setting}' sets nothing; write NAME=VALUE.")
    return name, value_of(name, text)


def value_of(name: str, text: str) -> Any:
    """Return the checked value of an option that a person typed as `text`; raise BadParameter like `check`."""
    spec = _SPECS.get(name)
    value: Any = text
    if spec is not None and spec.type is bool:
        value = _BOOLS.get(text.lower(), text)
    elif spec is not None and spec.type is not str:
        with suppress(ValueError):  # `check` says what is wrong with a text that is no number
            value = json.loads(text)
    return check(name, value)


def _within(value: float, low: float | None, high: float | None) -> bool:
    # Comparisons with NaN are false, so NaN is within nothing.
    return (low is None or value >= low) and (high is None or value <= high)


# What YAML 1.1, and so ROS 2, takes for true and false.
_BOOLS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_TYPES = {"str": str, "bool": bool, "int": int, "float": float}
_GROUPS = {
    "image_topic": "camera",
    "analyzer": "faces",
    "clip_s": "clips",
    "label_rate_hz": "scheduling",
    "backend": "model",
    "worker": "worker",
    "overlay": "output",
}


def _table() -> dict[str, Spec]:
    table: dict[str, Spec] = {}
    group = ""
    for f in fields(Options):
        group = _GROUPS.get(f.name, group)
        table[f.name] = Spec(f.name, group, _TYPES[str(f.type)], f.default, **f.metadata)
    return table


_SPECS = _table()
