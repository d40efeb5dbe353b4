"""A whole evaluation: load the backends, run them, fit calibrations, and write tables, pictures and predictions."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from emo_llama_ros.backends.backend import Backend
from emo_llama_ros.backends.registry import make_backend
from emo_llama_ros.calibration import save_temperature
from emo_llama_ros.errors import BadParameter
from emo_llama_ros.evaluation import plots, report
from emo_llama_ros.evaluation.calibration_fit import fit
from emo_llama_ros.evaluation.comparison import Comparison, compare
from emo_llama_ros.evaluation.evaluate import Plan, Run, evaluate
from emo_llama_ros.evaluation.metrics import compute
from emo_llama_ros.evaluation.prediction import write_predictions
from emo_llama_ros.faces.face import FaceAnalyzer
from emo_llama_ros.labels import label_set
from emo_llama_ros.options import Options

FOLD = "{fold}"
"""Stands in a model path for the number of the fold."""

OnSample = Callable[[str, int, int], None]
"""Hears (what is running, samples done, samples in all)."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A backend to evaluate: its name in the report, and the options that make it."""

    name: str
    options: Options


@dataclass(frozen=True, slots=True)
class Study:
    """What to run, and what to write."""

    plan: Plan
    contenders: tuple[Contender, ...]
    options: Options
    """For the faces; each contender has its own."""
    out: Path
    title: str
    command: str
    fit_method: str = ""
    """"temperature" or "vector"; empty fits nothing."""
    fit_split: str = ""
    seed: int = 0
    settings: dict[str, Any] = field(default_factory=dict)


def contenders(names: Sequence[str], model: str, options: Options, dataset_labels: str) -> tuple[Contender, ...]:
    """Return a contender for each "NAME" or "NAME=MODEL_PATH"; `model` is the path where none is given.

    A backend is asked for the dataset's own labels; the expression network knows only those of RAF-DB.
    """
    made = []
    for text in names:
        name, _, path = text.partition("=")
        labels = options.label_set if name == "expression" else dataset_labels
        values = {"backend": name, "model_path": path or (model if name != "expression" else ""), "label_set": labels}
        made.append(Contender(f"{name}-{Path(path).name}" if path else name, options.with_values(values)))
    if len({c.name for c in made}) < len(made):
        raise BadParameter(f"Two backends have the same name: {', '.join(c.name for c in made)}.")
    return tuple(made)


def run_study(
    study: Study,
    analyzer: FaceAnalyzer | None,
    on_sample: OnSample = lambda what, done, total: None,
) -> dict[str, Any]:
    """Evaluate every contender on the same clips, write the report into `study.out`, and return it as a dict.

    Writes report.md, report.json, and for each contender predictions, a confusion matrix, a reliability diagram, and
    the fitted calibration. Raises EmoError when data or models cannot be read.
    """
    _check(study)
    study.out.mkdir(parents=True, exist_ok=True)
    ready = study.contenders
    if study.fit_method:
        ready = _calibrated(study, analyzer, on_sample)
    runs: list[Run] = []
    models: dict[str, str] = {}
    for folds in _fold_groups(study):
        plan = replace(study.plan, folds=folds)
        with _loaded(ready, folds[0]) as backends:
            models |= {name: backend.info.model for name, backend in backends.items()}
            found = evaluate(plan, backends, analyzer, study.options, _named(on_sample, plan))
        runs = [_joined(a, b) for a, b in zip(runs, found, strict=True)] if runs else found
    return _write(study, runs, models)


def _check(study: Study) -> None:
    if not study.contenders:
        raise BadParameter("Name at least one backend to evaluate.")
    if study.fit_method and study.fit_split == study.plan.split:
        raise BadParameter("Fitting a calibration on the split that is evaluated would flatter it; choose another.")
    if study.fit_method and len(study.plan.folds) > 1:
        raise BadParameter("A calibration is fitted for one model: choose one fold.")


def _fold_groups(study: Study) -> list[tuple[int, ...]]:
    per_fold = any(FOLD in c.options.model_path for c in study.contenders)
    return [(fold,) for fold in study.plan.folds] if per_fold else [study.plan.folds]


