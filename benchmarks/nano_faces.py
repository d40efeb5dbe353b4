"""Measure emo-llama-nano on real faces that it was not trained on, beside the bare expression network.

    python benchmarks/nano_faces.py [--quick] [--model FOLDER] [--pictures FOLDER] [--markdown FILE]

Both backends are given the same clips in one run: the held-out sample media (four posed pictures, as they are and in
altered copies, each as a single image and held for a clip; one video, cut into clips as the node does) and the pictures
of --pictures, whose subfolders or file names name the label. Then nano gives its reasons and answers fixed questions,
and every statement is held against what the face networks measured. Last, its weights are quantized to NF4 and the
labels compared. All is seeded: the same files give the same numbers. The last line is JSON.

The pictures are few, and the clips of one medium resemble each other: read counts, not digits. How often either would
be right in the wild is not measured here. Needs `emo_llama fetch --media`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Measure this source tree, not an installed copy.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np
from labelled_clips import (
    GIVEN,
    HELD_OUT_VIDEO,
    PACKAGED,
    PICTURES,
    TRAINED_VIDEO,
    LabelledClip,
    labelled_pictures,
    picture_clips,
    video_clips,
)
from nano_words import ALL, QUESTIONS, REASONS, Summary, by_origin, markdown, table, talk

from emo_llama_ros.backends.backend import Backend
from emo_llama_ros.backends.registry import make_backend
from emo_llama_ros.errors import EmoError
from emo_llama_ros.estimate import Status
from emo_llama_ros.evaluation.comparison import compare
from emo_llama_ros.evaluation.metrics import ECE_BINS, compute
from emo_llama_ros.evaluation.prediction import Prediction
from emo_llama_ros.faces.face import QualityFlaw
from emo_llama_ros.faces.make import make_analyzer
from emo_llama_ros.install.fetch import media_file
from emo_llama_ros.labels import RAF_DB
from emo_llama_ros.options import Options

SEED = 4
COPIES, QUICK_COPIES = 8, 1
QUICK_STEP = 5
"""--quick talks about every so many of the unaltered clips."""


@dataclass(frozen=True, slots=True)
class Both:
    """The same clips, and what both backends answered."""

    clips: list[LabelledClip]
    nano: list[Prediction]
    bare: list[Prediction]

    def only(self, keep: Iterable[bool]) -> Both:
        """Return the part where `keep` is true."""
        at = [i for i, kept in enumerate(keep) if kept]
        return Both([self.clips[i] for i in at], [self.nano[i] for i in at], [self.bare[i] for i in at])

    @property
    def labelled(self) -> Both:
        """The part of which it is known what it shows."""
        return self.only(bool(c.label) for c in self.clips)

    @property
    def same(self) -> int:
        """How often both gave the same answer."""
        return sum(said(n) == said(b) for n, b in zip(self.nano, self.bare, strict=True))


@dataclass(frozen=True, slots=True)
class Drift:
    """What quantized weights change in the labels."""

    clips: int
    same_label: int
    largest_difference: float
    """Of any label's probability in any clip."""

    @staticmethod
    def between(plain: Sequence[Prediction], quantized: Sequence[Prediction]) -> Drift:
        """Compare two runs over the same clips."""
        pairs = [(p, q) for p, q in zip(plain, quantized, strict=True) if p.probabilities and q.probabilities]
        gaps = [float(np.abs(np.subtract(p.probabilities, q.probabilities)).max()) for p, q in pairs]
        return Drift(len(pairs), sum(said(p) == said(q) for p, q in pairs), max(gaps, default=0.0))


def clips_of(pictures: Path | None, copies: int) -> list[LabelledClip]:
    """Return every clip that is measured, the trained-on ones last."""
    options = Options(seed=1)
    analyzer = make_analyzer(options)
    packaged = [(media_file(name), label) for name, label in PICTURES.items()]
    clips = list(picture_clips(packaged, PACKAGED, copies, SEED, analyzer, options))
    if pictures:
        given = labelled_pictures(pictures, report=print)
        clips += picture_clips(given, GIVEN, copies, SEED + 1, analyzer, options)
    for name in (HELD_OUT_VIDEO, TRAINED_VIDEO):
        clips += video_clips(name, analyzer, options)
    return clips


def loaded(**values: Any) -> Backend:
    """Return a backend that is ready, on one thread and without measuring which of its paths is the fastest."""
    backend = make_backend(Options(seed=1).with_values({"performance": "plain", "worker_threads": 1} | values))
    backend.load()
    return backend


