import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from emo_llama_ros.errors import BadParameter
from emo_llama_ros.training.collate import Tunable
from emo_llama_ros.training.optimizer import hidden_matrices, make_optimizer, trainable_groups
from emo_llama_ros.training.recipe import ParameterGroup

sys.path.insert(0, str(Path(__file__).parent))
from tuning_fixtures import make_tiny

GROUPS = (
    ParameterGroup("face", ("face_branch",), 3e-3),
    ParameterGroup("language", ("language_model",), 3e-3, weight_decay=0.01),
)
BETAS = (0.9, 0.98)
WITH_MUON = ParameterGroup("language", ("language",), 3e-3, weight_decay=0.1, matrix_learning_rate=1e-2)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return make_tiny(tmp_path_factory.mktemp("tokenizers"), vision=False, scope="clip")


class Talker(nn.Module):
    def __init__(self, tied=True):
        super().__init__()
        torch.manual_seed(0)
        sizes = {"vocab_size": 32, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
        self.language = LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=2, tie_word_embeddings=tied))
        self.eyes = nn.Linear(4, 4)


def learn(model, optimizer, steps):
    ids = torch.arange(24).view(2, 12)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model.language(input_ids=ids, labels=ids).loss + model.eyes(torch.ones(4)).square().sum()
        loss.backward()
        optimizer.step()
    return loss.item()


@pytest.mark.parametrize("tied", [True, False])
def test_embeddings_output_heads_and_norms_are_no_hidden_matrices(tied):
    model = Talker(tied)
    hidden = hidden_matrices(model)
    names = {name for name, parameter in model.named_parameters() if id(parameter) not in hidden}
    assert {name.rsplit(".", 2)[-2] for name in names if name.startswith("language")} <= {
        "embed_tokens", "lm_head", "norm", "input_layernorm", "post_attention_layernorm",
    }  # fmt: skip
    assert len(hidden) == 7 + 1


def test_only_the_matrices_of_a_group_that_asks_for_it_go_to_muon():
    model = Talker()
    groups = trainable_groups(model, [WITH_MUON, ParameterGroup("eyes", ("eyes",), 1e-3)])
    assert [(g["muon"], g["lr"], g["weight_decay"]) for g in groups] == [
        (True, 1e-2, 0.1),
        (False, 3e-3, 0.1),
        (False, 3e-3, 0.0),
        (False, 1e-3, 0.0),
        (False, 1e-3, 0.0),
    ]


def test_without_muon_it_is_plain_adamw():
    optimizer = make_optimizer(trainable_groups(Talker(), [ParameterGroup("all", ("language",), 1e-3)]), BETAS)
    assert type(optimizer) is torch.optim.AdamW
    assert optimizer.param_groups[0]["betas"] == BETAS


def test_every_parameter_moves_and_the_loss_falls():
    model = Talker()
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    optimizer = make_optimizer(trainable_groups(model, [WITH_MUON, ParameterGroup("eyes", ("eyes",), 1e-3)]), BETAS)
    first = learn(model, optimizer, 1)
    assert learn(model, optimizer, 60) < 0.5 * first
    assert not any(torch.equal(before[name], parameter) for name, parameter in model.named_parameters())


def test_a_schedule_reaches_both_parts_also_after_loading():
    model = Talker()
    optimizer = make_optimizer(trainable_groups(model, [WITH_MUON]), BETAS)
    learn(model, optimizer, 1)
    optimizer.load_state_dict(optimizer.state_dict())
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.0)
    before = [parameter.clone() for parameter in model.language.parameters()]
    learn(model, optimizer, 1)
    schedule.step()
    assert all(torch.equal(a, b) for a, b in zip(before, model.language.parameters(), strict=True))


def test_a_loaded_state_goes_on_as_if_nothing_had_happened():
    whole, broken = Talker(), Talker()
    groups = [WITH_MUON, ParameterGroup("eyes", ("eyes",), 1e-3)]
    learn(whole, make_optimizer(trainable_groups(whole, groups), BETAS), 6)
    first = make_optimizer(trainable_groups(broken, groups), BETAS)
    learn(broken, first, 3)
    second = make_optimizer(trainable_groups(broken, groups), BETAS)
    second.load_state_dict(first.state_dict())
    learn(broken, second, 3)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), broken.parameters(), strict=True))


def test_each_group_has_its_own_rate_and_norms_are_not_decayed(tiny):
    groups = trainable_groups(Tunable(tiny.model()), GROUPS)
    assert [(g["lr"], g["weight_decay"]) for g in groups if g["params"][0].ndim > 1] == [(3e-3, 0.0), (3e-3, 0.01)]
    assert all(g["weight_decay"] == 0 for g in groups if g["params"][0].ndim == 1)


def test_a_group_without_parameters_is_an_error(tiny):
    with pytest.raises(BadParameter, match="'eyes'"):
        trainable_groups(Tunable(tiny.model()), [ParameterGroup("eyes", ("vision_tower",), 1e-4)])
