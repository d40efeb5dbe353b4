"""Measure emo-eyes on labelled faces, beside the expression network that this package used before it.

    python benchmarks/eyes.py --faces FERPLUS [--split validation] [--json FILE]

FERPLUS is what `emo_llama train config/train/eyes.yaml --data` takes: a folder with fer2013.csv and fer2013new.csv, the
folders of pictures, or an .npz. The faces are those of the split (PublicTest) whose majority is one of seven displays.
Both networks see the same faces in one run, on one thread, in two ways: as the node does, the face found in the picture
and cut upright (a picture in which none is found is seen as a whole), and as FER pictures lie, without looking for the
face. The tables show operating points on either side of the shipped one; nothing is chosen on these faces. The last
line is one JSON object; `acc`, `uar`, `ece` are those of the node's way.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
# Measure this source tree, not an installed copy.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import numpy.typing as npt
from mini_xception import NETWORK_FILE as EARLIER_FILE
from mini_xception import MiniXception
from rich.console import Console
from rich.table import Table
from scipy.special import softmax

from emo_llama_ros.data.datasets.clip_source import whole_axes
from emo_llama_ros.data.ferplus import VotedFaces, read_voted_faces
from emo_llama_ros.evaluation.metrics import calibration_of, confusion_of, vote_scores, war_uar
from emo_llama_ros.faces import blendshapes
from emo_llama_ros.faces.alignment import FaceAxes, mesh_axes
from emo_llama_ros.faces.blendshapes import Blendshapes
from emo_llama_ros.faces.embedded import FaceFinder
from emo_llama_ros.faces.emo_eyes import FOLDER, NETWORK_FILE, EmoEyes
from emo_llama_ros.faces.expression import ExpressionReader, Reading
from emo_llama_ros.faces.face import FloatArray
from emo_llama_ros.install.fetch import earlier_file, model_file
from emo_llama_ros.labels import FERPLUS, RAF_DB
from emo_llama_ros.training.eyes.framing import enlarged, found_mesh
from emo_llama_ros.training.eyes.targets import disagreement_of

SEVEN = [FERPLUS.labels.index(label) for label in RAF_DB.labels]
POINTS = (0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0)

Grey = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Seen:
    """Pictures, and where the face is in each."""

    pictures: list[Grey]
    axes: list[FaceAxes]
    movements: list[FloatArray | None]
    found: float = 1.0
    """Share in which a face was found."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a network gave on N faces."""

    probabilities: npt.NDArray[np.float64]
    """(N, 7) in the order of labels.RAF_DB."""
    ms: float
    """Median milliseconds a face, all views."""
    disagreement: npt.NDArray[np.float64]
    contempt: npt.NDArray[np.float64]


def main() -> None:
    """Print the tables and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", required=True, help="FER+, see above")
    parser.add_argument("--split", default="validation", choices=("train", "validation", "test"))
    parser.add_argument("--limit", type=int, default=0, help="only so many faces, spread evenly")
    parser.add_argument("--json", type=Path, help="also write the JSON line here")
    arguments = parser.parse_args()
    faces = read_voted_faces(arguments.faces).of_split(arguments.split)
    faces = faces.select(np.isin(faces.majority, SEVEN))
    if arguments.limit:
        faces = faces.select(np.arange(0, len(faces), max(1, len(faces) // arguments.limit)))
    base, eyes = MiniXception(earlier_file(EARLIER_FILE)), EmoEyes()
    point = eyes.manifest.operating_point
    console = Console(width=150)
    figures: dict[str, dict[str, float]] = {}
    for way, seen in (("as they lie", as_they_lie(faces)), ("as the node sees them", as_found(faces))):
        before, ours = measure(base, seen), measure(eyes, seen)
        rows = {"mini-Xception (before)": before}
        for exponent in sorted({point, *POINTS}):
            name = f"emo-eyes, {exponent:+.1f}" + (" (shipped)" if exponent == point else "")
            rows[name] = at_point(ours, eyes, exponent)
        scored = {name: scores(result, faces) for name, result in rows.items()}
        console.print(tabled(scored, f"FER+ {arguments.split} {way}, n = {len(faces)}, {seen.found:.1%} found"))
        figures[way] = scored[f"emo-eyes, {point:+.1f} (shipped)"] | {
            f"base_{key}": value for key, value in scored["mini-Xception (before)"].items()
        }
    known = np.corrcoef(ours.disagreement, disagreement_of(faces.votes[:, : len(FERPLUS.labels)]))[0, 1]
    weight = (FOLDER / NETWORK_FILE).stat().st_size
    node, lying = figures["as the node sees them"], figures["as they lie"]
    console.print(
        f"emo-eyes: {weight} bytes, {node['ms']:.2f} ms a face on one thread, {node['ms'] / node['base_ms']:.2f} × "
        f"mini-Xception; its expected disagreement correlates {known:.2f} with that of the ten people."
    )
    line = json.dumps(
        {
            "n": len(faces), "split": arguments.split, "operating_point": point,
            "acc": node["accuracy"], "uar": node["UAR"], "ece": node["ECE"], "brier_votes": node["Brier"],
            "kl_votes": node["KL"], "recalls": {label: node[label] for label in RAF_DB.labels},
            "ms_per_face": node["ms"], "bytes": weight, "found": round(seen.found, 4),
            "acc_as_they_lie": lying["accuracy"], "uar_as_they_lie": lying["UAR"], "ece_as_they_lie": lying["ECE"],
            "base_acc": node["base_accuracy"], "base_uar": node["base_UAR"], "base_ece": node["base_ECE"],
            "base_ms_per_face": node["base_ms"], "base_acc_as_they_lie": lying["base_accuracy"],
            "base_uar_as_they_lie": lying["base_UAR"], "disagreement_correlation": round(float(known), 4),
        }
    )  # fmt: skip
    if arguments.json:
        arguments.json.write_text(line + "\n", encoding="utf-8")
    print(line)


def as_they_lie(faces: VotedFaces) -> Seen:
    """Return FER's pictures, each taken for one face that is framed as FER does."""
    return Seen(list(faces.images), [whole_axes(*image.shape) for image in faces.images], [None] * len(faces))


