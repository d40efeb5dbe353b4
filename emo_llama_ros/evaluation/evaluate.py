"""Run backends over labelled samples, all of them on the same ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from emo_llama_ros.backends.backend import Backend, LabelAnswer
from emo_llama_ros.data.datasets import Dataset, LeftOut, Sample, sample_frames, spread
from emo_llama_ros.data.datasets.clip_source import Faces, clip_of
from emo_llama_ros.errors import BadData
from emo_llama_ros.estimate import Status
from emo_llama_ros.evaluation.faithfulness import Tally, check, tally_of
from emo_llama_ros.evaluation.prediction import UNREADABLE, Prediction
from emo_llama_ros.evidence.clip_measures import measure
from emo_llama_ros.faces.face import FaceAnalyzer, QualityFlaw
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
    label_set: LabelSet | None = None
    """Samples with other labels are left out, and probabilities of other labels dropped; None takes the dataset's."""

    @property
    def labels(self) -> LabelSet:
        """The labels that count."""
        return self.label_set or self.dataset.label_set

    def samples(self, left_out: LeftOut) -> list[Sample]:
        """Return the samples of all folds; `left_out` hears of what is none."""
        found: list[Sample] = []
        for fold in self.folds:
            kept = []
            for sample in self.dataset.read(self.root, self.split, fold, left_out):
                if sample.label in self.labels.labels:
                    kept.append(sample)
                else:
                    left_out.add(f"is labelled '{sample.label}', which is not in {self.labels.name}", sample.id)
            found += spread(kept, self.limit)
        return found


@dataclass(frozen=True, slots=True)
class Entrant:
    """A loaded backend, with what finds and reads the faces that it is given."""

    name: str
    backend: Backend
    analyzer: FaceAnalyzer | None
    """Entrants with the same analyzer are given the same clips."""
    options: Options


@dataclass(slots=True)
class Run:
    """One backend's answers."""

    name: str
    predictions: list[Prediction] = field(default_factory=list)
    """In the order of the samples, without those that could not be read."""
    unreadable: list[Prediction] = field(default_factory=list)

    def add(self, prediction: Prediction) -> None:
        """Take the answer to the next sample."""
        (self.unreadable if prediction.outcome == UNREADABLE else self.predictions).append(prediction)

    @property
    def reasoning(self) -> Tally:
        """What the checks of the reasonings add up to."""
        return tally_of(self.predictions)

    @property
    def first_error(self) -> str:
        """Why the first sample without a label has none, where somebody said it."""
        return next((p.message for p in self.predictions if p.message), "")


def evaluate(
    plan: Plan,
    backends: dict[str, Backend],
    analyzer: FaceAnalyzer | None,
    options: Options,
    on_sample: Callable[[int, int], None] = lambda done, total: None,
) -> list[Run]:
    """Return each loaded backend's answers to every sample of the plan; `on_sample` hears (done, total)."""
    entrants = [Entrant(name, backend, analyzer, options) for name, backend in backends.items()]
    runs = [Run(entrant.name) for entrant in entrants]
    samples = plan.samples(LeftOut())
    for done, sample in enumerate(samples, 1):
        for run, prediction in zip(runs, answer(plan, sample, entrants), strict=True):
            run.add(prediction)
        on_sample(done, len(samples))
    return runs


def answer(plan: Plan, sample: Sample, entrants: Sequence[Entrant]) -> list[Prediction]:
    """Return each entrant's answer to a sample.

    Labels of a backend that the plan does not know are dropped and the rest is scaled to sum 1; labels of the plan that
    a backend does not know get probability 0. A sample that cannot be read is UNREADABLE for all.
    """
    blank = Prediction(sample.id, sample.label, UNREADABLE, (), sample.fold, person=sample.person, votes=sample.votes)
    try:
        frames = sample_frames(sample, plan.frames)
    except BadData as error:
        return [replace(blank, message=str(error))] * len(entrants)
    where = plan.faces.resolve(plan.dataset)
    clips: dict[int, tuple[Clip | None, float]] = {}
    found = []
    for entrant in entrants:
        key = id(entrant.analyzer)
        if key not in clips:
            started = time.perf_counter()
            clip = clip_of(frames, f"{sample.fold}/{sample.id}", where, entrant.analyzer, entrant.options)
            clips[key] = clip, 1e3 * (time.perf_counter() - started)
        clip, faces_ms = clips[key]
        found.append(_predict(entrant.backend, plan, replace(blank, faces_ms=faces_ms), clip))
    return found


def _predict(backend: Backend, plan: Plan, blank: Prediction, clip: Clip | None) -> Prediction:
    if clip is None:
        return replace(blank, outcome="no_face")
    started = time.perf_counter()
    (said,) = backend.label([clip])
    latency_ms = 1e3 * (time.perf_counter() - started)
    outcome = _OUTCOMES.get(said.status, "error")
    probabilities = translate(said.probabilities, backend.info.label_set, plan.labels) if outcome == "ok" else ()
    if outcome == "ok" and not probabilities:
        outcome = "unparsed"
    prediction = replace(
        blank,
        outcome=outcome,
        probabilities=probabilities,
        latency_ms=latency_ms,
        low_quality=clip.flaws is not QualityFlaw.NONE,
        message="" if outcome == "ok" else said.message,
    )
    if plan.reasoning and outcome == "ok":
        prediction = _explained(backend, prediction, clip, said)
    backend.forget(clip.face_id)
    return prediction


def _explained(backend: Backend, prediction: Prediction, clip: Clip, said: LabelAnswer) -> Prediction:
    text = "".join(backend.explain(clip, said))
    evidences, phases = measure(clip)
    # The reasoning speaks about the backend's own labels, whatever the dataset calls them.
    found = check(text, evidences, said.probabilities, backend.info.label_set.labels, phases)
    return replace(
        prediction,
        reasoning=text,
        claims=found.claims,
        claims_held=found.claims_held,
        sentences=found.sentences,
        sentences_held=found.sentences_held,
        unfaithful=found.unfaithful,
        false_claims=tuple(claim.about.value for claim, true in found.checked if not true),
    )


def translate(probabilities: Sequence[float], spoken: LabelSet, wanted: LabelSet) -> tuple[float, ...]:
    """Return probabilities in the order of `wanted`; () when all of the mass lies on labels that it does not have."""
    if spoken.labels == wanted.labels:
        return tuple(probabilities)
    by_label = dict(zip(spoken.labels, probabilities, strict=True))
    kept = [by_label.get(label, 0.0) for label in wanted.labels]
    total = sum(kept)
    return tuple(p / total for p in kept) if total > 0 else ()
