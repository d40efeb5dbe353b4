"""Conversion writes one folder that describes itself and loads to the same model, or writes nothing."""

import json
import shutil

import peft
import pytest
import torch
from typer.testing import CliRunner

from emo_llama_ros import prompts
from emo_llama_ros.errors import BadCheckpoint, BadParameter, MissingModel
from emo_llama_ros.labels import MAFW
from emo_llama_ros.model import convert as convert_module
from emo_llama_ros.model.checkpoint import read_manifest, verify_checksums
from emo_llama_ros.model.convert import convert
from emo_llama_ros.model.loading import load_model
from emo_llama_ros.model.processing import QFormerTokenizer, load_text_tokenizer


@pytest.fixture
def source(tiny_checkpoints):
    return tiny_checkpoints.published()


@pytest.fixture
def config(tiny_checkpoints):
    return tiny_checkpoints.config(face=False)


def same(a, b):
    left, right = a.state_dict(), b.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_a_published_checkpoint_becomes_a_folder_that_describes_itself(source, config, tmp_path):
    result = convert(source, tmp_path / "out", config=config, dtype="float32", label_set="mafw")
    names = {file.name for file in result.folder.iterdir()}
    assert names == {
        "README.md", "bert_vocab.txt", "checksums.json", "config.json", "manifest.json", "model.safetensors",
        "tokenizer.model",
    }  # fmt: skip
    manifest = read_manifest(result.folder)
    assert (manifest.label_set, manifest.labels) == ("mafw", MAFW.labels)
    assert (manifest.quantization, manifest.dtype) == ("none", "float32")
    assert manifest.prompt_hash == prompts.prompt_hash()
    assert manifest.base == source.name
    assert verify_checksums(result.folder)
    assert load_text_tokenizer(result.folder).eos_id == 2
    assert len(QFormerTokenizer(result.folder / "bert_vocab.txt")) == config.qformer.vocab_size
    assert "anger, disgust" in (result.folder / "README.md").read_text()
    model, report = load_model(result.folder, device="cpu")
    assert same(model, load_model(source, config=config, device="cpu")[0])
    assert report.parameters == result.parameters


@pytest.mark.parametrize("method", ["nf4", "int8"])
def test_converting_quantized_equals_loading_quantized(source, config, tmp_path, method):
    convert(source, tmp_path / "out", config=config, dtype="float32", quantization=method, device="cpu")
    converted, report = load_model(tmp_path / "out", device="cpu", dtype="float32")
    assert report.quantization == method
    loaded, _ = load_model(source, config=config, quantization=method, device="cpu", dtype="float32")
    assert same(converted, loaded)


