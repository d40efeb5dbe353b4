"""From pixels and words to tensors: preprocessing of frames, and the tokenizers of Q-Former and language model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import sentencepiece
import tokenizers
import torch
from PIL import Image
from torch import Tensor
from transformers import BertTokenizer

from emo_llama_ros import prompts
from emo_llama_ros.errors import MissingModel
from emo_llama_ros.frames import RgbImage
from emo_llama_ros.model.merging import IGNORED_LABEL, IMAGE_TOKEN

CLIP_MEAN = np.array((0.48145466, 0.4578275, 0.40821073), np.float32)
CLIP_STD = np.array((0.26862954, 0.26130258, 0.27577711), np.float32)
PAD_COLOR = (122, 116, 104)
# What each of the 256 levels becomes in each channel, (3, 256): a look-up is twenty times faster than the arithmetic.
_LEVELS = (((np.arange(256) * (1 / 255)).astype(np.float32)[:, None] - CLIP_MEAN) / CLIP_STD).T.copy()

SENTENCEPIECE_FILE = "tokenizer.model"
TOKENIZERS_FILE = "tokenizer.json"
BERT_VOCAB_FILE = "bert_vocab.txt"


def preprocess_frame(rgb: RgbImage, size: int, *, pad: bool) -> npt.NDArray[np.float32]:
    """Turn RGB pixels (H, W, 3) uint8 into the vision tower's input (3, size, size) float32.

    `pad` squares the frame with PAD_COLOR (LLaMA-VID does so for images, not for video); then the shortest edge is
    resized to `size` (PIL bicubic), the centre is cut out and normalized with CLIP's mean and deviation.
    """
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise ValueError(f"A frame must be uint8 (H, W, 3), not {rgb.dtype} {rgb.shape}.")
    image = Image.fromarray(rgb)
    if pad and image.width != image.height:
        side = max(image.size)
        square = Image.new("RGB", (side, side), PAD_COLOR)
        square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
        image = square
    short, long = sorted(image.size)
    long = int(size * long / short)
    image = image.resize((size, long) if image.width <= image.height else (long, size), Image.Resampling.BICUBIC)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    pixels = np.asarray(image.crop((left, top, left + size, top + size)))
    normalized = np.empty((3, size, size), np.float32)
    for channel, levels in enumerate(_LEVELS):
        np.take(levels, pixels[:, :, channel], out=normalized[channel], mode="clip")  # others copy `out`
    return normalized


def preprocess_clip(frames: Sequence[RgbImage], size: int, *, pad: bool) -> Tensor:
    """Preprocess T frames (see `preprocess_frame`) to pixel_values (T, 3, size, size) float32."""
    return torch.from_numpy(np.stack([preprocess_frame(frame, size, pad=pad) for frame in frames]))


class PromptIds(NamedTuple):
    """P prompts for the Q-Formers."""

    ids: Tensor
    """(P, L) int64, [CLS] … [SEP], padded on the right to the longest."""
    mask: Tensor
    """(P, L) int64, 0 for padding."""


class QFormerTokenizer:
    """BERT's WordPiece for the Q-Formers: lower case, `[DEC]` as last id, long prompts lose their beginning."""

    def __init__(self, vocab_file: Path, max_tokens: int = 256) -> None:
        """Read a BERT vocabulary, one piece per line; raise MissingModel when the file is not there."""
        try:
            pieces = vocab_file.read_text(encoding="utf-8").rstrip("\n").split("\n")
        except FileNotFoundError:
            raise MissingModel(
                f"The Q-Former's vocabulary '{vocab_file}' is missing: put bert-base-uncased's vocab.txt there."
            ) from None
        self.max_tokens = max_tokens
        self._bert = BertTokenizer(
            {piece: i for i, piece in enumerate(pieces)}, do_lower_case=True, truncation_side="left"
        )
        self._bert.add_special_tokens({"bos_token": "[DEC]"})

    def __len__(self) -> int:
        """Vocabulary size, `[DEC]` included."""
        return len(self._bert)

    def __call__(self, questions: Sequence[str]) -> PromptIds:
        """Tokenize P questions."""
        tokens = self._bert(
            list(questions), padding="longest", truncation=True, max_length=self.max_tokens, return_tensors="pt"
        )
        return PromptIds(tokens["input_ids"], tokens["attention_mask"])


