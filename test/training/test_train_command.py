"""`emo_llama train` from the command line: the smallest run of the nano recipe, and its errors."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

RECIPE = Path(__file__).resolve().parents[2] / "config" / "train" / "nano.yaml"


def emo_llama(*arguments):
    command = [sys.executable, "-m", "emo_llama_ros.cli", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "HF_HUB_OFFLINE": "1", "NO_COLOR": "1", "COLUMNS": "200"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_a_recipe_that_is_not_there_is_one_sentence(tmp_path):
    done = emo_llama("train", tmp_path / "none.yaml")
    assert done.returncode == 1
    assert done.stderr == (
        f"emo_llama: There is no recipe {tmp_path / 'none.yaml'}; the shipped ones lie in config/train.\n"
    )


def test_help_names_every_option():
    done = emo_llama("train", "--help")
    assert all(option in done.stdout for option in ("--smoke", "--resume", "--output", "accelerate launch"))


@pytest.mark.slow
@pytest.mark.timeout(1500)  # over five minutes on one core without bfloat16
def test_a_smoke_run_lowers_the_loss_and_changes_what_the_model_says(tmp_path):
    done = emo_llama("train", RECIPE, "--smoke", "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"Trained {tmp_path / 'model'}" in done.stdout.replace("\n", "")
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    stages = list(dict.fromkeys(entry["stage"] for entry in log if "stage" in entry))
    for stage in stages[:2]:
        losses = [entry["loss"] for entry in log if entry.get("stage") == stage and "loss" in entry]
        assert losses[-1] < 0.8 * losses[0], stage
    assert (tmp_path / "training.png").stat().st_size > 0
    # Nearly no token is right before training: every right one is a prediction that changed.
    first = next(entry["token_accuracy"] for entry in log if "token_accuracy" in entry)
    last = [e["eval_token_accuracy"] for e in log if e.get("stage") == stages[0] and "eval_token_accuracy" in e]
    assert last[-1] > first + 0.1
    made = tmp_path / "model"
    assert {"config.json", "manifest.json", "calibration.json"} <= {file.name for file in made.iterdir()}
    assert log[-1]["weights"].keys() == {"model.safetensors"}
    assert (made / "training_log.jsonl").read_text() == (tmp_path / "log.jsonl").read_text()
