"""The data source `records` of a recipe: instruction records about images and videos.

| key of `data` | meaning |
|---|---|
| `records` | record files to train on, relative to where the command runs; see `records` |
| `held_out` | record files that figures are measured on |
| `frames` | most frames of a video |
| `view` | 'face': the crop around the face, as the node shows it; 'frame': the whole picture |
| `faces` | where to look for the face: 'auto' (by dataset), 'detect' or 'pad' (around tight crops); see `Faces` |
| `balance` | 0 draws every record equally often, 1 every label |
| `conversation_share` | share of conversations among what is drawn; null leaves it as it is in the files |
| `limit` | only so many records of each file, spread evenly; 0 takes all |
| `max_length` | longer conversations lose their end (tokens) |
| `measurements` | folder where measured faces are kept for the next run; default: in the run's output |
| `smoke` | table of keys that `--smoke` changes |

In the view 'face', frames without a face are left out, as they are by the node; so is a record without any. In the view
'frame', images are padded to a square and videos are not, as LLaMA-VID was trained. What is left out is counted in the
log.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch.utils.data import Dataset, Sampler

from emo_llama_ros.data.datasets import segment_centres
from emo_llama_ros.data.datasets.clip_source import Faces
from emo_llama_ros.data.records import Record, read_records
from emo_llama_ros.errors import BadData, BadParameter
from emo_llama_ros.evaluation.calibration_fit import Fit
from emo_llama_ros.model.checkpoint import open_checkpoint
from emo_llama_ros.model.configuration import EmoLlamaConfig
from emo_llama_ros.model.modeling import EmoLlama
from emo_llama_ros.model.processing import BERT_VOCAB_FILE, QFormerTokenizer, load_text_tokenizer
from emo_llama_ros.training import progress
from emo_llama_ros.training.collate import Collate, Item
from emo_llama_ros.training.record_items import RecordItems, View, located, survey
from emo_llama_ros.training.sampling import BalancedSampler, mixed_weights

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Options:
    """The keys of `data`."""

    records: Sequence[str]
    held_out: Sequence[str] = ()
    frames: int = 16
    view: str = "face"
    faces: str = "auto"
    balance: float = 1.0
    conversation_share: float | None = 0.5
    limit: int = 0
    max_length: int = 2048
    measurements: str = ""

    def __post_init__(self) -> None:
        if not self.records or isinstance(self.records, str):
            raise BadParameter("The recipe's data.records must list at least one record file.")
        if self.frames < 1:
            raise BadParameter(f"The recipe's data.frames must be at least 1, not {self.frames}.")
        if self.view not in ("face", "frame"):
            raise BadParameter(f"The recipe's data.view must be 'face' or 'frame', not '{self.view}'.")
        if self.faces not in ("auto", "detect", "pad"):
            raise BadParameter(f"The recipe's data.faces must be 'auto', 'detect' or 'pad', not '{self.faces}'.")
        if not 0 <= self.balance <= 1:
            raise BadParameter(f"The recipe's data.balance must lie between 0 and 1, not {self.balance}.")
        if self.conversation_share is not None and not 0 <= self.conversation_share <= 1:
            raise BadParameter("The recipe's data.conversation_share must lie between 0 and 1, or be null.")


class RecordSource:
    """Reads records, looks for their faces once, and makes items while training runs."""

    def __init__(self, data: Mapping[str, Any], checkpoint: str, output: Path, smoke: bool) -> None:
        values = {key: value for key, value in data.items() if key not in ("source", "smoke")}
        try:
            self.options = Options(**(values | (dict(data.get("smoke", {})) if smoke else {})))
        except TypeError as error:
            raise BadParameter(f"The recipe's data has a wrong key: {error}.") from None
        if not checkpoint:
            raise BadParameter("The data source records needs a base: set model.checkpoint.")
        self._base = Path(checkpoint).expanduser()
        self._output = output
        self._train = self._read(self.options.records)
        self._held_out = self._read(self.options.held_out)
        config = open_checkpoint(self._base).config
        readers = [config.qformer, config.face.aggregator if config.face else None]
        words = min((reader.max_prompt_tokens for reader in readers if reader), default=256)
        self.collate = Collate(
            load_text_tokenizer(self._base),
            QFormerTokenizer(self._base / BERT_VOCAB_FILE, words),
            config.llm.pad_token_id,
            self.options.max_length,
        )

    @property
    def tokenizer_files(self) -> list[Path]:
        """None: what is trained here is used on top of its base, which has them."""
        return []

    def sized(self, config: EmoLlamaConfig) -> EmoLlamaConfig:
        """Return `config` as it is: records do not decide any size."""
        return config

    def prepare(self, model: EmoLlama) -> None:
        """Look for the faces, and tell a new face branch mean and deviation of its evidence."""
        options = self.options
        self._view = View(options.view, options.frames, Faces(options.faces), model.config)
        folder = Path(options.measurements or self._output / "measurements").expanduser()
        records = [*self._train, *self._held_out]
        # One process measures, the others then find everything measured.
        with PartialState().main_process_first():
            found = survey(records, self._view, folder)
        reasons = {r.id: f.reason for r, f in zip(records, found, strict=True) if f.reason}
        if PartialState().is_main_process:
            figures = {"records": len(records), "left_out": len(reasons), "reasons": dict(Counter(reasons.values()))}
            progress.append(self._output / progress.LOG_NAME, figures)
        if reasons:
            name = next(iter(reasons))
            logger.warning("%d of %d records are left out; the first is %s: %s",
                           len(reasons), len(records), name, reasons[name])  # fmt: skip
        self._found = found
        if all(f.reason for f in found[: len(self._train)]):
            raise BadData(f"No record of {', '.join(options.records)} can be trained on; the first: {found[0].reason}")
        self._set_statistics(model)

    def items(self, stage_data: Mapping[str, Any], number: int) -> tuple[RecordItems, Dataset[Item] | None]:
        """Return what a stage trains on, and what it is measured on; a stage cannot choose among records."""
        if stage_data:
            raise BadParameter(f"The stage's data has an unknown key '{min(stage_data)}'.")
        count = len(self._train)
        held_out = RecordItems(self._held_out, self._found[count:], self._view)
        return RecordItems(self._train, self._found[:count], self._view), held_out if len(held_out) else None

    def sampler(self, items: Dataset[Item], seed: int) -> Sampler[int]:
        """Draw labels and kinds of records in the shares that the recipe names."""
        assert isinstance(items, RecordItems)
        records = items.records
        labels, kinds = [record.label for record in records], [record.kind for record in records]
        share = self.options.conversation_share
        shares = None if share is None else {"conversation": share}
        return BalancedSampler(mixed_weights(labels, kinds, self.options.balance, shares), seed)

    def finish(self, model: EmoLlama) -> Fit | None:
        """Return nothing: adapters are calibrated with `emo_llama evaluate`."""
        return None

    def _read(self, files: Sequence[str]) -> list[Record]:
        records: list[Record] = []
        for name in files:
            path = Path(name).expanduser()
            of_file = [located(record, path.parent) for record in read_records(path)]
            limit = self.options.limit or len(of_file)
            records += [of_file[i] for i in segment_centres(len(of_file), min(limit, len(of_file)))] if of_file else []
        return records

    def _set_statistics(self, model: EmoLlama) -> None:
        mining = model.face_branch.mining if model.face_branch else None
        if mining is None or not mining.config.evidence_dim or bool((mining.evidence_std != 1).any()):
            return  # a branch that was trained before keeps its own
        priors = [found.priors for found in self._found[: len(self._train)] if found.priors is not None]
        evidence = torch.cat([p.evidence[p.valid] for p in priors if p.evidence is not None]).double()  # (N, M)
        known = evidence.isfinite()
        count = known.sum(0).clamp(min=1)
        mean = evidence.where(known, 0.0).sum(0) / count
        deviation = ((evidence - mean).where(known, 0.0).square().sum(0) / count).sqrt()
        mining.evidence_mean.copy_(mean)
        mining.evidence_std.copy_(deviation.clamp(min=1e-3))