def test_adapters_are_merged_and_named(source, config, tmp_path):
    base, _ = load_model(source, config=config, device="cpu")
    settings = peft.LoraConfig(r=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    wrapped = peft.get_peft_model(base.language_model, settings).eval()
    wrapped.save_pretrained(str(tmp_path / "raf-db-lora"))
    convert(source, tmp_path / "out", config=config, dtype="float32", adapters=[tmp_path / "raf-db-lora"])
    model, report = load_model(tmp_path / "out", device="cpu")
    assert report.checkpoint.manifest.adapters == ("raf-db-lora",)
    ids = torch.arange(3, 20)[None]
    with torch.inference_mode():
        expected, got = wrapped(ids).logits, model.language_model(ids).logits
    assert (got - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_a_converted_folder_can_be_converted_again(tiny_checkpoints, tmp_path):
    convert(tiny_checkpoints.ours(), tmp_path / "half", dtype="float16")
    result = convert(tmp_path / "half", tmp_path / "nf4", quantization="nf4", device="cpu", max_shard_bytes=200_000)
    assert read_manifest(result.folder).dtype == "float16"
    assert (result.folder / "model.safetensors.index.json").is_file()
    again = convert(result.folder, tmp_path / "again", label_set="affectnet")
    assert again.quantization == "nf4"
    assert same(load_model(again.folder, device="cpu")[0], load_model(result.folder, device="cpu")[0])


def test_calibration_goes_along(tiny_checkpoints, tmp_path):
    source = shutil.copytree(tiny_checkpoints.ours(), tmp_path / "source")
    (source / "checksums.json").unlink()
    (source / "calibration.json").write_text('{"temperature": 1.5}')
    convert(source, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "calibration.json").read_text()) == {"temperature": 1.5}
    assert "calibration.json" in (tmp_path / "out" / "checksums.json").read_text()


def test_a_missing_vocabulary_is_asked_for_and_taken(source, config, tmp_path):
    bare = shutil.copytree(source, tmp_path / "bare")
    vocabulary = bare / "bert_vocab.txt"
    vocabulary.rename(tmp_path / "vocab.txt")
    with pytest.raises(MissingModel, match="--qformer-vocab"):
        convert(bare, tmp_path / "out", config=config)
    convert(bare, tmp_path / "out", config=config, qformer_vocab=tmp_path / "vocab.txt")
    assert (tmp_path / "out" / "bert_vocab.txt").read_bytes() == (tmp_path / "vocab.txt").read_bytes()
    (bare / "tokenizer.model").unlink()
    with pytest.raises(MissingModel, match="--tokenizer"):
        convert(bare, tmp_path / "out2", config=config, qformer_vocab=tmp_path / "vocab.txt")
    convert(bare, tmp_path / "out2", config=config, qformer_vocab=tmp_path / "vocab.txt", tokenizer=source)
    assert (tmp_path / "out2" / "tokenizer.model").is_file()


def test_nothing_is_left_when_the_source_is_bad(tiny_checkpoints, config, tmp_path):
    source = shutil.copytree(tiny_checkpoints.published(shards=1), tmp_path / "source")
    file = source / "pytorch_model.bin"
    state = torch.load(file)
    del state["model.norm.weight"]
    torch.save(state, file)
    with pytest.raises(BadCheckpoint, match=r"model\.norm\.weight"):
        convert(source, tmp_path / "out", config=config)
    assert [file.name for file in tmp_path.iterdir()] == ["source"]


def test_an_interrupted_conversion_keeps_the_old_folder(tiny_checkpoints, tmp_path, monkeypatch):
    convert(tiny_checkpoints.ours(), tmp_path / "out")

    def fail(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(convert_module, "write_checksums", fail)
    with pytest.raises(KeyboardInterrupt):
        convert(tiny_checkpoints.ours(), tmp_path / "out", overwrite=True)
    assert verify_checksums(tmp_path / "out")
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


def test_a_folder_that_exists_is_not_overwritten_unasked(tiny_checkpoints, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").touch()
    with pytest.raises(BadParameter, match="--overwrite"):
        convert(tiny_checkpoints.ours(), tmp_path / "out")
    with pytest.raises(BadParameter, match="holds the source"):
        convert(tiny_checkpoints.ours(), tiny_checkpoints.ours(), overwrite=True)


def test_a_shape_that_nf4_cannot_take_is_refused_before_anything_is_read(tiny_checkpoints, tmp_path, monkeypatch):
    from dataclasses import replace

    config = tiny_checkpoints.config()
    odd = tiny_checkpoints.model(replace(config, llm=replace(config.llm, intermediate_size=160)))
    from emo_llama_ros.model.loading import save_model

    save_model(odd, tmp_path / "odd")
    monkeypatch.setattr(convert_module, "stream_weights", lambda *_: pytest.fail("read"))
    with pytest.raises(BadCheckpoint, match=r"down_proj is 160 to 64"):
        convert(tmp_path / "odd", tmp_path / "out", quantization="nf4", tokenizer=tiny_checkpoints.ours())


def test_the_command_converts(source, config, tmp_path):
    from emo_llama_ros.cli import app

    (tmp_path / "sizes.json").write_text(json.dumps(config.to_dict()))
    arguments = ["convert", str(source), "--out", str(tmp_path / "out"), "--config", str(tmp_path / "sizes.json")]
    result = CliRunner().invoke(app, [*arguments, "--quantize", "nf4", "--device", "cpu"])
    assert result.exit_code == 0, result.output
    assert "quantization nf4" in result.output
    assert load_model(tmp_path / "out", device="cpu")[1].verified