def predictions(backend: Backend, clips: Iterable[LabelledClip]) -> list[Prediction]:
    """Return the backend's answer to each clip, given alone."""
    found = []
    for shown in clips:
        if shown.clip is None:
            found.append(Prediction(shown.name, shown.label, "no_face"))
            continue
        (answer,) = backend.label([shown.clip])
        backend.forget(shown.clip.face_id)
        outcome = "ok" if answer.status is Status.OK else "error"
        found.append(Prediction(shown.name, shown.label, outcome, tuple(answer.probabilities)))
    return found


def said(prediction: Prediction) -> str:
    """Return the label of an answer, or why it has none."""
    return RAF_DB.labels[int(np.argmax(prediction.probabilities))] if prediction.probabilities else prediction.outcome


def right(answers: Iterable[Prediction]) -> int:
    """Return how many answers are right."""
    return sum(said(p) == p.label for p in answers)


def scores(answers: Sequence[Prediction]) -> dict[str, float]:
    """Return the figures of one backend over labelled clips."""
    metrics = compute(answers, RAF_DB)
    calibration = metrics.calibration
    if calibration is None:
        raise EmoError("No clip got a label, so there is nothing to measure.")
    return {
        "accuracy": metrics.war.value,
        "macro recall": metrics.uar.value,
        "mean confidence": float(np.mean([max(p.probabilities) for p in answers if p.probabilities])),
        "ECE": calibration.ece,
        "Brier": calibration.brier,
        "NLL": calibration.nll,
    }


def label_tables(held_out: Both, trained: Both) -> str:
    """Return who was right, by medium and by class, both backends' scores, and a sentence for each doubt."""
    known = held_out.labelled
    doubtful = held_out.only(not c.label for c in held_out.clips)
    nano, bare = scores(known.nano), scores(known.bare)
    compared = compare(known.bare, known.nano, RAF_DB)
    ahead = right(known.nano) - right(known.bare)
    pictures = len({(c.source, c.file) for c in known.clips if c.source in (PACKAGED, GIVEN)})
    return "\n\n".join(
        (
            table(
                ("clips", "n", "nano right", "bare network right", "same answer", "LOW_QUALITY", "no face found"),
                [
                    *(_medium(name, part) for name, part in _parts(known)),
                    _medium("**all held out**", known),
                    _medium(f"*trained on*: {TRAINED_VIDEO}", trained.labelled),
                ],
            ),
            table(
                ("shown", "n", "nano right", "bare network right", "nano said instead", "bare network said instead"),
                (_class(label, known.only(c.label == label for c in known.clips)) for label in RAF_DB.labels),
            ),
            table(
                ("all held out", "nano", "bare network"),
                ((name, f"{value:.3f}", f"{bare[name]:.3f}") for name, value in nano.items()),
            ),
            f"Nano is **{'better' if ahead > 0 else 'WORSE' if ahead < 0 else 'equal'}**: {right(known.nano)} of "
            f"{len(known.clips)} right, the bare network {right(known.bare)}; {compared.only_second} only nano, "
            f"{compared.only_first} only the bare network; {compared.agreement:.1%} of the answers are the same. "
            f"ECE has {ECE_BINS} equal-width bins. A clip without a face counts as wrong for both.",
            f"These are {pictures} pictures, most of them posed, and one video. Copies and clips of one medium are no "
            "independent samples, so no interval is given, and no rate in the wild follows.",
            f"Nobody annotated {HELD_OUT_VIDEO} where crying turns into laughing: {len(doubtful.clips)} clips, "
            f"{doubtful.same} with the same answer. Nano: {_counts(doubtful.nano)}. Bare network: "
            f"{_counts(doubtful.bare)}.",
        )
    )


