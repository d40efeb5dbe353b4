import pytest
import torch

from emo_llama_ros.training.sampling import BalancedSampler, LengthGroupedSampler, balanced_weights, mixed_weights

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


def test_kinds_come_in_their_shares_and_labels_evenly_within_each():
    labels = ["happiness"] * 90 + ["fear"] * 10 + ["happiness"] * 15 + ["fear"] * 5
    kinds = ["category"] * 100 + ["conversation"] * 20
    weights = mixed_weights(labels, kinds, 1.0, {"conversation": 0.5})
    assert weights[:100].sum().item() == pytest.approx(weights[100:].sum().item())
    assert weights[:90].sum().item() == pytest.approx(weights[90:100].sum().item())
    assert weights[100:115].sum().item() == pytest.approx(weights[115:].sum().item())


def test_without_shares_or_balance_all_records_weigh_the_same():
    weights = mixed_weights(["a", "b", "b"], ["category", "conversation", "category"], 0.0)
    assert torch.equal(weights, torch.ones(3, dtype=torch.float64))


def test_a_kind_that_does_not_occur_leaves_its_share_to_the_others():
    weights = mixed_weights(["a", "b"], ["category", "category"], 0.0, {"conversation": 0.5})
    assert torch.equal(weights, torch.ones(2, dtype=torch.float64))


def test_items_of_one_length_come_together_and_each_comes_once():
    lengths = torch.randint(10, 500, (4000,), generator=torch.Generator().manual_seed(1)).tolist()
    order = list(LengthGroupedSampler(lengths, 16, seed=0))
    assert sorted(order) == list(range(4000))
    batches = [[lengths[i] for i in order[k : k + 16]] for k in range(0, 4000, 16)]
    padded = sum(max(batch) * len(batch) for batch in batches)
    assert padded < 1.05 * sum(lengths)
    # Long and short batches alternate at random: a schedule must not meet all long ones first.
    longest = [max(batch) for batch in batches]
    assert abs(sum(longest[:125]) - sum(longest[125:])) < 0.1 * sum(longest)


def test_another_epoch_or_seed_is_another_order():
    lengths = list(range(256))
    sampler = LengthGroupedSampler(lengths, 8, seed=0)
    first = list(sampler)
    assert list(sampler) == first
    sampler.set_epoch(1)
    assert list(sampler) != first
    assert list(LengthGroupedSampler(lengths, 8, seed=1)) != first
