"""A whole evaluation: load the backends, run them, fit calibrations, and write tables, pictures and predictions."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from emo_llama_ros import __version__
from emo_llama_ros.backends.backend import ModelInfo
from emo_llama_ros.calibration import save_temperature
from emo_llama_ros.data.datasets import LeftOut
from emo_llama_ros.errors import BadData, BadParameter
from emo_llama_ros.evaluation import plots, report
from emo_llama_ros.evaluation.calibration_fit import fit
from emo_llama_ros.evaluation.comparison import Comparison, compare
from emo_llama_ros.evaluation.contenders import FOLD, Contender, check_contenders, settled
from emo_llama_ros.evaluation.evaluate import Plan, Run
from emo_llama_ros.evaluation.journal import Journal, fingerprint, whole_file
from emo_llama_ros.evaluation.metrics import compute
from emo_llama_ros.evaluation.prediction import write_predictions
from emo_llama_ros.evaluation.processes import answering
from emo_llama_ros.labels import label_set
from emo_llama_ros.options import Options

JOURNAL = "unfinished.jsonl"
"""Holds the answers so far in the folder of the report, until that is written."""

OnSample = Callable[[str, int, int], None]
"""Hears (what is running, samples done, samples in all)."""


@dataclass(frozen=True, slots=True)
class Study:
    """What to run, and what to write."""

    plan: Plan
    contenders: tuple[Contender, ...]
    options: Options
    out: Path
    title: str
    command: str
    fit_method: str = ""
    """"temperature" or "vector"; empty fits nothing."""
    fit_split: str = ""
    seed: int = 0
    settings: dict[str, Any] = field(default_factory=dict)
    jobs: int = 1
    """Processes that answer; the results are the same with any number."""


def run_study(
    study: Study,
    on_sample: OnSample = lambda what, done, total: None,
) -> dict[str, Any]:
    """Evaluate every contender on the same samples, write the report into `study.out`, and return it as a dict.

    Writes report.md, report.json, and for each contender predictions, a confusion matrix, a reliability diagram, and
    the fitted calibration. Answers are kept in JOURNAL as they come, and a study that was stopped goes on from there.
    Raises EmoError when data, models or packages cannot be used, before anything is computed.
    """
    _check(study)
    left_out = LeftOut()
    samples = study.plan.samples(left_out)
    if not samples:
        told = "; ".join(left_out.lines()) or "there is nothing in it"
        raise BadData(f"There is nothing to evaluate in {study.title}: {told}.")
    study.out.mkdir(parents=True, exist_ok=True)
    ready = study.contenders
    if study.fit_method:
        ready = _calibrated(study, on_sample)
    runs = {c.name: Run(c.name) for c in ready}
    models: dict[str, ModelInfo] = {}
    journal = Journal(study.out / JOURNAL, _mark(study, ready, samples))
    finished = False
    try:
        for folds in _fold_groups(study):
            plan = replace(study.plan, folds=folds)
            todo = [s for s in samples if s.fold in folds or folds == (0,)]
            answered = len(todo) - len(missing := journal.missing(todo))
            heard = _named(on_sample, plan)
            with answering(plan, ready, folds[0], min(study.jobs, max(1, len(missing)))) as contenders:
                models |= contenders.models
                for predictions in contenders.answers(missing):
                    journal.add(predictions)
                    journal.done[predictions[0].fold, predictions[0].id] = predictions
                    answered += 1
                    heard(answered, len(todo))
        for sample in samples:
            for run, prediction in zip(runs.values(), journal.done[sample.fold, sample.id], strict=True):
                run.add(prediction)
        found = _write(study, list(runs.values()), models, left_out)
        finished = True
        return found
    finally:
        journal.close(finished)


def _check(study: Study) -> None:
    check_contenders(study.contenders)
    if study.fit_method and study.fit_split == study.plan.split:
        raise BadParameter("Fitting a calibration on the split that is evaluated would flatter it; choose another.")
    if study.fit_method and len(study.plan.folds) > 1:
        raise BadParameter("A calibration is fitted for one model: choose one fold.")


def _mark(study: Study, ready: Sequence[Contender], samples: Sequence[Any]) -> str:
    plan = study.plan
    files = [Path(path) for c in ready for path in (c.options.expression_model, c.options.calibration_file) if path]
    changed = [(str(f), f.stat().st_mtime_ns) for f in files if f.is_file()]
    how = (plan.split, plan.frames, plan.faces, plan.reasoning, plan.labels)
    what = [(s.fold, s.id, s.label, str(s.path)) for s in samples]
    return fingerprint(__version__, how, what, ready, changed)


def _fold_groups(study: Study) -> list[tuple[int, ...]]:
    per_fold = any(FOLD in c.options.model_path for c in study.contenders)
    return [(fold,) for fold in study.plan.folds] if per_fold else [study.plan.folds]


def _calibrated(study: Study, on_sample: OnSample) -> tuple[Contender, ...]:
    """Fit each contender, without any calibration of its own, and return them with the fitted ones."""
    plan = replace(study.plan, split=study.fit_split, reasoning=False)
    runs = {c.name: Run(c.name) for c in study.contenders}
    samples = plan.samples(LeftOut())
    heard = _named(on_sample, plan)
    made = [settled(contender) for contender in study.contenders]
    with tempfile.TemporaryDirectory() as folder:
        bare = []
        for contender in made:
            path = Path(folder) / f"{_file_name(contender.name)}.json"
            save_temperature(path, label_set(contender.options.label_set), 1.0)
            bare.append(replace(contender, options=contender.options.with_values({"calibration_file": str(path)})))
        with answering(plan, bare, plan.folds[0], study.jobs) as contenders:
            spoken = {name: info.label_set for name, info in contenders.models.items()}
            for done, predictions in enumerate(contenders.answers(samples), 1):
                for run, prediction in zip(runs.values(), predictions, strict=True):
                    run.add(prediction)
                heard(done, len(samples))
    ready = []
    for contender in made:
        labels = spoken[contender.name]
        if labels.labels != plan.labels.labels:
            raise BadParameter(
                f"{contender.name} speaks the labels of {labels.name} and cannot be calibrated on {plan.dataset.name}."
            )
        path = study.out / f"calibration-{_file_name(contender.name)}.json"
        found = fit(runs[contender.name].predictions, labels, study.fit_method)
        found.save(path, labels, f"{plan.dataset.name} {plan.split}, {found.samples} samples")
        ready.append(replace(contender, options=contender.options.with_values({"calibration_file": str(path)})))
    return tuple(ready)


def _named(on_sample: OnSample, plan: Plan) -> Callable[[int, int], None]:
    fold = f" fold {plan.folds[0]}" if plan.dataset.folds and len(plan.folds) == 1 else ""
    return lambda done, total: on_sample(f"{plan.dataset.name} {plan.split}{fold}", done, total)


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.-]", "_", name)


def _write(study: Study, runs: Sequence[Run], models: dict[str, ModelInfo], left_out: LeftOut) -> dict[str, Any]:
    labels = study.plan.labels
    for prediction in runs[0].unreadable:
        left_out.add("cannot be read", prediction.message.rstrip("."))
    if not runs[0].predictions:
        raise BadData(f"None of the samples can be read: {'; '.join(left_out.lines())}.")
    results = []
    for run in runs:
        metrics = compute(run.predictions, labels, study.seed)
        info = models[run.name]
        settings = {**study.settings, "label_set": info.label_set.name, "calibration": info.calibration,
                    "first_error": run.first_error}  # fmt: skip
        if run.reasoning.texts:
            settings["unfaithful_examples"] = run.reasoning.examples
            settings["false_claims"] = {about.value: n for about, n in run.reasoning.false_by_kind.items()}
        results.append(report.Result(run.name, info.model, metrics, settings))
        name = _file_name(run.name)
        title = f"{run.name} on {study.title}"
        with whole_file(study.out / f"predictions-{name}.jsonl") as path:
            write_predictions(path, [*run.predictions, *run.unreadable])
        with whole_file(study.out / f"confusion-{name}.png") as path:
            plots.save_confusion(metrics, labels, title, path)
        with whole_file(study.out / f"reliability-{name}.png") as path:
            plots.save_reliability(metrics, title, path)
    comparisons: dict[str, Comparison] = {
        run.name: compare(runs[0].predictions, run.predictions, labels, study.seed) for run in runs[1:]
    }
    found = report.as_json(study.title, results, comparisons, study.command, left_out)
    with whole_file(study.out / "report.json") as path:
        path.write_text(json.dumps(found, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    text = report.markdown(study.title, results, comparisons, study.command, left_out)
    with whole_file(study.out / "report.md") as path:
        path.write_text(text, encoding="utf-8", errors="replace")
    return found