def as_found(faces: VotedFaces) -> Seen:
    """Return enlarged pictures with the face that the node finds; the whole picture where it finds none."""
    finder, scorer = FaceFinder(), Blendshapes(model_file(blendshapes.NETWORK_FILE))
    pictures = [enlarged(image) for image in faces.images]
    meshes = [found_mesh(grey, finder) for grey in pictures]
    axes = [whole_axes(*g.shape) if m is None else mesh_axes(m) for g, m in zip(pictures, meshes, strict=True)]
    movements = [None if mesh is None else scorer.movements(mesh) for mesh in meshes]
    return Seen(pictures, axes, movements, sum(mesh is not None for mesh in meshes) / len(faces))


def measure(reader: ExpressionReader, seen: Seen) -> Result:
    """Return what a network reads, one face at a time."""
    readings: list[Reading] = []
    times = []
    for picture, axes, movements in zip(seen.pictures, seen.axes, seen.movements, strict=True):
        start = time.perf_counter()
        # Both networks read grey pictures only.
        readings.append(reader.read(np.empty((0, 0, 3), np.uint8), picture, axes, movements))
        times.append(time.perf_counter() - start)
    return Result(
        np.array([reading.probabilities for reading in readings], np.float64),
        round(float(np.median(times)) * 1e3, 3),
        np.array([reading.disagreement for reading in readings]),
        np.array([reading.contempt for reading in readings]),
    )


def at_point(result: Result, eyes: EmoEyes, exponent: float) -> Result:
    """Return what emo-eyes would have given at another operating point, from what it gave at the shipped one."""
    manifest = eyes.manifest
    prior = np.log(manifest.prior[SEVEN])
    logits = manifest.temperature(manifest.operating_point) * np.log(np.maximum(result.probabilities, 1e-12))
    moved = (logits + (exponent - manifest.operating_point) * prior) / manifest.temperature(exponent)
    return replace(result, probabilities=softmax(moved, axis=1))


def scores(result: Result, faces: VotedFaces) -> dict[str, float]:
    """Return accuracy, UAR, ECE, distance from the votes, recalls and milliseconds."""
    truth = np.array([SEVEN.index(place) for place in faces.majority])
    confusion = confusion_of(truth, result.probabilities.argmax(1), len(SEVEN))
    war, uar = war_uar(confusion)
    votes = vote_scores(result.probabilities, faces.shares(RAF_DB))
    recalls = np.diag(confusion) / np.maximum(confusion.sum(1), 1)
    values = {
        "accuracy": float(war), "UAR": float(uar), "ECE": calibration_of(result.probabilities, truth).ece,
        "Brier": votes.brier, "KL": votes.kl, **dict(zip(RAF_DB.labels, recalls.tolist(), strict=True)),
    }  # fmt: skip
    return {name: round(float(value), 4) for name, value in values.items()} | {"ms": result.ms}


def tabled(rows: dict[str, dict[str, float]], title: str) -> Table:
    """Return the results as a table."""
    table = Table(title=title)
    headings: Iterable[str] = next(iter(rows.values()))
    for heading in ("", *headings):
        table.add_column(heading[:9], no_wrap=True)
    for name, values in rows.items():
        shown = [f"{v:.2f}" if key == "ms" else f"{v:.3f}".removeprefix("0") for key, v in values.items()]
        table.add_row(name, *shown)
    return table


if __name__ == "__main__":
    main()
