"""A tiny LLaMA-VID with all parts of the 7B, and sixteen generated records: images and videos, labels and talk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from emo_llama_ros import prompts
from emo_llama_ros.data.records import Record, write_records
from emo_llama_ros.labels import RAF_DB
from emo_llama_ros.prompts import label_turn, reasoning_turn
from emo_llama_ros.training.recipe import Recipe, load_recipe

FRAMES = 4
EMBEDDING, LANDMARKS, EVIDENCE = 16, 68, 5
FACE = {
    "embedding_dim": EMBEDDING,
    "embedding_is_map": False,
    "landmark_hidden_size": 24,
    "evidence_dim": EVIDENCE,
    "evidence_hidden_size": 24,
    "hidden_size": 40,
    "num_attention_heads": 4,
}
REASONS = ("The mouth is parted.", "The lip is pressed.", "The visible face is brief.")


def write_base(tiny_checkpoints, folder: Path) -> Path:
    """Write a LLaMA-VID of random weights, without a face branch; tokens are as far apart as those of a trained one."""
    from tiny_checkpoint import write_ours

    model = tiny_checkpoints.model(tiny_checkpoints.config(face=False))
    with torch.no_grad():
        model.language_model.lm_head.weight.mul_(6.0)
        model.language_model.get_input_embeddings().weight.mul_(6.0)
    write_ours(model, folder)
    return folder


def write_sixteen(folder: Path) -> Path:
    """Write sixteen records with pictures and face measurements; returns the record file."""
    rng = np.random.default_rng(0)
    records = []
    for i in range(16):
        video, label = i % 2 == 1, RAF_DB.labels[i % 7]
        name = f"{i}" if video else f"{i}.png"
        pictures = [folder / name / f"{n}.png" for n in range(9)] if video else [folder / name]
        for picture in pictures:
            picture.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(picture), rng.integers(0, 256, (48, 64, 3), np.uint8))
        rows = np.arange(FRAMES if video else 1)
        if i == 3:
            rows = rows[:-1]  # one frame does not show the face
        np.savez(
            folder / f"{i}.npz",
            rows=rows,
            embedding=rng.normal(size=(len(rows), EMBEDDING)).astype(np.float32),
            landmarks=rng.uniform(-1, 1, (len(rows), LANDMARKS, 2)).astype(np.float32),
            evidence=rng.uniform(0, 1, (len(rows), EVIDENCE)).astype(np.float32),
        )
        talk = i % 4 >= 2
        turns = (label_turn(RAF_DB, video=video, answer=label), reasoning_turn(REASONS[i % 3]))
        records.append(
            Record(
                f"sample-{i}",
                "video" if video else "image",
                name,
                turns[: 1 + talk],
                "conversation" if talk else "category",
                label,
                priors=f"{i}.npz",
            )
        )
    write_records(folder / "records.jsonl", records)
    return folder / "records.jsonl"


def miniature(
    recipe_file: Path, base: Path, records: Path, *, quantization: str, steps: int, rate: float, **training: Any
) -> Recipe:
    """Return the 7B's recipe for a base and records of tiny sizes: everything not named here is the recipe's own."""
    recipe = load_recipe(recipe_file)
    assert recipe.lora
    face = {**FACE, "aggregator": {"hidden_size": 32, "intermediate_size": 96, "num_hidden_layers": 2,
            "num_attention_heads": 4, "vocab_size": _words(base), "max_position_embeddings": 256,
            "max_prompt_tokens": 256, "num_query": 2, "dropout": 0.0}}  # fmt: skip
    training = {
        **recipe.stages[0].training,
        "max_steps": steps,
        "warmup_steps": 0,
        "per_device_train_batch_size": 8,
        "gradient_accumulation_steps": 2,
        "dataloader_num_workers": 0,
        "logging_steps": max(steps // 10, 1),
        "save_strategy": "no",
        "use_cpu": True,
        **training,
    }
    return replace(
        recipe,
        model=replace(
            recipe.model, checkpoint=str(base), quantization=quantization, dtype="float32", face=face
        ),
        data={"source": "records", "records": [str(records)], "held_out": [str(records)], "view": "frame",
              "frames": FRAMES, "balance": 0.0, "conversation_share": None},
        lora=replace(recipe.lora, dropout=0.0, learning_rate=rate),
        groups=tuple(replace(group, learning_rate=rate) for group in recipe.groups),
        stages=(replace(recipe.stages[0], training=training),),
    )  # fmt: skip


def answers(model, items, collate, longest: int = 24) -> list[str]:
    """Return what a model answers to each item's last question, word by word and without help (greedy)."""
    from emo_llama_ros.model.face_mining import FacePriors
    from emo_llama_ros.model.modeling import ClipInputs
    from emo_llama_ros.model.processing import tokenize_prompt
    from emo_llama_ros.prompts import Turn

    tokenizer, said = collate.text_tokenizer, []
    for item in items:
        turns = [*item.turns[:-1], Turn(item.turns[-1].question, None, item.turns[-1].image)]
        ids = tokenize_prompt(prompts.render(turns), tokenizer)
        read = collate.prompt_tokenizer(prompts.qformer_prompts(turns))
        priors = item.face_priors
        assert isinstance(priors, FacePriors)
        features = model.encode_frames(item.pixel_values.to(model.dtype))
        clip = ClipInputs(read.ids, read.mask, features, priors.to("cpu", model.dtype))
        blocks = model.visual_blocks([clip])
        start = len(ids)
        with torch.inference_mode():
            while len(ids) < start + longest and ids[-1] != tokenizer.eos_id:
                merged = model.merge(torch.tensor([ids]), blocks)
                logits = model.language_model(inputs_embeds=merged.inputs_embeds, use_cache=False).logits
                ids.append(int(logits[0, -1].argmax()))
        said.append(tokenizer.decode(ids[start:]).strip())
    return said


def _words(base: Path) -> int:
    from emo_llama_ros.model.checkpoint import open_checkpoint

    config = open_checkpoint(base).config
    assert config.qformer
    return config.qformer.vocab_size
