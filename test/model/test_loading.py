"""Checkpoints of every kind load into the same model, survive a round trip bit by bit, and fail in one sentence."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from emo_llama_ros.errors import BadCheckpoint, BadParameter, EmoError, MissingModel, OutOfMemory
from emo_llama_ros.model import loading
from emo_llama_ros.model.checkpoint import CHECKSUMS, open_checkpoint, verify_checksums
from emo_llama_ros.model.footprint import weight_need
from emo_llama_ros.model.loading import load_model, quantization_of, save_model
from emo_llama_ros.model.memory import FreeMemory, MemoryNeed

CPU = {"device": "cpu"}


@torch.inference_mode()
def logits(model):
    return model.language_model(torch.arange(3, 20)[None]).logits.float()


def assert_same_weights(a, b):
    left, right = a.state_dict(), b.state_dict()
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("suffix", ["bin", "safetensors"])
def test_a_published_folder_loads_with_every_value(tiny_checkpoints, suffix, shards):
    config = tiny_checkpoints.config(face=False)
    folder = tiny_checkpoints.published(suffix=suffix, shards=shards)
    model, report = load_model(folder, config=config, **CPU)
    assert_same_weights(model, tiny_checkpoints.model(config))
    assert report.checkpoint.published
    assert not model.training


@pytest.mark.parametrize("face", [True, False])
@pytest.mark.parametrize("vision", [True, False])
def test_our_folder_loads_with_every_value(tiny_checkpoints, vision, face):
    if not (vision or face):
        return
    folder = tiny_checkpoints.ours(vision=vision, face=face)
    model, report = load_model(folder, **CPU)
    assert_same_weights(model, tiny_checkpoints.model(tiny_checkpoints.config(vision=vision, face=face)))
    assert report.verified
    assert report.quantization == "none"
    assert len(report.checkpoint.checksum) == 64


@pytest.mark.parametrize("method", ["nf4", "int8"])
def test_a_quantized_model_is_saved_and_loaded_bit_by_bit_also_after_it_ran(tiny_checkpoints, tmp_path, method):
    model, _ = load_model(tiny_checkpoints.ours(), quantization=method, **CPU)
    save_model(model, tmp_path / "before")
    expected = logits(model)
    save_model(model, tmp_path / "after")
    for name in ("before", "after"):
        again, report = load_model(tmp_path / name, **CPU)
        assert (report.quantization, quantization_of(again)) == (method, method)
        assert torch.equal(logits(again), expected)
    before, after = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("before", "after"))
    assert before == after


@pytest.mark.parametrize("method", ["none", "nf4", "int8"])
def test_the_loaded_model_takes_the_memory_that_was_predicted(tiny_checkpoints, method):
    model, report = load_model(tiny_checkpoints.ours(), quantization=method, dtype="bfloat16", **CPU)
    real = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    # Each NF4 weight carries 1.3 kB of code books along, which count in weights as small as these only.
    code_books = sum(
        tensor.numel() * tensor.element_size() for name, tensor in model.state_dict().items() if "quant_" in name
    )
    assert real - code_books == pytest.approx(weight_need(report.need.parts), rel=0.02)


@pytest.mark.parametrize(("dtype", "expected"), [("float16", torch.float16), ("auto", torch.float32)])
def test_everything_that_is_not_quantized_gets_the_dtype(tiny_checkpoints, dtype, expected):
    model, report = load_model(tiny_checkpoints.ours(), quantization="nf4", dtype=dtype, **CPU)
    floating = {p.dtype for name, p in model.named_parameters() if not name.endswith("_proj.weight")}
    assert floating == {expected}
    assert report.placement.dtype == expected
    assert logits(model).isfinite().all()


def test_the_vision_tower_stays_frozen_and_the_rest_trainable(tiny_checkpoints):
    model, _ = load_model(tiny_checkpoints.ours(), **CPU)
    assert not any(p.requires_grad for p in model.vision_tower.parameters())
    assert all(p.requires_grad for p in model.token_generation.parameters())
    quantized, _ = load_model(tiny_checkpoints.ours(), quantization="nf4", **CPU)
    assert not quantized.language_model.model.layers[0].mlp.up_proj.weight.requires_grad


def test_tied_embeddings_stay_tied(tiny_checkpoints, tmp_path):
    from dataclasses import replace

    config = tiny_checkpoints.config()
    model = tiny_checkpoints.model(replace(config, llm=replace(config.llm, tie_word_embeddings=True)))
    save_model(model, tmp_path)
    again, _ = load_model(tmp_path, **CPU)
    llm = again.language_model
    assert llm.lm_head.weight is llm.model.embed_tokens.weight
    assert torch.equal(logits(again), logits(model))


def test_a_new_face_branch_starts_random_beside_the_loaded_rest(tiny_checkpoints):
    face = tiny_checkpoints.config().face
    model, _ = load_model(tiny_checkpoints.ours(face=False), new_face_branch=face, **CPU)
    assert model.config.face == face
    weights = [p for p in model.face_branch.parameters() if p.ndim > 1]
    assert all(p.isfinite().all() for p in weights)
    assert all(p.std() > 0 for p in weights)
    assert all(p.requires_grad for p in weights)
    old, _ = load_model(tiny_checkpoints.ours(face=False), **CPU)
    assert torch.equal(logits(model), logits(old))


def test_training_in_place_does_not_change_the_files(tiny_checkpoints, tmp_path):
    shutil.copytree(tiny_checkpoints.ours(), tmp_path / "copy")
    model, _ = load_model(tmp_path / "copy", **CPU)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    assert verify_checksums(tmp_path / "copy")


def test_quantization_auto_keeps_what_the_checkpoint_has(tiny_checkpoints, monkeypatch):
    assert load_model(tiny_checkpoints.ours(quantization="int8"), **CPU)[1].quantization == "int8"
    monkeypatch.setattr(loading, "LARGE_LLM_PARAMETERS", 1)
    assert load_model(tiny_checkpoints.ours(), **CPU)[1].quantization == "nf4"
    assert load_model(tiny_checkpoints.ours(), quantization="none", **CPU)[1].quantization == "none"


@pytest.mark.parametrize("wanted", ["none", "int8"])
def test_a_quantized_checkpoint_is_not_silently_requantized(tiny_checkpoints, wanted):
    with pytest.raises(BadParameter, match="is quantized as nf4 and cannot be loaded as"):
        load_model(tiny_checkpoints.ours(quantization="nf4"), quantization=wanted, **CPU)


@pytest.fixture
def copy(tiny_checkpoints, tmp_path):
    return shutil.copytree(tiny_checkpoints.ours(quantization="nf4"), tmp_path / "copy")


def test_a_changed_file_is_named(copy):
    weights = copy / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-5] ^= 1
    weights.write_bytes(data)
    with pytest.raises(BadCheckpoint, match=r"model\.safetensors is not the file that was written"):
        load_model(copy, **CPU)
    load_model(copy, verify=False, **CPU)


def test_a_missing_companion_is_named(copy):
    (copy / "bert_vocab.txt").unlink()
    with pytest.raises(BadCheckpoint, match=r"lacks the file bert_vocab\.txt"):
        load_model(copy, **CPU)


def test_a_folder_without_checksums_loads_and_says_so(copy):
    (copy / CHECKSUMS).unlink()
    _, report = load_model(copy, **CPU)
    assert not report.verified
    assert report.checkpoint.checksum == ""


def test_a_quantized_checkpoint_with_a_lost_statistic_is_refused_by_name(copy):
    from safetensors.torch import load_file, save_file

    state = load_file(copy / "model.safetensors")
    lost = "language_model.model.layers.1.mlp.down_proj.weight.absmax"
    save_file({name: tensor for name, tensor in state.items() if name != lost}, copy / "model.safetensors")
    with pytest.raises(BadCheckpoint, match=r"layers\.1\.mlp\.down_proj\.weight\.absmax"):
        load_model(copy, verify=False, **CPU)
    save_file({**state, lost: state[lost][:-1].clone()}, copy / "model.safetensors")
    with pytest.raises(BadCheckpoint, match=r"layers\.1\.mlp\.down_proj\.weight\.absmax has shape"):
        load_model(copy, verify=False, **CPU)


def test_a_config_of_another_format_is_refused(copy):
    config = copy / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"format": "emo_llama_ros/99"}))
    with pytest.raises(BadCheckpoint, match="emo_llama convert"):
        open_checkpoint(copy)


def test_an_absent_folder_is_refused_with_what_to_do(tmp_path):
    with pytest.raises(MissingModel, match="emo_llama convert"):
        load_model(tmp_path / "nothing")


def test_a_model_that_does_not_fit_is_refused_before_it_is_read(tiny_checkpoints, monkeypatch):
    monkeypatch.setattr(loading, "memory_need", lambda *_: MemoryNeed({"all": 10**15}, 0))
    monkeypatch.setattr(loading, "stream_weights", lambda *_: pytest.fail("read"))
    with pytest.raises(OutOfMemory, match=r"needs 1000000\.0 GB.*quantization:=nf4 or int8"):
        load_model(tiny_checkpoints.ours(), **CPU)


def test_memory_that_runs_out_while_loading_is_one_sentence(tiny_checkpoints, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(loading, "_placed", fail)
    with pytest.raises(OutOfMemory, match="Memory ran out while"):
        load_model(tiny_checkpoints.ours(), **CPU)


def test_a_missing_kernel_stops_before_anything_is_read(tiny_checkpoints, monkeypatch):
    def fail(*_):
        raise EmoError("The nf4 kernel of bitsandbytes does not work on cpu (x); use quantization:=int8 or none.")

    monkeypatch.setattr(loading, "self_test", fail)
    monkeypatch.setattr(loading, "stream_weights", lambda *_: pytest.fail("read"))
    with pytest.raises(EmoError, match="nf4 kernel"):
        load_model(tiny_checkpoints.ours(), quantization="nf4", **CPU)


def test_a_checkpoint_is_loaded_one_tensor_at_a_time(tiny_checkpoints, monkeypatch):
    """While a tensor is quantized, those before it are not held in full precision."""
    import weakref

    alive, most = [], 0
    original = loading.stream_weights

    def watched(*args):
        nonlocal most
        for name, tensor in original(*args):
            if name.startswith("language_model") and name.endswith("_proj.weight"):
                alive.append(weakref.ref(tensor))
            yield name, tensor
            del tensor
            most = max(most, sum(ref() is not None for ref in alive))

    monkeypatch.setattr(loading, "stream_weights", watched)
    load_model(tiny_checkpoints.ours(), quantization="nf4", **CPU)
    assert len(alive) == 14
    assert most <= 1


def test_the_report_says_what_was_done_and_why(tiny_checkpoints):
    _, report = load_model(tiny_checkpoints.ours(quantization="nf4"), **CPU)
    assert isinstance(report.free, FreeMemory)
    assert report.parameters > 500_000
    assert "asked for" in report.notes[0]
    assert report.seconds > 0


def mapped_files():
    return {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines()}


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux's /proc")
def test_files_that_were_quantized_away_are_let_go_and_finished_ones_stay_mapped(tiny_checkpoints, tmp_path):
    source = shutil.copytree(tiny_checkpoints.ours(), tmp_path / "source")
    weights = str(source / "model.safetensors")
    quantized, _ = load_model(source, quantization="nf4", **CPU)
    assert weights not in mapped_files()
    as_it_is, _ = load_model(source, **CPU)
    assert weights in mapped_files()
    del as_it_is, quantized
