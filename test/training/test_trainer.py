import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import TrainerCallback

from emo_llama_ros.errors import BadParameter
from emo_llama_ros.training.recipe import ParameterGroup, Stage
from emo_llama_ros.training.sampling import BalancedSampler, balanced_weights
from emo_llama_ros.training.trainer import fit

sys.path.insert(0, str(Path(__file__).parent))
from tuning_fixtures import make_items, make_tiny

GROUPS = (
    ParameterGroup("face", ("face_branch",), 3e-3),
    ParameterGroup("language", ("language_model",), 3e-3, weight_decay=0.01),
)
STAGE = Stage(
    "tiny",
    training={
        "max_steps": 8,
        "per_device_train_batch_size": 4,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 2,
        "logging_steps": 2,
        "save_steps": 4,
        "use_cpu": True,
    },
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return make_tiny(tmp_path_factory.mktemp("tokenizers"), vision=False, scope="clip")


class StopAt(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step >= self.step


def run(tiny, folder, stage=STAGE, **options):
    items = make_items(tiny.config, 12)
    model = tiny.model()
    sampler = BalancedSampler(balanced_weights([item.label for item in items], 1.0), seed=3)
    figures = fit(model, stage, GROUPS, items, tiny.collate, folder, seed=5, sampler=sampler, **options)
    return model.state_dict(), figures


def test_training_lowers_the_loss_and_logs_it_as_json(tiny, tmp_path):
    _, figures = run(tiny, tmp_path, replace(STAGE, training={**STAGE.training, "max_steps": 30}))
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    losses = [entry["loss"] for entry in log if "loss" in entry]
    assert losses[-1] < 0.5 * losses[0]
    assert {"stage", "step", "learning_rate", "token_accuracy", "seconds"} <= log[0].keys()
    assert figures["token_accuracy"] > log[0]["token_accuracy"]


def test_a_resumed_run_ends_at_the_same_bits_as_an_uninterrupted_one(tiny, tmp_path):
    whole, _ = run(tiny, tmp_path / "whole")
    run(tiny, tmp_path / "broken", callbacks=[StopAt(5)])
    resumed, _ = run(tiny, tmp_path / "broken", resume=True)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_run_is_not_resumed_from_the_checkpoints_of_an_earlier_one_in_its_folder(tiny, tmp_path):
    longer = replace(STAGE, training={**STAGE.training, "max_steps": 12})
    run(tiny, tmp_path, longer)
    (tmp_path / "tiny" / "notes.txt").touch()
    run(tiny, tmp_path, callbacks=[StopAt(4)])
    assert sorted(path.name for path in (tmp_path / "tiny").iterdir()) == ["checkpoint-4", "notes.txt"]


def test_resuming_without_a_checkpoint_says_what_to_do(tiny, tmp_path):
    with pytest.raises(BadParameter, match="without --resume"):
        run(tiny, tmp_path, resume=True)


def test_a_field_that_the_trainer_does_not_know_is_named(tiny, tmp_path):
    with pytest.raises(BadParameter, match="max_stepps"):
        run(tiny, tmp_path, replace(STAGE, training={"max_stepps": 3}))


def test_only_the_groups_train(tiny, tmp_path):
    before, model = tiny.model().state_dict(), tiny.model()
    fit(model, STAGE, GROUPS[:1], make_items(tiny.config, 4), tiny.collate, tmp_path, seed=0)
    changed = {
        name.split(".")[0] for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])
    }
    assert changed == {"face_branch"}