class TextTokenizer(Protocol):
    """The language model's tokenizer. `<s>` and `</s>` in a text are the special tokens."""

    bos_id: int
    eos_id: int

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text` without a beginning-of-sequence token."""

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of `ids` without special tokens, and without the space that begins its first word."""


class SentencePieceTokenizer:
    """LLaMA's original tokenizer, read from `tokenizer.model`.

    As the original slow tokenizer does, each stretch of text between special tokens is encoded by itself, and so
    begins with SentencePiece's word-start mark.
    """

    def __init__(self, model_file: Path) -> None:
        self._model = sentencepiece.SentencePieceProcessor(model_file=str(model_file))
        self.bos_id, self.eos_id = self._model.bos_id(), self._model.eos_id()

    def encode(self, text: str) -> list[int]:
        """See TextTokenizer."""
        ids: list[int] = []
        for i, part in enumerate(text.split(prompts.END_OF_ANSWER)):
            ids += [self.eos_id] * (i > 0) + self._model.encode(part)
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """See TextTokenizer."""
        return self._model.decode([i for i in ids if not self._model.is_control(i)])


class JsonTokenizer:
    """Any tokenizer of the `tokenizers` library, read from `tokenizer.json`; it must know `<s>` and `</s>`."""

    def __init__(self, tokenizer_file: Path) -> None:
        self._tokenizer = tokenizers.Tokenizer.from_file(str(tokenizer_file))
        bos, eos = self._tokenizer.token_to_id("<s>"), self._tokenizer.token_to_id(prompts.END_OF_ANSWER)
        if bos is None or eos is None:
            raise MissingModel(f"'{tokenizer_file}' lacks the special tokens <s> and </s> that the prompts need.")
        self.bos_id, self.eos_id = bos, eos

    def encode(self, text: str) -> list[int]:
        """See TextTokenizer."""
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Sequence[int]) -> str:
        """See TextTokenizer."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=True).removeprefix(" ")


def load_text_tokenizer(folder: Path) -> TextTokenizer:
    """Load the language model's tokenizer of a checkpoint folder; raise MissingModel when there is none."""
    if (folder / SENTENCEPIECE_FILE).is_file():
        return SentencePieceTokenizer(folder / SENTENCEPIECE_FILE)
    if (folder / TOKENIZERS_FILE).is_file():
        return JsonTokenizer(folder / TOKENIZERS_FILE)
    raise MissingModel(f"The folder '{folder}' has neither {SENTENCEPIECE_FILE} nor {TOKENIZERS_FILE}.")


def tokenize_prompt(text: str, tokenizer: TextTokenizer) -> list[int]:
    """Return the ids of a rendered prompt: `<s>` first, -200 for each `<image>`.

    The pieces between are tokenized apart, as LLaVA does, so the piece after `<image>` begins a new word.
    """
    first, *others = text.split(prompts.IMAGE)
    ids = [tokenizer.bos_id, *tokenizer.encode(first)]
    for piece in others:
        ids += [IMAGE_TOKEN, *tokenizer.encode(piece)]
    return ids


def tokenize_conversation(turns: Sequence[prompts.Turn], tokenizer: TextTokenizer) -> tuple[list[int], list[int]]:
    """Return input ids and labels of a conversation for training: the loss is on the answers and their `</s>`.

    Raise ValueError when a tokenizer joins the end of a question with the beginning of its answer.
    """
    ids = tokenize_prompt(prompts.render(turns), tokenizer)
    labels = [IGNORED_LABEL] * len(ids)
    for i, turn in enumerate(turns):
        if turn.answer is None:
            continue
        asked = tokenize_prompt(prompts.render([*turns[:i], _unanswered(turn)]), tokenizer)
        answered = tokenize_prompt(prompts.render(turns[: i + 1]), tokenizer)
        if ids[: len(asked)] != asked or ids[: len(answered)] != answered:
            raise ValueError("This tokenizer does not keep 'ASSISTANT:' and '</s>' apart from the answer.")
        labels[len(asked) : len(answered)] = ids[len(asked) : len(answered)]
    return ids, labels


def _unanswered(turn: prompts.Turn) -> prompts.Turn:
    return prompts.Turn(turn.question, None, turn.image, turn.context)
