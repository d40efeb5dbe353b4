"""What takes part in an evaluation: backends and ONNX classifiers, as a person names them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from emo_llama_ros.backends.expression import DECLARATION as EXPRESSION
from emo_llama_ros.backends.registry import declaration, make_backend
from emo_llama_ros.checks.extras import require, require_for
from emo_llama_ros.checks.preflight import check_files, check_networks
from emo_llama_ros.data.datasets.clip_source import Faces, face_finder
from emo_llama_ros.errors import BadParameter
from emo_llama_ros.evaluation.evaluate import Entrant
from emo_llama_ros.faces.face import FaceAnalyzer
from emo_llama_ros.images.files import shown
from emo_llama_ros.options import Options, specs

FOLD = "{fold}"
"""Stands in a model path for the number of the fold."""
ONNX = "onnx"
"""Names an ONNX classifier in the place of a backend."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A backend to evaluate: its name in the report, and the options that make it."""

    name: str
    options: Options
    wanted_labels: str = ""
    """Label set that the backend is asked for first; `options.label_set` is the one that it surely has."""


def contenders(names: Sequence[str], model: str, options: Options, dataset_labels: str) -> tuple[Contender, ...]:
    """Return a contender for each "BACKEND", "BACKEND=MODEL_PATH" or "onnx=MODEL[:LABELS]".

    `model` is the path of a backend where none is given. LABELS, the text file with the labels of an ONNX classifier,
    is MODEL with the suffix .txt, or labels.txt beside it, where it is not named. Raises BadParameter for a name that
    stands twice.
    """
    made = []
    for text in names:
        backend, _, path = text.partition("=")
        if backend == ONNX:
            network, labels = _onnx_files(path)
            values = {"backend": EXPRESSION.name, "expression_model": str(network), "expression_labels": str(labels)}
            made.append(Contender(shown(Path(network.stem)), options.with_values(values)))
            continue
        chosen = options.with_values({"backend": backend})
        reads_path = "model_path" in declaration(chosen).options
        chosen = chosen.with_values({"model_path": path or (model if reads_path else "")})
        made.append(Contender(f"{backend}-{shown(Path(Path(path).name))}" if path else backend, chosen, dataset_labels))
    twice = {c.name for c in made if [d.name for d in made].count(c.name) > 1}
    if twice:
        raise BadParameter(f"Two backends have the same name: {', '.join(sorted(twice))}.")
    return tuple(made)


def _onnx_files(text: str) -> tuple[Path, Path]:
    if not text:
        raise BadParameter("Name the network: --backend onnx=MODEL.onnx:LABELS.txt.")
    # A colon may be part of either name: the cut between two files that exist is the one that was meant.
    cuts = [(text[:i], text[i + 1 :]) for i, letter in enumerate(text) if letter == ":"]
    for network, labels in cuts:
        if Path(network).is_file() and Path(labels).is_file():
            return Path(network), Path(labels)
    whole = Path(text)
    if whole.is_file() or not cuts:
        beside = (whole.with_suffix(".txt"), whole.with_name("labels.txt"))
        return whole, next((path for path in beside if path.is_file()), beside[0])
    return Path(cuts[-1][0]), Path(cuts[-1][1])


def check_contenders(made: Sequence[Contender]) -> None:
    """Raise MissingDependency or MissingModel, naming what is missing, before any work is done."""
    if not made:
        raise BadParameter("Name at least one backend to evaluate.")
    require("Evaluation", "metrics")
    for contender in made:
        require_for(contender.options)
        if FOLD not in contender.options.model_path:
            check_networks(contender.options)
            check_files(contender.options)


def fitting_jobs(made: Sequence[Contender]) -> int:
    """Return how many processes pay: one for each core, one alone where a model fills the machine or uses a GPU."""
    for contender in made:
        options = contender.options
        gpu = options.device == "auto" and "device" in declaration(options).options and Path("/dev/nvidiactl").exists()
        if options.model_path or gpu or options.device not in ("auto", "cpu"):
            return 1
    return len(os.sched_getaffinity(0))


@contextmanager
def loaded(made: Sequence[Contender], faces: Faces, fold: int) -> Iterator[list[Entrant]]:
    """Load the contenders, with one analyzer for all that read faces alike; `faces` is not AUTO."""
    entrants: list[Entrant] = []
    analyzers: dict[tuple[object, ...], FaceAnalyzer] = {}
    try:
        for contender in made:
            options = settled(contender).options
            options = options.with_values({"model_path": options.model_path.replace(FOLD, str(fold))})
            backend = make_backend(options)
            key = _reads_faces_by(options)
            if key not in analyzers:
                analyzers[key] = face_finder(faces, options)
            backend.load()
            entrants.append(Entrant(contender.name, backend, analyzers[key], options))
        yield entrants
    finally:
        for entrant in entrants:
            entrant.backend.close()


def settled(contender: Contender) -> Contender:
    """Return the contender with the label set that it will answer in."""
    wanted = contender.wanted_labels
    if not wanted or wanted == contender.options.label_set:
        return replace(contender, wanted_labels="")
    asked = contender.options.with_values({"label_set": wanted})
    if wanted not in declaration(asked).label_sets:  # it has other labels, and the answers are translated
        return replace(contender, wanted_labels="")
    return replace(contender, options=asked, wanted_labels="")


def _reads_faces_by(options: Options) -> tuple[object, ...]:
    of_faces = [spec.name for spec in specs().values() if spec.group == "faces"]
    return tuple(getattr(options, name) for name in (*of_faces, "agr_prompt"))
