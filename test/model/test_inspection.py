"""The doctor says what a checkpoint is and needs, and politely refuses what cannot fit, without loading it."""

import json
import shutil

import pytest
import torch

from emo_llama_ros.findings import Level
from emo_llama_ros.model import inspection, loading
from emo_llama_ros.model.configuration import emo_llama_7b
from emo_llama_ros.model.footprint import build_template, memory_need
from emo_llama_ros.model.inspection import model_report
from emo_llama_ros.model.memory import FreeMemory


def texts(findings):
    return "\n".join(f"{f.level.value} {f.subject}: {f.found} {f.advice}" for f in findings)


@pytest.mark.parametrize("method", ["none", "nf4", "int8"])
def test_a_good_checkpoint_is_described_and_nothing_is_wrong(tiny_checkpoints, method):
    findings = model_report(tiny_checkpoints.ours(quantization=method), device="cpu")
    assert Level.FAIL not in {f.level for f in findings}
    text = texts(findings)
    for said in ("0.6 million parameters", f"quantization {method}", "raf-db", "SHA-256", "vision tower", "KV cache"):
        assert said in text
    assert "It fits" in text
    assert (f"The {method} kernel computes correctly" in text) == (method != "none")


def test_nothing_is_loaded(tiny_checkpoints, monkeypatch):
    monkeypatch.setattr(loading, "_assign", lambda *_: pytest.fail("loaded"))
    assert model_report(tiny_checkpoints.ours(), device="cpu")


@pytest.mark.parametrize(
    ("method", "free_gb", "advice"),
    [("none", 12, "quantization:=int8"), ("none", 8, "quantization:=nf4"), ("nf4", 3, "a machine with more memory")],
)
def test_a_7b_that_cannot_fit_is_refused_with_what_would(tiny_checkpoints, monkeypatch, method, free_gb, advice):
    """The folder is tiny, the sizes are those of the 7B."""
    seven = build_template(emo_llama_7b())
    monkeypatch.setattr(
        inspection, "memory_need", lambda _, method, dtype, device: memory_need(seven, method, torch.bfloat16, device)
    )
    monkeypatch.setattr(inspection, "free_memory", lambda _: FreeMemory(free_gb * 10**9, 16 * 10**9, "memory of Orin"))
    findings = model_report(tiny_checkpoints.ours(), device="cpu", quantization=method)
    refusal = next(f for f in findings if f.level is Level.FAIL)
    assert "does not fit" in refusal.found
    assert f"only {free_gb}.0 GB of 16.0 GB memory of Orin are free" in refusal.found
    assert advice in refusal.advice


def test_a_tight_fit_is_a_warning(tiny_checkpoints, monkeypatch):
    need = memory_need(build_template(tiny_checkpoints.config()), "none", torch.float32, torch.device("cpu")).total
    monkeypatch.setattr(inspection, "free_memory", lambda _: FreeMemory(need + 1, need + 2, "memory"))
    assert "It just fits" in texts(f for f in model_report(tiny_checkpoints.ours()) if f.level is Level.WARN)


def test_what_was_found_before_an_error_is_kept(tiny_checkpoints, tmp_path):
    folder = shutil.copytree(tiny_checkpoints.ours(), tmp_path / "copy")
    (folder / "tokenizer.model").unlink()
    (folder / "checksums.json").unlink()
    findings = model_report(folder, device="cpu")
    assert [f.level for f in findings][-1] is Level.FAIL
    assert "tokenizer.model" in findings[-1].found
    assert "All 267 tensors" in texts(findings)
    assert "no checksums.json" in texts(findings)


def test_other_prompts_and_another_vocabulary_are_noticed(tiny_checkpoints, tmp_path):
    folder = shutil.copytree(tiny_checkpoints.ours(), tmp_path / "copy")
    manifest = folder / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"prompt_hash": "older"}))
    with (folder / "bert_vocab.txt").open("a") as vocabulary:
        vocabulary.write("more\n")
    findings = model_report(folder, device="cpu", verify=False)
    assert "made for prompts older" in texts(f for f in findings if f.level is Level.WARN)
    assert "another vocabulary" in texts(f for f in findings if f.level is Level.FAIL)


def test_an_absent_folder_is_one_finding(tmp_path):
    (finding,) = model_report(tmp_path / "nothing")
    assert finding.level is Level.FAIL


def test_the_command_prints_it_and_fails_when_something_is_wrong(tiny_checkpoints, tmp_path):
    from typer.testing import CliRunner

    from emo_llama_ros.cli import app

    good = CliRunner().invoke(app, ["doctor", "--model", str(tiny_checkpoints.ours()), "--set", "device=cpu"])
    assert good.exit_code == 0
    assert "It fits" in good.output
    bad = CliRunner().invoke(app, ["doctor", "--model", str(tmp_path / "nothing")])
    assert bad.exit_code == 1
    assert "no checkpoint folder" in bad.output.replace("\n", " ")
