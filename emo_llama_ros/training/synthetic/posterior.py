"""What a model in training makes of clips, and how sure it may be of that."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from emo_llama_ros.evaluation.calibration_fit import Fit, fit
from emo_llama_ros.evaluation.prediction import Prediction
from emo_llama_ros.labels import RAF_DB
from emo_llama_ros.model.modeling import EmoLlama
from emo_llama_ros.training import batched_clips
from emo_llama_ros.training.collate import Collate, Item
from emo_llama_ros.training.synthetic.clips import SyntheticClips
from emo_llama_ros.training.synthetic.items import label_question


def posteriors(
    model: EmoLlama, collate: Collate, clips: SyntheticClips, batch_size: int = 512, workers: int = 0
) -> np.ndarray:
    """Return p(label | clip) over RAF-DB's labels, (N, 7) float32, from the first token of each label.

    Raise ValueError when two labels begin with the same token.
    """
    first = [collate.text_tokenizer.encode(f" {label}")[0] for label in RAF_DB.labels]
    if len(set(first)) < len(first):
        raise ValueError("Two labels begin with the same token, so the first token does not tell them apart.")
    loader = DataLoader(
        _Questions(clips),
        batch_size,
        collate_fn=collate,
        num_workers=workers,
        multiprocessing_context=_context(workers),
    )
    return np.concatenate([_read(model, _moved(batch, model.device), first) for batch in loader])


def predictions(clips: SyntheticClips, probabilities: np.ndarray) -> list[Prediction]:
    """Return probabilities (N, 7) as predictions for the evaluation's figures."""
    return [
        Prediction(str(i), RAF_DB.labels[int(label)], "ok", tuple(p.tolist()))
        for i, (label, p) in enumerate(zip(clips.labels, probabilities, strict=True))
    ]


def calibrate(clips: SyntheticClips, probabilities: np.ndarray) -> Fit:
    """Fit a temperature on clips that were not trained on."""
    return fit(predictions(clips, probabilities), RAF_DB)


class _Questions(Dataset[Item]):
    """The label's question about each clip."""

    def __init__(self, clips: SyntheticClips) -> None:
        self._clips = clips

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, index: int) -> Item:
        return label_question(self._clips, index)


def _context(workers: int) -> str | None:
    # Forked workers share the clips' memory; they never touch a GPU.
    return "fork" if workers else None


@torch.inference_mode()
def _read(model: EmoLlama, batch: dict[str, Any], first: list[int]) -> np.ndarray:
    labels = batch.pop("labels")
    with torch.autocast(model.device.type, torch.bfloat16, enabled=model.device.type == "cuda"):
        logits, _ = batched_clips.run(model, labels, batch)  # (B, L', vocabulary)
    extra = logits.shape[1] - labels.shape[1]
    last = torch.tensor(batch["lengths"], device=logits.device) + extra - 1
    scores = logits[torch.arange(len(last), device=last.device), last][:, first].float()
    return scores.softmax(-1).cpu().numpy()


def _moved(batch: dict[str, Any], device: torch.device) -> dict[str, Any]:
    return {
        key: value.to(device)
        if isinstance(value, torch.Tensor)
        else _moved(value, device)
        if isinstance(value, dict)
        else value
        for key, value in batch.items()
    }
