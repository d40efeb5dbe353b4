"""The recipe of emo-eyes: one YAML file with every hyper-parameter of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emo_llama_ros.errors import BadParameter
from emo_llama_ros.training.eyes.augment import Augmentation
from emo_llama_ros.training.eyes.network import picture_size_fits
from emo_llama_ros.training.recipe import read_yaml, section


@dataclass(frozen=True, slots=True)
class Network:
    """What is trained."""

    size: int = 67
    """Pixels per side of the pictures that the network sees."""
    dropout: float = 0.3
    start: str = "trunk"
    """trunk: dlib's public-domain face recognition network up to 128 channels; nothing: random weights."""


@dataclass(frozen=True, slots=True)
class Faces:
    """Which faces train, and what is to be said of them."""

    source: str = ""
    """FER+ as `data.ferplus.read_voted_faces` reads it, unless the command names it; empty: the user must."""
    held_out: float = 0.1
    """Share of the Training split's groups that the operating point and the temperature are chosen on."""
    least_votes: int = 4
    label_votes: float = 3.0
    """How many people's votes FER2013's own label counts for; see `targets.make_targets`."""
    balance: float = 0.0
    """Displays are drawn by their frequency to the power of 1 - balance."""


@dataclass(frozen=True, slots=True)
class Objective:
    """What the loss is made of."""

    prior_exponent: float = 0.5
    """The displays' frequency to this power is added in training and left out after (logit adjustment, Menon et al.,
    ICLR 2021): 0 follows the data's skew, 1 makes every display equally likely."""
    least_frequency: float = 0.0
    """Displays rarer than this count as this frequent where their frequency is added back: what hardly anybody shows
    would hardly ever be said."""
    disagreement: float = 0.2
    """Weight of the cross-entropy of the expected disagreement."""
    movement_decay: float = 0.02
    """Weight of the squared weights of the layer that adds what movements say; see `movements.fit_movements`."""


@dataclass(frozen=True, slots=True)
class EyesRecipe:
    """A whole run."""

    name: str
    kind: str
    output: str
    seed: int
    network: Network
    faces: Faces
    objective: Objective
    training: Mapping[str, Any]
    """Fields of `transformers.TrainingArguments`, under their own names, of a run on faces as they lie in FER's
    pictures."""
    finetuning: Mapping[str, Any] = field(default_factory=dict)
    """What a second run changes in `training`; none where it is empty. It goes on from the average of the first, and
    sees each face at random as it lies or as the node finds and cuts it (`framing`)."""
    finetuning_balance: float = 0.0
    """`faces.balance` of the second run: drawing rare displays more often pays late in training (deferred
    re-balancing, Cao et al., NeurIPS 2019)."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    ema_decay: float = 0.998
    """The published weights are the exponential moving average of the trained ones, with this decay a step."""
    smoke: Mapping[str, Any] = field(default_factory=dict)
    """What `--smoke` changes in `training`."""


def load_eyes_recipe(path: str | Path) -> EyesRecipe:
    """Read a recipe; raise BadParameter naming the first key that is missing, unknown or of the wrong kind."""
    top = section(EyesRecipe, read_yaml(path), str(path))
    parts = {"network": Network, "faces": Faces, "objective": Objective, "augmentation": Augmentation}
    for name, kind in parts.items():
        if not isinstance(top.get(name), kind):
            top[name] = kind(**section(kind, top.get(name, {}), f"{path}: {name}"))
    recipe = EyesRecipe(**top)
    if recipe.network.start not in ("trunk", "nothing"):
        raise BadParameter(f"{path}: network.start must be trunk or nothing, not '{recipe.network.start}'.")
    if not picture_size_fits(recipe.network.size):
        fitting = [str(s) for s in range(40, 140) if picture_size_fits(s)]
        raise BadParameter(f"{path}: network.size must be one of {', '.join(fitting)}, not {recipe.network.size}.")
    return recipe
