"""The training loop of emo-eyes: transformers' Trainer with our objective and an average of the weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import Dataset, Sampler
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from emo_llama_ros.data.ferplus import VotedFaces
from emo_llama_ros.errors import BadParameter
from emo_llama_ros.training.arguments import training_arguments
from emo_llama_ros.training.eyes.augment import Augmentation, augmented, plain
from emo_llama_ros.training.eyes.network import EmoEyes
from emo_llama_ros.training.eyes.operating_point import accuracy_and_uar
from emo_llama_ros.training.eyes.recipe import EyesRecipe
from emo_llama_ros.training.eyes.targets import Targets
from emo_llama_ros.training.progress import LOG_NAME, JsonLog, ProgressBar
from emo_llama_ros.training.sampling import BalancedSampler

CHECKPOINTS = "checkpoints"
_AVERAGE = "average.pt"
_BATCH = 256


class Learner(nn.Module):
    """The network with its augmentation and its loss; what is augmented how is drawn from torch's own generator."""

    def __init__(self, network: EmoEyes, size: int, recipe: EyesRecipe, prior: Tensor) -> None:
        super().__init__()
        self.network = network
        self._size = size
        self._how: Augmentation = recipe.augmentation
        self._disagreement = recipe.objective.disagreement
        self.register_buffer("_adjustment", recipe.objective.prior_exponent * prior.log(), persistent=False)

    def forward(self, images: Tensor, shares: Tensor, disagreement: Tensor) -> dict[str, Tensor]:
        """Return the loss of faces (N, K, 48, 48) uint8 with shares (N, 8) and disagreement (N,).

        One of a face's K pictures is taken at random.
        """
        pictures = augmented(_one_of(images), self._size, self._how).contiguous(memory_format=torch.channels_last)
        logits, doubt, _, _ = self.network(pictures)
        display_loss = -(shares * (logits + self._adjustment).log_softmax(1)).sum(1).mean()
        doubt_loss = F.binary_cross_entropy_with_logits(doubt, disagreement)
        return {"loss": display_loss + self._disagreement * doubt_loss}


def _one_of(images: Tensor) -> Tensor:
    if images.shape[1] == 1:
        return images[:, 0]
    taken = torch.randint(images.shape[1], (len(images),), device=images.device)
    return images[torch.arange(len(images), device=images.device), taken]


class VotedItems(Dataset[dict[str, Tensor]]):
    """Faces, each in K pictures (N, K, 48, 48) uint8, with their targets."""

    def __init__(self, images: npt.NDArray[np.uint8], targets: Targets) -> None:
        self._images = torch.from_numpy(images)
        self._shares = torch.from_numpy(targets.shares)
        self._disagreement = torch.from_numpy(targets.disagreement)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, place: int) -> dict[str, Tensor]:
        return {"images": self._images[place], "shares": self._shares[place],
                "disagreement": self._disagreement[place]}  # fmt: skip


class Average(TrainerCallback):
    """The moving average of the weights, kept with the checkpoints, measured on held-out faces after each epoch."""

    def __init__(self, network: EmoEyes, decay: float, size: int, held_out: VotedFaces) -> None:
        self.model = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
        self._network = network
        self._size = size
        self._held_out = held_out
        self.trainer: Trainer | None = None

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Follow the weights."""
        self.model.update_parameters(self._network)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Keep the average beside the checkpoint."""
        folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
        torch.save(self.model.state_dict(), folder / _AVERAGE)

    def resume(self, checkpoint: Path) -> None:
        """Go on from a checkpoint's average."""
        self.model.load_state_dict(torch.load(checkpoint / _AVERAGE, weights_only=True))

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Log how right the average is on the held-out faces, before any operating point is chosen."""
        assert self.trainer is not None
        logits, _ = predict(self.network, self._held_out.images, self._size)
        accuracy, uar = accuracy_and_uar(logits, self._held_out)
        self.trainer.log({"eval_accuracy": accuracy, "eval_uar": uar})

    @property
    def network(self) -> EmoEyes:
        """The averaged network, ready to be used."""
        network = self.model.module
        assert isinstance(network, EmoEyes)
        return network.eval()


class _EyesTrainer(Trainer):
    def __init__(self, *args: Any, sampler: Sampler[int], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sampler = sampler

    def _get_train_sampler(self, train_dataset: Dataset[Any] | None = None) -> Sampler[int] | None:
        return self._sampler

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        assert self.model is not None
        # Kernels lie channels last, which safetensors does not store.
        super()._save(output_dir, {name: tensor.contiguous() for name, tensor in self.model.state_dict().items()})


@dataclass(frozen=True, slots=True)
class Stage:
    """One run of the trainer."""

    name: str
    """What the log calls it."""
    checkpoints: str
    """Folder of its checkpoints in the run's output."""
    training: Mapping[str, Any]
    """Fields of TrainingArguments."""
    balance: float
    """Displays are drawn by their frequency to the power of 1 - balance."""


