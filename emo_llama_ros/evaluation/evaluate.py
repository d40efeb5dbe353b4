"""Run backends over labelled data, all of them on the same clips."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from emo_llama_ros.backends.backend import Backend, LabelAnswer
from emo_llama_ros.data.datasets import Dataset, Sample, read_frames, spread
from emo_llama_ros.data.datasets.clip_source import Faces, clip_of
from emo_llama_ros.errors import BadData
from emo_llama_ros.estimate import Status
from emo_llama_ros.evaluation.faithfulness import Tally, check
from emo_llama_ros.evaluation.prediction import Prediction
from emo_llama_ros.evidence.clip_measures import measure
from emo_llama_ros.faces.face import FaceAnalyzer
from emo_llama_ros.labels import LabelSet
from emo_llama_ros.options import Options
from emo_llama_ros.perception.clips import Clip

_OUTCOMES = {Status.OK: "ok", Status.NO_FACE: "no_face", Status.UNPARSED: "unparsed"}


@dataclass(frozen=True, slots=True)
class Plan:
    """What to evaluate on, and how."""

    dataset: Dataset
    root: Path
    split: str
    folds: tuple[int, ...] = (0,)
    frames: int = 16
    faces: Faces = Faces.AUTO
    reasoning: bool = False
    """Whether backends explain themselves and every statement is checked against the measurements."""
    limit: int = 0
    """At most this many samples of each fold, spread evenly over the list; 0 takes all."""


@dataclass(slots=True)
class Run:
    """One backend's answers."""

    name: str
    backend: Backend
    predictions: list[Prediction] = field(default_factory=list)
    reasoning: Tally = field(default_factory=Tally)
    first_error: str = ""


def evaluate(
    plan: Plan,
    backends: dict[str, Backend],
    analyzer: FaceAnalyzer | None,
    options: Options,
    on_sample: Callable[[int, int], None] = lambda done, total: None,
) -> list[Run]:
    """Return each loaded backend's answers to every sample of the plan.

    Faces are found once and each backend is given the same clip. Labels of a backend that the dataset does not know are
    dropped and the rest is scaled to sum 1; labels of the dataset that a backend does not know get probability 0. A
    sample that cannot be read counts as an error of all. `on_sample` hears (done, total).
    """
    samples = list(_samples(plan))
    faces = plan.faces.resolve(plan.dataset)
    runs = [Run(name, backend) for name, backend in backends.items()]
    for done, sample in enumerate(samples, 1):
        try:
            frames = read_frames(sample.path, plan.frames)
        except BadData as error:
            for run in runs:
                run.first_error = run.first_error or str(error)
                run.predictions.append(Prediction(sample.id, sample.label, "error", fold=sample.fold))
        else:
            started = time.perf_counter()
            clip = clip_of(frames, f"{sample.fold}/{sample.id}", faces, analyzer, options)
            faces_ms = 1e3 * (time.perf_counter() - started)
            for run in runs:
                run.predictions.append(_predict(run, plan, sample, clip, faces_ms))
        on_sample(done, len(samples))
    return runs


def _samples(plan: Plan) -> Iterator[Sample]:
    for fold in plan.folds:
        yield from spread(list(plan.dataset.read(plan.root, plan.split, fold)), plan.limit)


def _predict(run: Run, plan: Plan, sample: Sample, clip: Clip | None, faces_ms: float) -> Prediction:
    if clip is None:
        return Prediction(sample.id, sample.label, "no_face", fold=sample.fold, faces_ms=faces_ms)
    started = time.perf_counter()
    (answer,) = run.backend.label([clip])
    latency_ms = 1e3 * (time.perf_counter() - started)
    outcome = _OUTCOMES.get(answer.status, "error")
    spoken, wanted = run.backend.info.label_set, plan.dataset.label_set
    probabilities = translate(answer.probabilities, spoken, wanted) if outcome == "ok" else ()
    if outcome == "ok" and not probabilities:
        outcome = "unparsed"
    if outcome != "ok":
        run.first_error = run.first_error or answer.message
    prediction = Prediction(
        sample.id, sample.label, outcome, probabilities, sample.fold, latency_ms=latency_ms, faces_ms=faces_ms
    )
    if plan.reasoning and outcome == "ok":
        prediction = _explained(run, prediction, clip, answer)
    run.backend.forget(clip.face_id)
    return prediction


def _explained(run: Run, prediction: Prediction, clip: Clip, answer: LabelAnswer) -> Prediction:
    text = "".join(run.backend.explain(clip, answer))
    evidences, phases = measure(clip)
    # The reasoning speaks about the backend's own labels, whatever the dataset calls them.
    found = check(text, evidences, answer.probabilities, run.backend.info.label_set.labels, phases)
    run.reasoning.add(found)
    return replace(
        prediction,
        reasoning=text,
        claims=found.claims,
        claims_held=found.claims_held,
        sentences=found.sentences,
        sentences_held=found.sentences_held,
    )


def translate(probabilities: Sequence[float], spoken: LabelSet, wanted: LabelSet) -> tuple[float, ...]:
    """Return probabilities in the order of `wanted`; () when all of the mass lies on labels that it does not have."""
    if spoken.labels == wanted.labels:
        return tuple(probabilities)
    by_label = dict(zip(spoken.labels, probabilities, strict=True))
    kept = [by_label.get(label, 0.0) for label in wanted.labels]
    total = sum(kept)
    return tuple(p / total for p in kept) if total > 0 else ()
