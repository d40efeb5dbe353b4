"""What is not installed is named with the extra that brings it, before any work is done."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from emo_llama_ros.checks import extras
from emo_llama_ros.errors import MissingDependency
from emo_llama_ros.options import Options


@pytest.fixture
def without(monkeypatch):
    """Let these modules not be installed."""
    real = importlib.util.find_spec

    def hide(*modules):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in modules else real(name))

    return hide


def test_everything_that_is_missing_is_named_with_its_extras(without):
    without("torch", "peft", "sklearn", "openai")
    with pytest.raises(MissingDependency) as refusal:
        extras.require("Training", "model", "metrics", instead="rest")
    assert str(refusal.value) == (
        "Training needs torch, peft, scikit-learn, not installed here: pip install 'emo_llama_ros[model,train]', "
        "or rest."
    )


def test_what_is_there_is_no_reason_to_refuse():
    extras.require("This")
    extras.require_for(Options(backend="expression"))


@pytest.mark.parametrize(
    ("hidden", "changes", "words"),
    [
        ("torch", {}, "emo_llama_ros[model]', or set backend to expression"),
        ("bitsandbytes", {"quantization": "nf4"}, "quantization nf4 needs bitsandbytes"),
        ("onnxruntime", {"backend": "expression", "expression_model": "x.onnx"}, "pip install onnxruntime"),
        ("insightface", {"backend": "expression", "analyzer": "insightface"}, "emo_llama_ros[insightface]"),
    ],
)
def test_what_the_options_choose_is_looked_for(without, hidden, changes, words):
    without(hidden)
    with pytest.raises(MissingDependency) as refusal:
        extras.require_for(Options(**changes))
    assert words in str(refusal.value)


def test_every_need_is_met_by_an_extra_of_the_package(repository):
    tomllib = pytest.importorskip("tomllib", reason="needs Python 3.11")
    listed = tomllib.loads((repository / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for need, modules in extras._MODULES.items():
        brought = {entry.split("=")[0].split(">")[0] for entry in listed[extras._EXTRAS.get(need, need)]}
        assert {extras._PACKAGES.get(module, module) for module in modules} <= brought


HIDDEN = """
import importlib.util, sys
hidden, real = sys.argv.pop(1).split(","), importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name in hidden else real(name, package)
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in hidden:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Refuse())
from emo_llama_ros.cli import main
main()
"""


@pytest.mark.parametrize(
    ("hidden", "command", "words"),
    [
        ("torch", ["train", "recipe.yaml"], "Training needs torch"),
        ("torch", ["convert", "from", "--out", "to"], "Converting needs torch"),
        ("bitsandbytes", ["convert", "from", "--out", "to", "--quantize", "nf4"], "Converting needs bitsandbytes"),
        ("torch", ["doctor", "--model", "from"], "Looking into a checkpoint needs torch"),
        ("openai", ["data", "conversation", "faces", "--out", "x.jsonl"], "Writing conversations needs openai"),
        ("sklearn", ["evaluate", "faces", "--out", "x"], "Evaluation needs scikit-learn"),
        ("torch", ["replay", "bag", "--out", "x"], "The backend emo_llama needs torch"),
    ],
)
def test_each_command_says_what_it_lacks_before_it_looks_at_anything(hidden, command, words, tmp_path, repository):
    if hidden != "torch":
        pytest.importorskip(hidden)
        pytest.importorskip("torch")
    path = os.pathsep.join([str(repository), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", HIDDEN, hidden, *command], capture_output=True, text=True, cwd=tmp_path, check=False,
        env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith(f"emo_llama: {words}, not installed here: pip install 'emo_llama_ros["), done.stderr
    assert done.stderr.count("\n") == 1
    assert list(Path(tmp_path).iterdir()) == []
