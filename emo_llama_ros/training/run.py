"""A whole training run: recipe in, checkpoint or adapter out."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from accelerate import PartialState

from emo_llama_ros import prompts
from emo_llama_ros.checksums import file_sha256
from emo_llama_ros.errors import BadParameter
from emo_llama_ros.labels import RAF_DB
from emo_llama_ros.model.checkpoint import CALIBRATION, Manifest, open_checkpoint, write_checksums
from emo_llama_ros.model.configuration import FORMAT, EmoLlamaConfig, FaceConfig
from emo_llama_ros.model.loading import load_model, save_model
from emo_llama_ros.model.modeling import EmoLlama
from emo_llama_ros.training import progress
from emo_llama_ros.training.recipe import Recipe
from emo_llama_ros.training.source import Source, make_source
from emo_llama_ros.training.trainer import delete_checkpoints, fit, newest_checkpoint

RESULT = "model"
ADAPTER = "adapter"
TRAINING_LOG = "training_log.jsonl"


@dataclass(frozen=True, slots=True)
class Result:
    """What a run made."""

    folder: Path
    """A checkpoint folder, or the adapters of one."""
    log: Path
    plot: Path
    figures: dict[str, float]


def train(recipe: Recipe, output: Path | None = None, *, smoke: bool = False, resume: bool = False) -> Result:
    """Run all stages of a recipe and save the result; `smoke` runs each in the small form that the recipe gives.

    `resume` goes on from the newest checkpoint of the last stage that has one; without it, an earlier run's log and
    checkpoints in `output` are deleted. Raise BadParameter for a recipe that contradicts itself, or when there is
    nothing to resume, and what loading the checkpoint may raise.
    """
    output = output or Path(recipe.output)
    log = output / progress.LOG_NAME
    begun = [stage.name for stage in recipe.stages if resume and newest_checkpoint(stage, output)]
    if resume and not begun:
        raise BadParameter(f"There is no checkpoint in {output} to resume from; start without --resume.")
    processes = PartialState(cpu=not torch.cuda.is_available())
    transformers.set_seed(recipe.seed)
    if processes.is_main_process:
        if not resume:
            log.unlink(missing_ok=True)
            for stage in recipe.stages:  # of later ones too, or this run's --resume would find them done
                delete_checkpoints(stage, output)
        progress.append(log, {"recipe": recipe.name, "seed": recipe.seed, "smoke": smoke, **_environment()})
    with processes.main_process_first():  # a source may write files that the others then find
        source = make_source(recipe, output, smoke)
    model = _make_model(recipe, source)
    source.prepare(model)
    groups = list(recipe.groups)
    if recipe.lora:
        from emo_llama_ros.training.adapter import add_lora

        groups.insert(0, add_lora(model, recipe.lora))
    figures: dict[str, float] = {}
    for number, stage in enumerate(recipe.stages):
        items, held_out = source.items(stage.data, number)
        figures = fit(
            model,
            stage,
            groups,
            items,
            source.collate,
            output,
            seed=recipe.seed + number,
            sampler=source.sampler(items, recipe.seed + number),
            held_out=held_out,
            smoke=smoke,
            resume=stage.name in begun,
        )
    processes = PartialState()  # the trainer made a new one
    if processes.is_main_process:
        _save(model, recipe, source, output)
        progress.plot(progress.read_log(log), output / progress.PLOT_NAME)
    processes.wait_for_everyone()
    folder = output / (ADAPTER if recipe.model.checkpoint else RESULT)
    return Result(folder, log, output / progress.PLOT_NAME, figures)


def _make_model(recipe: Recipe, source: Source) -> EmoLlama:
    wanted = recipe.model
    if wanted.checkpoint and wanted.config:
        raise BadParameter("A recipe gives either model.checkpoint or model.config, not both.")
    if wanted.checkpoint:
        base = open_checkpoint(wanted.checkpoint).config
        # The face branch of a checkpoint that has one goes on training.
        face = _face_config(wanted.face) if wanted.face and base.face is None else None
        model, _ = load_model(
            wanted.checkpoint, quantization=wanted.quantization, dtype=wanted.dtype, new_face_branch=face
        )
        if face is not None and base.qformer is not None:
            model.init_face_aggregator()
        return model
    if wanted.quantization != "none" or recipe.lora:
        raise BadParameter("LoRA and quantization need a base: set model.checkpoint.")
    return EmoLlama(source.sized(_config(wanted.config)))


def _config(values: Mapping[str, Any]) -> EmoLlamaConfig:
    return EmoLlamaConfig.from_dict({"format": FORMAT, **values})


def _face_config(values: Mapping[str, Any]) -> FaceConfig:
    face = EmoLlamaConfig.from_dict({"format": FORMAT, "face": dict(values)}).face
    assert face is not None
    return face


def _save(model: EmoLlama, recipe: Recipe, source: Source, output: Path) -> None:
    if recipe.model.checkpoint:
        from emo_llama_ros.training.adapter import save_adapter

        folder = output / ADAPTER
        shutil.rmtree(folder, ignore_errors=True)
        save_adapter(model, recipe.lora, folder)
        return
    folder = output / RESULT
    shutil.rmtree(folder, ignore_errors=True)
    figures = source.finish(model)
    save_model(model.to("cpu", torch.float16), folder, Manifest(prompt_hash=prompts.prompt_hash(), base=recipe.name))
    for file in source.tokenizer_files:
        shutil.copyfile(file, folder / file.name)
    if figures is not None:
        figures.save(folder / CALIBRATION, RAF_DB, f"{figures.samples} held-out sampled clips")
    # The log says which weights it belongs to, and travels with them.
    weights = {file.name: file_sha256(file) for file in sorted(folder.glob("*.safetensors"))}
    progress.append(output / progress.LOG_NAME, {"weights": weights})
    shutil.copyfile(output / progress.LOG_NAME, folder / TRAINING_LOG)
    write_checksums(folder)


def _environment() -> dict[str, str]:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{platform.machine()} CPU"
    return {"torch": torch.__version__, "transformers": transformers.__version__, "device": device}