@contextmanager
def _loaded(ready: Sequence[Contender], fold: int) -> Iterator[dict[str, Backend]]:
    backends: dict[str, Backend] = {}
    try:
        for contender in ready:
            path = contender.options.model_path.replace(FOLD, str(fold))
            backend = make_backend(contender.options.with_values({"model_path": path}))
            backend.load()
            backends[contender.name] = backend
        yield backends
    finally:
        for backend in backends.values():
            backend.close()


def _calibrated(study: Study, analyzer: FaceAnalyzer | None, on_sample: OnSample) -> tuple[Contender, ...]:
    """Fit each contender, without any calibration of its own, and return them with the fitted ones."""
    plan = replace(study.plan, split=study.fit_split, reasoning=False)
    with tempfile.TemporaryDirectory() as folder:
        bare = []
        for contender in study.contenders:
            path = Path(folder) / f"{contender.name}.json"
            save_temperature(path, label_set(contender.options.label_set), 1.0)
            bare.append(Contender(contender.name, contender.options.with_values({"calibration_file": str(path)})))
        with _loaded(bare, plan.folds[0]) as backends:
            spoken = {name: backend.info.label_set for name, backend in backends.items()}
            runs = evaluate(plan, backends, analyzer, study.options, _named(on_sample, plan))
    ready = []
    for contender, run in zip(study.contenders, runs, strict=True):
        labels = spoken[contender.name]
        if labels.labels != plan.dataset.label_set.labels:
            raise BadParameter(
                f"{contender.name} speaks the labels of {labels.name} and cannot be calibrated on {plan.dataset.name}."
            )
        path = study.out / f"calibration-{contender.name}.json"
        found = fit(run.predictions, labels, study.fit_method)
        found.save(path, labels, f"{plan.dataset.name} {plan.split}, {found.samples} samples")
        ready.append(Contender(contender.name, contender.options.with_values({"calibration_file": str(path)})))
    return tuple(ready)


def _named(on_sample: OnSample, plan: Plan) -> Callable[[int, int], None]:
    fold = f" fold {plan.folds[0]}" if plan.dataset.folds and len(plan.folds) == 1 else ""
    return lambda done, total: on_sample(f"{plan.dataset.name} {plan.split}{fold}", done, total)


def _joined(first: Run, second: Run) -> Run:
    first.predictions += second.predictions
    tally, more = first.reasoning, second.reasoning
    tally.texts += more.texts
    tally.sentences += more.sentences
    tally.sentences_held += more.sentences_held
    tally.false_by_kind += more.false_by_kind
    tally.examples += more.examples
    first.first_error = first.first_error or second.first_error
    return first


def _write(study: Study, runs: Sequence[Run], models: dict[str, str]) -> dict[str, Any]:
    labels = study.plan.dataset.label_set
    results = []
    for run, contender in zip(runs, study.contenders, strict=True):
        metrics = compute(run.predictions, labels, study.seed)
        settings = {**study.settings, "label_set": contender.options.label_set, "first_error": run.first_error}
        if run.reasoning.texts:
            settings["unfaithful_examples"] = run.reasoning.examples
            settings["false_claims"] = {about.value: n for about, n in run.reasoning.false_by_kind.items()}
        results.append(report.Result(run.name, models[run.name], metrics, settings))
        name = re.sub(r"[^\w.-]", "_", run.name)
        title = f"{run.name} on {study.title}"
        write_predictions(study.out / f"predictions-{name}.jsonl", run.predictions)
        plots.save_confusion(metrics, labels, title, study.out / f"confusion-{name}.png")
        plots.save_reliability(metrics, title, study.out / f"reliability-{name}.png")
    comparisons: dict[str, Comparison] = {
        run.name: compare(runs[0].predictions, run.predictions, labels, study.seed) for run in runs[1:]
    }
    found = report.as_json(study.title, results, comparisons, study.command)
    (study.out / "report.json").write_text(json.dumps(found, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    text = report.markdown(study.title, results, comparisons, study.command)
    (study.out / "report.md").write_text(text, encoding="utf-8")
    return found
