"""A whole run of the recipe of emo-eyes: faces with votes in, the network that the node carries out."""

from __future__ import annotations

import json
import platform
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import transformers

from emo_llama_ros.checksums import file_sha256
from emo_llama_ros.data.ferplus import VotedFaces, read_voted_faces
from emo_llama_ros.errors import BadData, BadParameter
from emo_llama_ros.faces.emo_eyes import CHECKSUMS, FORMAT, MANIFEST, NETWORK_FILE, TRAINING_LOG
from emo_llama_ros.install.fetch import trunk_file
from emo_llama_ros.labels import FERPLUS
from emo_llama_ros.training import progress
from emo_llama_ros.training.eyes.augment import plain
from emo_llama_ros.training.eyes.export import export
from emo_llama_ros.training.eyes.fit import fit, newest_checkpoint, predict, stages
from emo_llama_ros.training.eyes.framing import Framed, framed_on_all_cores
from emo_llama_ros.training.eyes.made_up import made_up_faces, made_up_framing
from emo_llama_ros.training.eyes.movements import fit_movements, held_out_logits
from emo_llama_ros.training.eyes.network import EmoEyes
from emo_llama_ros.training.eyes.operating_point import OperatingPoint, choose, operating_points, prior_of
from emo_llama_ros.training.eyes.pretrained import start_from_trunk
from emo_llama_ros.training.eyes.recipe import EyesRecipe
from emo_llama_ros.training.eyes.targets import disagreement_of, make_targets, split_training, usable

RESULT = "emo_eyes"
FRAMED = "framed"
_NORM_FACES = 2048


@dataclass(frozen=True, slots=True)
class EyesResult:
    """What a run made."""

    folder: Path
    """Network, manifest, log and checksums, as `faces.emo_eyes` reads them."""
    log: Path
    plot: Path
    point: OperatingPoint
    """The chosen operating point, as measured on the held-out part of the Training split."""


def train_eyes(
    recipe: EyesRecipe,
    source: str = "",
    output: Path | None = None,
    *,
    smoke: bool = False,
    resume: bool = False,
    smoke_faces: int = 1500,
) -> EyesResult:
    """Train emo-eyes and write what the node needs to `output`/emo_eyes.

    `source` is FER+ in a layout of `data.ferplus`; `smoke` trains on `smoke_faces` drawn ones from random weights
    instead. `resume` goes on from the newest checkpoint in `output`; without it, an earlier run's log and checkpoints
    there are deleted. Raise BadParameter when no source is named or there is nothing to resume, BadData when the source
    holds too few faces, and MissingModel when the public-domain trunk cannot be fetched.
    """
    output = output or Path(recipe.output)
    log = output / progress.LOG_NAME
    if smoke:
        recipe = replace(recipe, network=replace(recipe.network, start="nothing"))
    faces = made_up_faces(smoke_faces, recipe.seed) if smoke else _faces(recipe, source)
    transformers.set_seed(recipe.seed)
    train, held = split_training(faces, recipe.faces.held_out, recipe.seed)
    train &= usable(faces, recipe.faces.least_votes)
    if not train.any() or not (held & (faces.majority >= 0)).any() or len(np.unique(faces.group[held])) < 2:
        raise BadData("The source has too few faces of FER+'s Training split that ten people voted about.")
    first, *second = stages(recipe, smoke)
    if not resume:  # an earlier run's checkpoints may have higher numbers, and would be taken for this run's
        log.unlink(missing_ok=True)
        for stage in (first, *second):
            shutil.rmtree(output / stage.checkpoints, ignore_errors=True)
    training, held_out = faces.select(train), faces.select(held)
    targets = make_targets(training, recipe.faces.label_votes)
    progress.append(log, _header(recipe, training, held_out, smoke))
    size = recipe.network.size
    network = EmoEyes(recipe.network.dropout)
    if recipe.network.start == "trunk":
        pictures = plain(torch.from_numpy(training.images[:_NORM_FACES]), size)
        start_from_trunk(network, trunk_file(), pictures)
    network = fit(network, recipe, first, training.images[:, None], targets, held_out, output, size, resume=resume)
    seen = _framed(held_out, output, smoke)
    held_out = replace(held_out, images=seen.pictures)
    if second:
        both = np.stack([training.images, _framed(training, output, smoke).pictures], axis=1)
        go_on = resume and newest_checkpoint(second[0], output) is not None
        network = fit(network, recipe, second[0], both, targets, held_out, output, size, resume=go_on)
    folder = output / RESULT
    prior = prior_of(targets.shares, recipe.objective.least_frequency)
    chosen = publish(network, recipe, prior, held_out, seen.movements, folder, log)
    progress.plot(progress.read_log(log), output / progress.PLOT_NAME)
    return EyesResult(folder, log, output / progress.PLOT_NAME, chosen)


