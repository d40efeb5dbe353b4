"""What emo-eyes learns is what ten people said."""

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="needs the 'train' extra")

from emo_llama_ros.data.ferplus import FER2013_NAMES, VOTE_NAMES, VotedFaces, majority_of
from emo_llama_ros.labels import FERPLUS
from emo_llama_ros.training.eyes.targets import disagreement_of, make_targets, split_training, usable


def voted(*rows, fer2013=None, split=None, group=None) -> VotedFaces:
    votes = np.zeros((len(rows), len(VOTE_NAMES)), np.uint8)
    for row, counts in enumerate(rows):
        for name, count in counts.items():
            votes[row, VOTE_NAMES.index(name)] = count
    labels = None if fer2013 is None else np.array([FER2013_NAMES.index(name) for name in fer2013], np.uint8)
    return VotedFaces(
        np.zeros((len(rows), 48, 48), np.uint8),
        votes,
        majority_of(votes),
        labels,
        np.zeros(len(rows), np.uint8) if split is None else np.array(split, np.uint8),
        np.arange(len(rows), dtype=np.int32) if group is None else np.array(group, np.int32),
        tuple(str(row) for row in range(len(rows))),
    )


def share(targets, row, label) -> float:
    return float(targets.shares[row, FERPLUS.labels.index(label)])


def test_targets_are_shares_of_votes_without_single_ones():
    targets = make_targets(voted({"anger": 6, "disgust": 3, "fear": 1}), label_votes=3)
    assert share(targets, 0, "anger") == pytest.approx(2 / 3)
    assert share(targets, 0, "fear") == 0


def test_fer2013s_label_counts_where_somebody_voted_for_it():
    faces = voted({"sadness": 7, "neutral": 2}, {"sadness": 7, "neutral": 2}, fer2013=["neutral", "anger"])
    targets = make_targets(faces, label_votes=3)
    assert share(targets, 0, "neutral") == pytest.approx(5 / 12)
    assert share(targets, 1, "anger") == 0


def test_fer2013s_disgust_and_fear_count_even_where_nobody_voted_for_them():
    targets = make_targets(voted({"anger": 9}, {"surprise": 9}, fer2013=["disgust", "fear"]), label_votes=3)
    assert share(targets, 0, "disgust") == share(targets, 1, "fear") == pytest.approx(0.25)


def test_a_face_with_single_votes_only_keeps_them():
    targets = make_targets(voted({"anger": 1, "fear": 1}), label_votes=0)
    assert share(targets, 0, "anger") == share(targets, 0, "fear") == 0.5


def test_disagreement_is_none_where_all_agree_and_full_where_every_display_got_the_same():
    assert disagreement_of(np.array([[10, 0, 0, 0], [2, 2, 2, 2]])).tolist() == pytest.approx([0, 1])


def test_faces_that_few_could_read_or_that_are_none_do_not_train():
    faces = voted({"anger": 3, "unknown": 7}, {"anger": 4, "unknown": 6}, {"anger": 7, "not_a_face": 3})
    assert usable(faces, least_votes=4).tolist() == [False, True, False]


def test_equal_pictures_are_never_on_both_sides_and_none_of_another_split_trains():
    rows = [{"anger": 10}] * 60
    faces = voted(*rows, split=[0] * 50 + [1] * 10, group=[*np.repeat(np.arange(10), 5), *range(9, 19)])
    train, held = split_training(faces, held_out=0.3, seed=1)
    assert train.any()
    assert held.any()
    assert not (train & held).any()
    assert not set(faces.group[train]) & set(faces.group[held])
    assert not set(faces.group[train | held]) & set(faces.group[50:])  # group 9 lies in both splits
