"""Measure emo-eyes on labelled faces, beside the expression network that this package used before it.

    python benchmarks/eyes.py --faces FERPLUS [--split validation] [--json FILE]

FERPLUS is what `emo_llama train config/train/eyes.yaml --data` takes: a folder with fer2013.csv and fer2013new.csv, the
folders of pictures, or an .npz. Both networks see the same pictures in one run, each as it was trained to see them,
without finding faces first, on one thread. The faces are those of the split (PublicTest) whose majority is one of seven
displays. The table of operating points shows what a robot would get at the neighbours of the shipped one; nothing is
chosen on these faces. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
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

from emo_llama_ros.data.ferplus import SIDE, VotedFaces, read_voted_faces
from emo_llama_ros.evaluation.metrics import calibration_of, confusion_of, vote_scores, war_uar
from emo_llama_ros.faces.alignment import Roi, cut
from emo_llama_ros.faces.emo_eyes import FOLDER, FRAME, NETWORK_FILE, EmoEyes
from emo_llama_ros.faces.expression import Reading
from emo_llama_ros.install.fetch import earlier_file
from emo_llama_ros.labels import FERPLUS, RAF_DB

SEVEN = [FERPLUS.labels.index(label) for label in RAF_DB.labels]
NEIGHBOURS = (-0.2, -0.1, 0.1, 0.2)


@dataclass(frozen=True, slots=True)
class Result:
    """What a network gave on N faces."""

    accuracy: float
    uar: float
    recalls: list[float]
    ece: float
    brier: float
    kl: float
    ms: float
    """Median milliseconds a face, all views."""
    disagreement: float = float("nan")
    """Correlation of the expected with the real disagreement."""


def main() -> None:
    """Print both tables and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", required=True, help="FER+, see above")
    parser.add_argument("--split", default="validation", choices=("validation", "test"), help="PublicTest, PrivateTest")
    parser.add_argument("--json", type=Path, help="also write the JSON line here")
    arguments = parser.parse_args()
    faces = read_voted_faces(arguments.faces).of_split(arguments.split)
    faces = faces.select(np.isin(faces.majority, SEVEN))
    frame = Roi((SIDE - 1) / 2, (SIDE - 1) / 2, SIDE * FRAME)
    base = MiniXception(earlier_file(EARLIER_FILE))
    shipped = EmoEyes()
    point = shipped.manifest.operating_point
    rows: dict[str, Result] = {}
    rows["mini-Xception (before)"] = measure(lambda face: base.read_picture(face), faces)
    for exponent in sorted({point, *(round(point + step, 1) for step in NEIGHBOURS)}):
        network = EmoEyes(operating_point=exponent)
        size = network.manifest.size
        name = f"emo-eyes, {exponent:+.1f}" + (" (shipped)" if exponent == point else "")
        rows[name] = measure(
            lambda face, n=network, s=size: n.read_picture(cut(face, frame, s, repeat_edge=True)), faces
        )  # type: ignore[misc]
    ours = next(result for name, result in rows.items() if "shipped" in name)
    before = rows["mini-Xception (before)"]
    console = Console()
    console.print(tabled(rows, len(faces), arguments.split))
    weight = (FOLDER / NETWORK_FILE).stat().st_size
    console.print(
        f"emo-eyes: {weight} bytes, {ours.ms:.2f} ms a face on one thread, {ours.ms / before.ms:.2f} × mini-Xception; "
        f"its expected disagreement correlates {ours.disagreement:.2f} with that of the ten people."
    )
    line = json.dumps(
        {
            "n": len(faces), "split": arguments.split, "operating_point": point,
            "acc": round(ours.accuracy, 4), "uar": round(ours.uar, 4), "ece": round(ours.ece, 4),
            "brier_votes": round(ours.brier, 4), "kl_votes": round(ours.kl, 4),
            "recalls": {label: round(r, 4) for label, r in zip(RAF_DB.labels, ours.recalls, strict=True)},
            "ms_per_face": round(ours.ms, 3), "bytes": weight,
            "base_acc": round(before.accuracy, 4), "base_uar": round(before.uar, 4), "base_ece": round(before.ece, 4),
            "base_ms_per_face": round(before.ms, 3),
        }
    )  # fmt: skip
    if arguments.json:
        arguments.json.write_text(line + "\n", encoding="utf-8")
    print(line)


def measure(read: Callable[[npt.NDArray[np.uint8]], Reading], faces: VotedFaces) -> Result:
    """Return what `read` gives on FER pictures (48, 48), one at a time."""
    readings, times = [], []
    for picture in faces.images:
        start = time.perf_counter()
        readings.append(read(picture))
        times.append(time.perf_counter() - start)
    probabilities = np.array([reading.probabilities for reading in readings], np.float64)
    truth = np.array([SEVEN.index(place) for place in faces.majority])
    confusion = confusion_of(truth, probabilities.argmax(1), len(SEVEN))
    war, uar = war_uar(confusion)
    votes = vote_scores(probabilities, faces.shares(RAF_DB))
    doubts = np.array([reading.disagreement for reading in readings])
    real = entropy(faces.votes[:, : len(FERPLUS.labels)])
    return Result(
        float(war),
        float(uar),
        (np.diag(confusion) / np.maximum(confusion.sum(1), 1)).tolist(),
        calibration_of(probabilities, truth).ece,
        votes.brier,
        votes.kl,
        float(np.median(times)) * 1e3,
        float(np.corrcoef(doubts, real)[0, 1]) if np.isfinite(doubts).all() else float("nan"),
    )


def entropy(votes: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Return the entropy of votes (N, C), (N,) nats."""
    shares = votes / votes.sum(1, keepdims=True)
    return np.asarray(-(shares * np.log(np.where(shares > 0, shares, 1))).sum(1))


def tabled(rows: dict[str, Result], count: int, split: str) -> Table:
    """Return the results as a table."""
    table = Table(title=f"FER+ {split}, majority, 7 displays, n = {count}")
    for heading in ("", "accuracy", "UAR", "ECE", "Brier", "KL", *(label[:5] for label in RAF_DB.labels), "ms"):
        table.add_column(heading, no_wrap=True)
    for name, r in rows.items():
        figures = [r.accuracy, r.uar, r.ece, r.brier, r.kl, *r.recalls]
        table.add_row(name, *(f"{value:.3f}".removeprefix("0") for value in figures), f"{r.ms:.2f}")
    return table


if __name__ == "__main__":
    main()
