import pytest
import torch

from emo_llama_ros.training.sampling import BalancedSampler, balanced_weights

LABELS = ["happiness"] * 61 + ["contempt"]


def test_full_balance_gives_every_label_the_same_share():
    weights = balanced_weights(LABELS, 1.0)
    assert weights[:61].sum().item() == pytest.approx(weights[61].item())


def test_no_balance_visits_every_item_once():
    assert sorted(BalancedSampler(balanced_weights(LABELS, 0.0), seed=0)) == list(range(62))


def test_rare_labels_come_as_often_as_frequent_ones():
    sampler = BalancedSampler(balanced_weights(LABELS * 50, 1.0), seed=0)
    drawn = [LABELS[i % 62] for i in sampler]
    assert 0.45 < drawn.count("contempt") / len(drawn) < 0.55


def test_the_order_depends_on_seed_and_epoch_alone():
    first, second = (BalancedSampler(balanced_weights(LABELS, 1.0), seed=7) for _ in range(2))
    assert list(first) == list(second)
    second.set_epoch(1)
    assert list(first) != list(second)
    first.set_epoch(1)
    assert list(first) == list(second)


def test_weights_average_to_one():
    assert balanced_weights(LABELS, 0.5).mean().item() == pytest.approx(1.0)
    assert balanced_weights(LABELS, 0.5).dtype == torch.float64