def main() -> None:
    """Measure, and print tables and one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="checkpoint to measure; default: the packaged nano")
    parser.add_argument("--pictures", type=Path, help="folder of further pictures with known labels, not trained on")
    parser.add_argument("--copies", type=int, help=f"altered copies of each picture; default {COPIES}")
    parser.add_argument("--quick", action="store_true", help="under a minute: few copies, few questions")
    parser.add_argument("--markdown", type=Path, help="also write the tables to this file")
    arguments = parser.parse_args()
    try:
        report, figures = run(arguments.model, arguments.pictures, arguments.copies, arguments.quick)
    except EmoError as error:
        sys.exit(str(error))
    print(report)
    if arguments.markdown:
        arguments.markdown.write_text(report + "\n", encoding="utf-8")
    print(json.dumps(figures))


def run(
    model: Path | None = None, pictures: Path | None = None, copies: int | None = None, quick: bool = False
) -> tuple[str, dict[str, Any]]:
    """Return the report as Markdown, and its figures; arguments as on the command line."""
    cv2.setNumThreads(1)
    path = str(model or "")
    nano = loaded(backend="emo_llama", model_path=path)
    info = nano.info
    if copies is None:
        copies = QUICK_COPIES if quick else COPIES
    clips = clips_of(pictures, copies)
    both = Both(clips, predictions(nano, clips), predictions(loaded(backend="expression"), clips))
    held_out = both.only(c.source != TRAINED_VIDEO for c in clips)
    trained = both.only(c.source == TRAINED_VIDEO for c in clips)

    plain = [c for c in held_out.clips if not c.altered]
    asked = plain[::QUICK_STEP] if quick else plain
    words = talk(nano, asked, QUESTIONS)
    (more_reasons,) = talk(nano, [c for c in held_out.clips if c.altered and not quick], [REASONS])
    nano.close()
    origins = by_origin(words, more_reasons)

    quantized = loaded(backend="emo_llama", model_path=path, quantization="nf4")
    drift = Drift.between(both.nano, predictions(quantized, clips))
    report = "\n\n".join(
        (
            f"## {info.checkpoint} on real faces",
            f"Weights {info.checksum[:12]} in {info.dtype}, {info.quantization} quantization, calibration: "
            f"{info.calibration}. `{' '.join(_command(model, pictures, copies, quick))}`",
            "### Labels",
            label_tables(held_out, trained),
            "### Words",
            markdown(words, more_reasons, origins),
            "### NF4",
            f"With NF4 weights {drift.same_label} of {drift.clips} labels stay the same; the largest difference of a "
            f"probability is {drift.largest_difference:.3f}.",
        )
    )
    return report, figures_of(held_out, trained, origins, drift) | {"model": info.model, "checksum": info.checksum}


def figures_of(held_out: Both, trained: Both, origins: Mapping[str, Summary], drift: Drift) -> dict[str, Any]:
    """Return all figures, JSON-ready."""
    known = held_out.labelled
    return {
        "clips": len(known.clips),
        "right": {"nano": right(known.nano), "bare": right(known.bare)},
        "trained_on": {"clips": len(trained.clips), "nano": right(trained.nano), "bare": right(trained.bare)},
        "same_answer": known.same,
        "scores": {
            name: {key: round(value, 4) for key, value in scores(answers).items()}
            for name, answers in (("nano", known.nano), ("bare", known.bare))
        },
        "faithful": {name: round(part.faithful, 4) if part.sentences[1] else None for name, part in origins.items()},
        "faithful_target_met": {name: part.met for name, part in origins.items()},
        "words": asdict(origins[ALL]),
        "nf4": asdict(drift),
    }


def _command(model: Path | None, pictures: Path | None, copies: int, quick: bool) -> Iterator[str]:
    """Yield the command without the folders' places, which tell nothing to anybody else."""
    yield "python benchmarks/nano_faces.py"
    yield from ["--model FOLDER"] * (model is not None)
    yield from ["--pictures FOLDER"] * (pictures is not None)
    yield f"--copies {copies}"
    yield from ["--quick"] * quick


def _parts(both: Both) -> Iterator[tuple[str, Both]]:
    for source in (PACKAGED, GIVEN):
        for altered in (False, True):
            for still in (True, False):
                part = both.only((c.source, c.altered, c.still) == (source, altered, still) for c in both.clips)
                if part.clips:
                    kind = "altered copies" if altered else "as they are"
                    yield f"{source}, {kind}, {'single image' if still else 'clip of 8 frames'}", part
    yield HELD_OUT_VIDEO, both.only(c.source == HELD_OUT_VIDEO for c in both.clips)


def _medium(name: str, part: Both) -> tuple[str, ...]:
    flawed = sum(c.clip is not None and c.clip.flaws is not QualityFlaw.NONE for c in part.clips)
    missing = sum(c.clip is None for c in part.clips)
    return (name, *map(str, (len(part.clips), right(part.nano), right(part.bare), part.same, flawed, missing)))


def _class(label: str, part: Both) -> tuple[str, ...]:
    nano, bare = ([p for p in answers if said(p) != label] for answers in (part.nano, part.bare))
    found = map(str, (len(part.clips), right(part.nano), right(part.bare)))
    return (label, *found, _counts(nano, 2), _counts(bare, 2))


def _counts(answers: Iterable[Prediction], most: int | None = None) -> str:
    return ", ".join(f"{label} {n}" for label, n in Counter(map(said, answers)).most_common(most)) or "–"


if __name__ == "__main__":
    main()
