import dataclasses

import pytest
import torch
from torch.testing import assert_close

from emo_llama_ros.model.configuration import FaceConfig, emo_llama_tiny
from emo_llama_ros.model.face_mining import FaceInfoMining, FacePriors

TINY = emo_llama_tiny().face


@pytest.fixture(autouse=True)
def _no_grad():
    torch.manual_seed(0)
    with torch.no_grad():
        yield


def test_tokens_are_one_global_token_the_landmarks_and_the_evidence(make_priors):
    assert FaceInfoMining(TINY)(make_priors([1, 1])).shape == (2, 1 + 68 + 1, TINY.hidden_size)


@pytest.mark.parametrize(
    ("changes", "tokens"),
    [
        ({"evidence_dim": 0}, 1 + 68),
        ({"embedding_dim": 0}, 68 + 1),
        ({"landmark_regions": ()}, 9 + 1),
        ({"landmark_pooling": True}, 1 + 5 + 1),
        ({"landmark_pooling": True, "embedding_dim": 0}, 5 + 1),
        ({"landmark_regions": (), "embedding_is_map": False, "global_tokens": 4}, 4 + 1),
        ({"landmark_regions": (), "embedding_dim": 0, "evidence_tokens": 3}, 3),
    ],
)
def test_a_prior_that_is_switched_off_is_neither_needed_nor_used(make_priors, changes, tokens):
    config = dataclasses.replace(TINY, **changes)
    priors = make_priors([1], is_map=config.embedding_is_map)
    given = FacePriors(
        priors.valid,
        priors.embedding if config.embedding_dim else None,
        priors.landmarks if config.landmark_regions else None,
        priors.evidence if config.evidence_dim else None,
    )
    assert FaceInfoMining(config)(given).shape == (1, tokens, config.hidden_size)


def test_global_and_local_priors_look_at_each_other(make_priors):
    mining, priors = FaceInfoMining(TINY), make_priors([1])
    before = mining(priors)
    other_face = mining(dataclasses.replace(priors, embedding=priors.embedding + 1))
    other_points = mining(dataclasses.replace(priors, landmarks=-priors.landmarks))
    for changed in (other_face, other_points):
        assert ((changed - before)[:, :69].abs().amax(dim=-1) > 0).all()


def test_a_pooled_region_is_the_mean_of_its_points(make_priors):
    pooled, single = FaceInfoMining(dataclasses.replace(TINY, landmark_pooling=True)), FaceInfoMining(TINY)
    single.load_state_dict(pooled.state_dict())
    priors = make_priors([1])
    points, regions = single(priors)[:, 1:69], pooled(priors)[:, 1:6]
    assert_close(regions[:, 0], points[:, :17].mean(dim=1))
    assert_close(regions[:, 4], points[:, 48:].mean(dim=1))


def test_priors_that_learn_nothing_from_each_other_pass_through(make_priors):
    mining, priors = FaceInfoMining(TINY), make_priors([1])
    for attention in (mining.global_attention, mining.local_attention):
        attention.out_proj.weight.zero_()
        attention.out_proj.bias.zero_()
    face, points = mining._global(priors), mining._local(priors)
    expected = torch.cat((mining.fused_global_norm(face.mean(dim=1, keepdim=True)), mining.local_norm(points)), dim=1)
    assert_close(mining(priors)[:, :69], expected)


def test_landmarks_differ_by_point_and_by_region(make_priors):
    mining, priors = FaceInfoMining(TINY), make_priors([1])
    same_place = dataclasses.replace(priors, landmarks=torch.zeros_like(priors.landmarks))
    tokens = mining(same_place)[0, 1:69]
    assert len(torch.unique(tokens, dim=0)) == 68
    mining.landmark_region[4] += 1
    moved = (mining(same_place)[0, 1:69] - tokens).abs().amax(dim=-1)
    assert moved[48:].min() > 10 * moved[:48].max()  # only the mouth's own residual moves


