import importlib.util

import pytest
from typer.testing import CliRunner

from emo_llama_ros.checks.machine import core_findings
from emo_llama_ros.findings import Level
from emo_llama_ros.options import Options
from emo_llama_ros.ros.required import require_ros


def found(subject, options=Options()):  # noqa: B008
    return next(f for f in core_findings(options) if f.subject == subject)


def test_every_finding_that_is_not_fine_says_what_to_do(tmp_path):
    for finding in core_findings(Options(models_folder=str(tmp_path))):
        assert finding.found
        assert finding.level is Level.OK or finding.advice, finding


def test_missing_networks_are_a_failure_that_names_the_command(tmp_path):
    finding = found("face networks", Options(models_folder=str(tmp_path)))
    assert finding.level is Level.FAIL
    assert "emo_llama fetch" in finding.advice


def test_a_missing_package_is_a_failure_that_names_it(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ai_edge_litert" else real(name))
    finding = found("ai-edge-litert")
    assert finding.level is Level.FAIL
    assert "pip install ai-edge-litert" in finding.advice


def test_without_torch_only_the_language_model_is_missing(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else real(name))
    finding = found("language model")
    assert finding.level is Level.WARN
    assert "expression backend" in finding.found


def test_little_shared_memory_is_a_warning(monkeypatch):
    usage = type("Usage", (), {"free": 64 << 20})
    monkeypatch.setattr("emo_llama_ros.checks.machine.shutil.disk_usage", lambda path: usage)
    finding = found("shared memory")
    assert finding.level is Level.WARN
    assert "--shm-size" in finding.advice


def test_the_command_fails_when_something_must_be_repaired(tmp_path):
    from emo_llama_ros.cli import app

    result = CliRunner().invoke(app, ["doctor", "--seconds", "0", "--set", f"models_folder={tmp_path}"])
    assert result.exit_code == 1
    assert "fail  face networks" in result.stdout
    assert "→ run `emo_llama fetch`" in result.stdout


def test_a_missing_ros_is_named_with_the_way_to_get_it(monkeypatch):
    from emo_llama_ros.errors import MissingDependency

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match=r"setup\.bash"):
        require_ros()


def test_a_look_that_fails_is_a_finding_and_the_others_follow(monkeypatch):
    def broken(path):
        raise PermissionError("no such luck")

    monkeypatch.setattr("emo_llama_ros.checks.machine.shutil.disk_usage", broken)
    found = list(core_findings(Options()))
    assert [f.level for f in found if f.subject == "shared memory"] == [Level.FAIL]
    assert "no such luck" in found[-1].found
    assert found[-1].advice


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"calibration_file": "/nowhere.json"}, ["calibration_file", "/nowhere.json"]),
        ({"deployment_context": "workplace"}, ["medical_or_safety_reason"]),
        ({"expression_model": "~nosuchuser/x"}, ["expression_model"]),
        ({"insightface_folder": "", "analyzer": "insightface"}, ["insightface_folder"]),
    ],
)
def test_parameters_that_would_refuse_configure_are_a_failure(values, words):
    finding = found("parameters", Options().with_values(values))
    assert finding.level is Level.FAIL
    for word in words:
        assert word in finding.found
    assert found("parameters").level is Level.OK
