"""The two small tokenizers of a language model that talks about faces only."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from emo_llama_ros import prompts
from emo_llama_ros.model.processing import BERT_VOCAB_FILE, TOKENIZERS_FILE

SPECIAL = ("<unk>", "<s>", prompts.END_OF_ANSWER)
"""Ids 0 (also padding), 1 and 2, as in LLaMA."""
_PIECES = r"AU\d+| ?\d+\.\d| ?\d+%| ?(?!AU\d)[A-Za-z]+| ?\d| ?[^\sA-Za-z\d]|\s"
"""Action units, times and percentages whole, words, single digits, everything else."""
_BERT_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def train(texts: Iterable[str], folder: Path, vocab_size: int, prompt_vocab_size: int) -> None:
    """Write both tokenizers into `folder`.

    The language model's is a byte-level BPE, so that any question can be read. Action units, times and percentages are
    one token each, so that to state one is to copy one token. The Q-Former's is a WordPiece vocabulary: the words of
    the texts, then letters.
    """
    texts = list(texts)
    tokenizer = Tokenizer(models.BPE(unk_token=SPECIAL[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / TOKENIZERS_FILE))
    (folder / BERT_VOCAB_FILE).write_text("\n".join(word_pieces(texts, prompt_vocab_size)) + "\n", encoding="utf-8")


def word_pieces(texts: Iterable[str], size: int) -> list[str]:
    """Return a WordPiece vocabulary of at most `size`: every printable character, then the most frequent words."""
    characters = [chr(c) for c in range(33, 127) if not chr(c).isupper()]
    pieces = [*_BERT_SPECIAL, *characters, *(f"##{c}" for c in characters if c.isalnum())]
    counts = Counter(word for text in texts for word in re.findall(r"[a-z]{2,}", text.lower()))
    words = sorted(counts, key=lambda word: (-counts[word], word))
    return pieces + words[: max(0, size - len(pieces))]