def publish(
    network: EmoEyes,
    recipe: EyesRecipe,
    prior: npt.NDArray[np.float64],
    held_out: VotedFaces,
    movements: npt.NDArray[np.float32],
    folder: Path,
    log: Path,
) -> OperatingPoint:
    """Choose the operating point on held-out faces, write all that the node needs to `folder`, and return the point.

    `prior` (8,) is the displays' frequency that operating points add back; faces and their `movements` (N, 32) are as
    the node sees them.
    Points are measured with movement layers that were fitted on other faces. The log names the weights it belongs to,
    and travels with them.
    """
    size = recipe.network.size
    logits, doubt = predict(network, held_out.images, size)
    voted = usable(held_out, recipe.faces.least_votes)
    shares = np.full((len(held_out), len(FERPLUS.labels)), np.nan, np.float32)
    shares[voted] = make_targets(held_out.select(voted), label_votes=0).shares
    decay = recipe.objective.movement_decay
    layer = fit_movements(logits[voted], movements[voted], shares[voted], decay)
    points = operating_points(held_out_logits(logits, movements, shares, decay, held_out.group), prior, held_out)
    alone = choose(operating_points(logits, prior, held_out))
    chosen = choose(points)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    export(network, layer, size, folder / NETWORK_FILE)
    manifest = {
        "format": FORMAT,
        "name": recipe.name,
        "labels": list(FERPLUS.labels),
        "size": size,
        "prior": prior.round(6).tolist(),
        "operating_point": chosen.exponent,
        "points": [point.to_json() for point in points],
        "measured_on": f"{int((held_out.majority >= 0).sum())} held-out faces of the Training split",
        "disagreement_correlation": _correlation(doubt, held_out),
    }
    _write_json(folder / MANIFEST, manifest)
    sums = {NETWORK_FILE: file_sha256(folder / NETWORK_FILE)}
    progress.append(log, {"weights": sums, "chosen": chosen.to_json(), "without_movements": alone.to_json()})
    shutil.copyfile(log, folder / TRAINING_LOG)
    _write_json(folder / CHECKSUMS, {f.name: file_sha256(f) for f in sorted(folder.iterdir())})
    return chosen


def _faces(recipe: EyesRecipe, source: str) -> VotedFaces:
    path = source or recipe.faces.source
    if not path:
        raise BadParameter(
            "This recipe trains on FER+, which you must have: name it with --data (a folder with fer2013.csv and "
            "fer2013new.csv, the folders of pictures, or an .npz), or try the recipe on drawn faces with --smoke."
        )
    return read_voted_faces(path)


def _framed(faces: VotedFaces, output: Path, smoke: bool) -> Framed:
    """Return faces as the node finds and cuts them; drawn ones, in which it would find none, with drawn movements."""
    return made_up_framing(faces) if smoke else framed_on_all_cores(faces.images, output / FRAMED)


def _header(recipe: EyesRecipe, training: VotedFaces, held_out: VotedFaces, smoke: bool) -> dict[str, Any]:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{platform.machine()} CPU"
    return {
        "recipe": asdict(recipe),
        "smoke": smoke,
        "faces": len(training),
        "held_out": len(held_out),
        "torch": torch.__version__,
        "device": device,
        "threads": torch.get_num_threads(),
    }


def _correlation(doubt: torch.Tensor, faces: VotedFaces) -> float:
    """Return the correlation of the expected with the real disagreement."""
    real = torch.from_numpy(disagreement_of(faces.votes[:, : len(FERPLUS.labels)]))
    return round(float(torch.corrcoef(torch.stack([doubt, real]))[0, 1]), 4)


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