def test_a_large_feature_map_is_pooled(make_priors):
    priors = make_priors([1])
    large = dataclasses.replace(priors, embedding=priors.embedding.repeat_interleave(2, -1).repeat_interleave(2, -2))
    mining = FaceInfoMining(TINY)
    assert_close(mining(large), mining(priors), atol=1e-5, rtol=1e-4)


def test_an_unknown_fact_is_not_a_measured_zero(make_priors):
    mining, priors = FaceInfoMining(TINY), make_priors([1])
    unknown, zero = (priors.evidence.index_fill(1, torch.tensor([3]), value) for value in (float("nan"), 0.0))
    read = mining(dataclasses.replace(priors, evidence=unknown))
    assert read.isfinite().all()
    assert not torch.equal(read, mining(dataclasses.replace(priors, evidence=zero)))


def test_evidence_is_standardized_with_the_statistics_of_the_training_data(make_priors):
    mining, priors = FaceInfoMining(TINY), make_priors([1])
    expected = mining(priors)
    mining.evidence_mean.fill_(5)
    mining.evidence_std.fill_(2)
    assert_close(mining(dataclasses.replace(priors, evidence=priors.evidence * 2 + 5)), expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"landmarks": None}, "needs landmarks"),
        ({"embedding": torch.zeros(1, 15, 6, 6)}, r"shape \(N, 16, any, any\)"),
        ({"embedding": torch.zeros(1, 16)}, r"shape \(N, 16, any, any\)"),
        ({"evidence": torch.zeros(1, 8)}, r"shape \(N, 7\)"),
        ({"landmarks": torch.full((1, 68, 2), float("nan"))}, "finite"),
    ],
)
def test_a_prior_that_does_not_fit_is_refused(make_priors, changes, message):
    with pytest.raises(ValueError, match=message):
        FaceInfoMining(TINY)(dataclasses.replace(make_priors([1]), **changes))


def test_mining_complete_priors_never_asks_for_a_value(make_priors):
    # Tensors on the meta device have none to give; on a GPU, asking would wait and could not be recorded.
    tokens = FaceInfoMining(TINY).to("meta").mine(make_priors([1, 1]).to("meta"))
    assert tokens.shape == (2, 1 + 68 + 1, TINY.hidden_size)


def test_priors_are_complete_when_every_face_is_there_and_finite(make_priors):
    priors = make_priors([1, 1])
    unknown = dataclasses.replace(priors, evidence=priors.evidence.index_fill(1, torch.tensor([3]), float("nan")))
    assert priors.complete
    assert unknown.complete, "evidence may be unknown"
    assert not make_priors([1, 0]).complete
    assert not dataclasses.replace(priors, landmarks=priors.landmarks / 0).complete


def test_complete_priors_give_the_tokens_of_any_priors(build_model, make_priors):
    branch, priors = build_model().face_branch, make_priors([1, 1, 1])
    prompt = torch.tensor([[2, 3, 4]]).expand(3, -1)
    want = torch.stack(branch.frame_tokens(priors, prompt, torch.ones_like(prompt)))
    assert torch.equal(branch.complete_tokens(priors, prompt, torch.ones_like(prompt)), want)


def test_the_published_landmark_layout_has_68_points():
    assert FaceConfig().num_landmarks == 68


def test_priors_join_and_split_along_time(make_priors):
    priors = make_priors([1, 0, 1])
    joined = FacePriors.cat([priors[:1], priors[1:]])
    assert joined.valid.tolist() == [True, False, True]
    assert torch.equal(joined.landmarks, priors.landmarks)
    with pytest.raises(ValueError, match="different priors"):
        FacePriors.cat([priors, dataclasses.replace(priors, evidence=None)])


def test_a_clip_longer_than_its_position_table_is_refused(build_model, make_priors):
    branch = build_model(face_changes={"scope": "clip", "max_frames": 2}).face_branch
    prompt = torch.tensor([[2, 3]])
    with pytest.raises(ValueError, match="max_frames = 2"):
        branch.clip_tokens(make_priors([1, 1, 1]), prompt, torch.ones_like(prompt))
