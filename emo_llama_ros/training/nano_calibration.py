"""Calibrate emo-llama-nano on votes: `python -m emo_llama_ros.training.nano_calibration --data FERPLUS`.

nano's probabilities come from its label likelihoods, which are surer than people are. Its temperature is fitted on the
votes for faces of FER+ that emo-eyes did not learn from, found and read by the whole product, so that a probability is
the share of people who would choose the label. Then the same is measured on PublicTest, beside emo-eyes.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from emo_llama_ros.backends.backend import Backend
from emo_llama_ros.backends.registry import make_backend
from emo_llama_ros.calibration import save_temperature
from emo_llama_ros.data.datasets.clip_source import Faces, clip_of
from emo_llama_ros.data.ferplus import VotedFaces, read_voted_faces
from emo_llama_ros.estimate import Status
from emo_llama_ros.evaluation.calibration_fit import temperature_on_votes
from emo_llama_ros.evaluation.metrics import calibration_of, vote_scores
from emo_llama_ros.faces.emo_eyes import FOLDER, TRAINING_LOG
from emo_llama_ros.faces.make import make_analyzer
from emo_llama_ros.frames import Frame
from emo_llama_ros.labels import FERPLUS, RAF_DB
from emo_llama_ros.model.checkpoint import CALIBRATION, NANO, write_checksums
from emo_llama_ros.options import Options
from emo_llama_ros.perception.clips import Clip
from emo_llama_ros.training.eyes.framing import enlarged
from emo_llama_ros.training.eyes.operating_point import counted_shares
from emo_llama_ros.training.eyes.targets import split_training

FloatArray = npt.NDArray[np.float64]

_SEVEN = [FERPLUS.labels.index(label) for label in RAF_DB.labels]


def main() -> None:
    """Fit, write calibration.json, and print what it does."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="FER+, as the recipe of emo-eyes takes it")
    parser.add_argument("--faces", type=int, default=1500, help="at most so many of each part")
    parser.add_argument("--dry-run", action="store_true", help="write nothing")
    arguments = parser.parse_args()
    faces = read_voted_faces(arguments.data)
    log = json.loads((FOLDER / TRAINING_LOG).read_text(encoding="utf-8").splitlines()[0])
    _, held = split_training(faces, log["recipe"]["faces"]["held_out"], log["recipe"]["seed"])
    parts = {"held out": faces.select(held), "PublicTest": faces.of_split("validation")}
    options = Options(backend="emo_llama")
    with tempfile.TemporaryDirectory() as folder:
        identity = Path(folder) / "identity.json"
        save_temperature(identity, RAF_DB, 1.0)
        nano = make_backend(options.with_values({"calibration_file": str(identity)}))
        nano.load()
    eyes = make_backend(options.with_values({"backend": "expression"}))
    eyes.load()
    temperature = 0.0
    for name, part in parts.items():
        chosen = _spread(part.select(np.isin(part.majority, _SEVEN)), arguments.faces)
        clips, found = _clips(chosen, options)
        chosen = chosen.select(found)
        shares = counted_shares(chosen)
        truth = np.array([_SEVEN.index(place) for place in chosen.majority])
        raw = np.log(np.maximum(_probabilities(nano, clips), 1e-9))
        if not temperature:
            temperature = temperature_on_votes(raw, shares)
            print(f"temperature {temperature:.4f}, fitted on the votes for {len(chosen)} faces")
        rows = {
            "nano, not calibrated": np.exp(raw),
            "nano": softmax(raw / temperature, axis=1),
            "emo-eyes": _probabilities(eyes, clips),
        }
        for who, probabilities in rows.items():
            accuracy = float((probabilities.argmax(1) == truth).mean())
            sure = float(probabilities.max(1).mean())
            votes = vote_scores(probabilities, shares)
            print(
                f"{name:10} n {len(truth)} {who:20} accuracy {accuracy:.3f} mean confidence {sure:.3f} "
                f"ECE {calibration_of(probabilities, truth).ece:.3f} Brier {votes.brier:.3f} KL {votes.kl:.3f}"
            )
    if not arguments.dry_run:
        fitted_on = "votes of FER+ for held-out faces of the Training split"
        save_temperature(NANO / CALIBRATION, RAF_DB, temperature, fitted_on=fitted_on)
        write_checksums(NANO)


def _spread(faces: VotedFaces, most: int) -> VotedFaces:
    step = max(1, -(-len(faces) // most))
    return faces.select(np.arange(0, len(faces), step))


def _clips(faces: VotedFaces, options: Options) -> tuple[list[Clip], npt.NDArray[np.intp]]:
    """Return a still clip of each face that is found, and their places."""
    made = list(_found(faces, options))
    return [clip for _, clip in made], np.array([place for place, _ in made], np.intp)


def _found(faces: VotedFaces, options: Options) -> Iterator[tuple[int, Clip]]:
    analyzer = make_analyzer(options)
    for place, image in enumerate(faces.images):
        rgb = np.ascontiguousarray(np.repeat(enlarged(image)[:, :, None], 3, axis=2))
        clip = clip_of([Frame(0, "", rgb)], str(place), Faces.PAD, analyzer, options)
        if clip is not None:
            yield place, clip


def _probabilities(backend: Backend, clips: Sequence[Clip]) -> FloatArray:
    answers = [answer for clip in clips for answer in backend.label([clip])]
    assert all(answer.status is Status.OK for answer in answers)
    return np.array([answer.probabilities for answer in answers])


if __name__ == "__main__":
    main()
