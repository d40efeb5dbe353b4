"""Instruction tuning of an EMO-LLaMA: transformers' Trainer with our parameter groups, sampler, figures and log.

Mixed precision, gradient accumulation and checkpointing, schedules, several GPUs (`accelerate launch`) and resuming
are the Trainer's own; a recipe sets them under the names of `transformers.TrainingArguments`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, Sampler
from transformers import EvalPrediction, PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, get_last_checkpoint

from emo_llama_ros.errors import BadParameter
from emo_llama_ros.model.modeling import EmoLlama
from emo_llama_ros.training.arguments import training_arguments
from emo_llama_ros.training.collate import Collate, Item, Tunable
from emo_llama_ros.training.optimizer import make_optimizer, trainable_groups
from emo_llama_ros.training.progress import LOG_NAME, JsonLog, ProgressBar
from emo_llama_ros.training.recipe import ParameterGroup, Stage


def fit(
    model: EmoLlama,
    stage: Stage,
    groups: Sequence[ParameterGroup],
    items: Dataset[Item],
    collate: Collate,
    output: Path,
    *,
    seed: int,
    sampler: Sampler[int] | None = None,
    held_out: Dataset[Item] | None = None,
    smoke: bool = False,
    resume: bool = False,
    callbacks: Sequence[TrainerCallback] = (),
) -> dict[str, float]:
    """Train `model` in place through one stage and return its last figures.

    Checkpoints, of what trains only, go to `output`/stage; `resume` goes on from the newest and ends at the very
    weights that an uninterrupted run gives. Without it, those of an earlier run are deleted. The JSON log is
    `output`/log.jsonl. Raise BadParameter when the recipe names a field that TrainingArguments does not have, or when
    there is nothing to resume.
    """
    checkpoint = newest_checkpoint(stage, output) if resume else None
    if resume and checkpoint is None:
        raise BadParameter(f"There is no checkpoint in {output / stage.name} to resume from; start without --resume.")
    arguments = _arguments(stage, output / stage.name, seed, smoke)
    tunable = Tunable(model)
    factor = stage.learning_rate_factor
    scaled = [
        replace(g, learning_rate=g.learning_rate * factor, matrix_learning_rate=g.matrix_learning_rate * factor)
        for g in groups
    ]
    parameters = trainable_groups(tunable, scaled, masters=arguments.bf16)
    trainer = AnswerTrainer(
        model=tunable,
        args=arguments,
        data_collator=collate,
        train_dataset=items,
        eval_dataset=held_out,
        compute_metrics=answer_metrics,
        optimizers=(make_optimizer(parameters, (arguments.adam_beta1, arguments.adam_beta2)), None),
        callbacks=[ProgressBar(stage.name), JsonLog(output / LOG_NAME, stage.name), *callbacks],
        sampler=sampler,
    )
    trainer.remove_callback(PrinterCallback)
    if not resume and trainer.is_world_process_zero():
        delete_checkpoints(stage, output)
    trainer.train(resume_from_checkpoint=checkpoint)
    if held_out is not None:
        trainer.evaluate()
    model.eval()
    figures: dict[str, float] = {}
    for entry in trainer.state.log_history:
        figures.update(entry)
    return figures


def newest_checkpoint(stage: Stage, output: Path) -> str | None:
    """Return the folder of the stage's newest checkpoint; None before the first."""
    folder = output / stage.name
    return get_last_checkpoint(str(folder)) if folder.is_dir() else None


def delete_checkpoints(stage: Stage, output: Path) -> None:
    """Delete the stage's checkpoints: an earlier run's may have higher numbers, and would be taken for this run's."""
    for folder in (output / stage.name).glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
        shutil.rmtree(folder)


def trainable_state(model: nn.Module) -> dict[str, Tensor]:
    """Return what a run changes: the parameters that train, and the buffers that are saved with a model."""
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    # With duplicates: a tied head goes by two names, and one is enough.
    others = {name for name, _ in model.named_parameters(remove_duplicate=False)} - trained
    return {name: tensor for name, tensor in model.state_dict().items() if name not in others}


class AnswerTrainer(Trainer):
    """Trainer that samples by `sampler`, counts right answer tokens, and checkpoints only what trains."""

    def __init__(self, *args: Any, sampler: Sampler[int] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sampler = sampler
        self._counts: Tensor | float = 0.0

    def _get_train_sampler(self, train_dataset: Dataset[Item] | None = None) -> Sampler[int] | None:
        return self._sampler or super()._get_train_sampler(train_dataset)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Return the model's loss, and count the right answer tokens on the way."""
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        if model.training:
            self._counts = self._counts + outputs["counts"].detach().sum(0)
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Add the accuracy since the last log."""
        if "loss" in logs and isinstance(self._counts, Tensor):
            right, answered, _ = self.accelerator.reduce(self._counts.double(), reduction="sum").tolist()
            logs["token_accuracy"] = right / max(answered, 1.0)
            self._counts = 0.0
        super().log(logs, *args, **kwargs)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        assert self.model is not None
        super()._save(output_dir, trainable_state(self.model))

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        # Frozen weights are missing in our checkpoints on purpose; anything unexpected is not.
        if load_result.unexpected_keys:
            raise BadParameter(f"The checkpoint does not fit this recipe: it has {load_result.unexpected_keys[0]}.")


def answer_metrics(prediction: EvalPrediction) -> dict[str, float]:
    """Return the share of right answer tokens, and of answers that are right from end to end."""
    counts: Any = prediction.predictions
    right, answered, whole = counts.sum(0)
    return {"token_accuracy": float(right / answered), "answer_accuracy": float(whole / len(counts))}


def _arguments(stage: Stage, folder: Path, seed: int, smoke: bool) -> TrainingArguments:
    """Return the stage's arguments, fitted to the machine: bf16 where it is fast, and loaders a core each."""
    values = dict(stage.training) | (dict(stage.smoke) if smoke else {})
    loaders = min(values.get("dataloader_num_workers", 0), len(os.sched_getaffinity(0)) - 1)
    if not loaders:
        values["dataloader_prefetch_factor"] = None
    ours = {
        "bf16": bool(values.get("bf16")) and _computes_in_bf16(),
        "dataloader_num_workers": loaders,
        "label_names": ["labels"],
    }
    return training_arguments(stage.name, values | ours, folder, seed)


def _computes_in_bf16() -> bool:
    """Return whether bfloat16 is faster than float32 here: on a GPU, or on a CPU with instructions for it."""
    if torch.cuda.is_available():
        return True
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