def stages(recipe: EyesRecipe, smoke: bool) -> list[Stage]:
    """Return the runs of a recipe: on faces as they lie, and then, where the recipe has it, on both framings."""
    changes = dict(recipe.smoke) if smoke else {}
    first = Stage(recipe.name, CHECKPOINTS, dict(recipe.training) | changes, recipe.faces.balance)
    if not recipe.finetuning:
        return [first]
    both = dict(recipe.training) | dict(recipe.finetuning) | changes
    return [first, Stage(f"{recipe.name}, both framings", f"{CHECKPOINTS}_2", both, recipe.finetuning_balance)]


def newest_checkpoint(stage: Stage, output: Path) -> Path | None:
    """Return the folder of the stage's newest checkpoint; None before the first."""
    folder = output / stage.checkpoints
    newest = get_last_checkpoint(str(folder)) if folder.is_dir() else None
    return None if newest is None else Path(newest)


def fit(
    network: EmoEyes,
    recipe: EyesRecipe,
    stage: Stage,
    images: npt.NDArray[np.uint8],
    targets: Targets,
    held_out: VotedFaces,
    output: Path,
    size: int,
    *,
    resume: bool,
) -> EmoEyes:
    """Train `network` in place on faces in K pictures each, `images` (N, K, 48, 48), and return its average.

    Checkpoints go to the stage's folder in `output`, the log to `output`/log.jsonl; `resume` goes on from the newest
    checkpoint. Raise BadParameter when there is none, or when the stage sets what TrainingArguments does not have.
    """
    arguments = _arguments(recipe, stage, output / stage.checkpoints)
    prior = torch.from_numpy(targets.shares.mean(0)).clamp(min=1e-4)
    learner = Learner(network.to(memory_format=torch.channels_last), size, recipe, prior)  # type: ignore[call-overload]
    average = Average(network, recipe.ema_decay, size, held_out)
    trainer = _EyesTrainer(
        model=learner,
        args=arguments,
        train_dataset=VotedItems(images, targets),
        optimizers=(_optimizer(learner, arguments), None),
        callbacks=[ProgressBar(stage.name), JsonLog(output / LOG_NAME, stage.name), average],
        sampler=BalancedSampler(_weights(targets, stage.balance), recipe.seed),
    )
    trainer.remove_callback(PrinterCallback)
    average.trainer = trainer
    checkpoint = newest_checkpoint(stage, output) if resume else None
    if resume and checkpoint is None:
        raise BadParameter(
            f"There is no checkpoint in {output / stage.checkpoints} to resume from; start without --resume."
        )
    if checkpoint is not None:
        average.resume(checkpoint)
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    return average.network


@torch.no_grad()
def predict(network: EmoEyes, images: npt.NDArray[np.uint8], size: int) -> tuple[Tensor, Tensor]:
    """Return logits (N, 8) and disagreement (N,) in [0, 1] of FER pictures, each the mean with the mirrored picture."""
    network.eval()
    logits, doubts = [], []
    device = next(network.parameters()).device
    for start in range(0, len(images), _BATCH):
        batch = torch.from_numpy(images[start : start + _BATCH]).to(device)
        views = [
            plain(batch, size, mirrored).contiguous(memory_format=torch.channels_last) for mirrored in (False, True)
        ]
        outputs = [network(view) for view in views]
        logits.append(torch.stack([o[0] for o in outputs]).mean(0))
        doubts.append(torch.stack([torch.sigmoid(o[1]) for o in outputs]).mean(0))
    return torch.cat(logits).cpu(), torch.cat(doubts).cpu()


def _weights(targets: Targets, balance: float) -> Tensor:
    """Return the sampling weight of each face (N,): the mean over its shares of the displays' frequency ** -balance."""
    if not balance:
        return torch.ones(len(targets.shares), dtype=torch.float64)
    frequency = targets.shares.mean(0)
    return torch.from_numpy((targets.shares * frequency**-balance).sum(1).astype(np.float64))


def _optimizer(learner: Learner, arguments: TrainingArguments) -> torch.optim.Optimizer:
    """Return AdamW that decays kernels and matrices, and neither norms nor biases."""
    parameters = [p for p in learner.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": arguments.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=arguments.learning_rate, betas=(arguments.adam_beta1, arguments.adam_beta2))


def _arguments(recipe: EyesRecipe, stage: Stage, folder: Path) -> TrainingArguments:
    ours = {"dataloader_num_workers": 0, "dataloader_drop_last": True, "label_names": [], "eval_strategy": "no"}
    return training_arguments(recipe.name, dict(stage.training) | ours, folder, recipe.seed)
