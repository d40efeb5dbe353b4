"""Random tiny checkpoints with real tokenizers, made in a second and without any download."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, replace
from pathlib import Path

import sentencepiece
import torch

from emo_llama_ros import prompts
from emo_llama_ros.labels import LABEL_SETS, RAF_DB
from emo_llama_ros.model import key_map
from emo_llama_ros.model.checkpoint import Manifest, write_checksums
from emo_llama_ros.model.configuration import EmoLlamaConfig, emo_llama_tiny
from emo_llama_ros.model.loading import load_model, save_model
from emo_llama_ros.model.modeling import EmoLlama

LLM_VOCABULARY = 384


@dataclass
class TinyCheckpoints:
    """Makes checkpoint folders below `root`, each once. They are shared between tests: never change one."""

    root: Path

    def model(self, config: EmoLlamaConfig | None = None, seed: int = 0) -> EmoLlama:
        """A random model, wide enough weights that prompt, frames and faces matter."""
        torch.manual_seed(seed)
        model = EmoLlama(config or self.config())
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(std=0.1)
                else:
                    parameter.add_(torch.randn_like(parameter) * 0.05)
        if model.vision_tower is not None:
            for block in model.vision_tower.encoder.layers:  # the published tower has no key bias
                width = block.self_attn.qkv.bias.shape[0] // 3
                block.self_attn.qkv.bias.data[width : 2 * width] = 0
        return model

    def config(self, *, vision: bool = True, face: bool = True) -> EmoLlamaConfig:
        """The tiny preset with vocabularies that fit the tokenizers of `add_tokenizers`."""
        config = emo_llama_tiny(vision=vision, face=face)
        words = len(bert_pieces()) + 1
        longer = {"vocab_size": words, "max_position_embeddings": 256, "max_prompt_tokens": 256}
        return replace(
            config,
            llm=replace(config.llm, vocab_size=LLM_VOCABULARY, max_position_embeddings=1024),
            qformer=config.qformer and replace(config.qformer, **longer),
            face=config.face and replace(config.face, aggregator=replace(config.face.aggregator, **longer)),
        )

    def ours(self, *, vision: bool = True, face: bool = True, quantization: str = "none") -> Path:
        """A folder of ours; quantized ones are made from the unquantized one."""
        folder = self.root / f"ours-{vision:d}{face:d}-{quantization}"
        if not folder.exists():
            if quantization == "none":
                model = self.model(self.config(vision=vision, face=face))
            else:
                source = self.ours(vision=vision, face=face)
                model, _ = load_model(source, quantization=quantization, device="cpu")
            write_ours(model, folder)
        return folder

    def published(self, *, suffix: str = "bin", shards: int = 3) -> Path:
        """A folder laid out as LLaMA-VID was published: LLaVA config, no face branch, its own tensor names."""
        folder = self.root / f"published-{suffix}-{shards}"
        if not folder.exists():
            write_published(self.model(self.config(face=False)), folder, suffix, shards)
        return folder


def write_ours(model: EmoLlama, folder: Path, manifest: Manifest | None = None) -> None:
    """Save a model as a complete folder of ours."""
    save_model(model, folder, manifest or Manifest(prompt_hash=prompts.prompt_hash(), base="random"))
    add_tokenizers(folder)
    write_checksums(folder)


def write_published(model: EmoLlama, folder: Path, suffix: str = "bin", shards: int = 3) -> None:
    """Save a model without a face branch the way LLaMA-VID was published, with its buffers and odd config fields."""
    folder.mkdir(parents=True)
    state = {name: tensor.clone() for name, tensor in key_map.to_published(model.state_dict()).items()}
    head = model.config.llm.hidden_size // model.config.llm.num_attention_heads
    for layer in range(model.config.llm.num_hidden_layers):
        state[f"model.layers.{layer}.self_attn.rotary_emb.inv_freq"] = torch.arange(head // 2).float()
    state["model.vlm_att_encoder.bert.embeddings.position_ids"] = torch.arange(64)[None]
    names = sorted(state)
    stem = "pytorch_model" if suffix == "bin" else "model"
    weight_map = {}
    for number in range(shards):
        file = folder / (f"{stem}-{number + 1:05}-of-{shards:05}.{suffix}" if shards > 1 else f"{stem}.{suffix}")
        part = {name: state[name] for name in names[number::shards]}
        weight_map |= dict.fromkeys(part, file.name)
        if suffix == "bin":
            torch.save(part, file)
        else:
            from safetensors.torch import save_file

            save_file(part, file)
    if shards > 1:
        (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (folder / "config.json").write_text(json.dumps(published_config(model.config)))
    add_tokenizers(folder)


def published_config(config: EmoLlamaConfig) -> dict[str, object]:
    """A LLaVA-style config as published, which says nothing of the sizes of vision tower and Q-Former."""
    llm = config.llm
    names = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    return {
        "model_type": "llava",
        "architectures": ["LlavaLlamaAttForCausalLM"],
        "bert_type": "qformer_pretrain_freeze",
        "compress_type": "mean_concat",
        "mm_projector_type": "mlp2x_gelu",
        "mm_hidden_size": config.vision.hidden_size if config.vision else 1408,
        "num_qformer": 32,
        "max_position_embeddings": llm.max_position_embeddings,
        **{name: getattr(llm, name) for name in names},
    }


def add_tokenizers(folder: Path) -> None:
    """Write a SentencePiece model and a WordPiece vocabulary that know the words of our prompts."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.model").write_bytes(sentencepiece_model())
    (folder / "bert_vocab.txt").write_text("\n".join(bert_pieces()) + "\n", encoding="utf-8")


def prompt_texts() -> list[str]:
    """Everything our prompts can say."""
    questions = [prompts.category_question(s, video=v) for s in LABEL_SETS.values() for v in (True, False)]
    turns = [prompts.label_turn(RAF_DB, video=True, answer="happiness"), prompts.reasoning_turn("The mouth smiles.")]
    labels = [label for s in LABEL_SETS.values() for label in s.labels]
    return [prompts.render(turns), prompts.REASONING_QUESTION, *questions, *labels]


def sentencepiece_model() -> bytes:
    """Train a LLaMA-like BPE (unk 0, bos 1, eos 2, byte fallback) of LLM_VOCABULARY pieces on the prompts."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(" ".join(prompt_texts()).replace("</s>", " ").splitlines()),
        model_writer=model,
        vocab_size=LLM_VOCABULARY,
        model_type="bpe",
        byte_fallback=True,
        character_coverage=1.0,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()


def bert_pieces() -> list[str]:
    """A WordPiece vocabulary: special pieces, characters, their continuations, and the words of the prompts."""
    text = " ".join(prompt_texts()).lower()
    characters = sorted(set("abcdefghijklmnopqrstuvwxyz0123456789.,:;?!'\"{}()-<>/"))
    words = sorted({word for word in "".join(c if c.isalpha() else " " for c in text).split() if len(word) > 1})
    continuations = [f"##{c}" for c in characters if c.isalnum()]
    return ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters, *continuations, *words]
