"""What emo-eyes is to say of a face: how ten people voted, and how far they disagreed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import GroupShuffleSplit

from emo_llama_ros.data.ferplus import FER2013_NAMES, SPLITS, VOTE_NAMES, VotedFaces
from emo_llama_ros.labels import FERPLUS

FloatArray = npt.NDArray[np.float32]

FEW = ("disgust", "fear")
"""Displays of which FER+ has so few votes that FER2013's own label counts even where nobody voted for it."""
_NOT_A_FACE = VOTE_NAMES.index("not_a_face")
_DISPLAYS = len(FERPLUS.labels)


@dataclass(frozen=True, slots=True)
class Targets:
    """Targets of N faces."""

    shares: FloatArray
    """(N, 8): distribution over FERPLUS.labels, rows sum to 1."""
    disagreement: FloatArray
    """(N,) in [0, 1]: entropy of the ten people's votes over the eight displays, relative to its maximum."""


def make_targets(faces: VotedFaces, label_votes: float) -> Targets:
    """Return the targets of faces that `usable` lets through.

    Single votes are dropped, as FER+'s majority rule does. FER2013's own label counts as `label_votes` more votes where
    somebody voted for it, and always for the displays in FEW: for these, FER2013's labels are most of the evidence.
    """
    votes = faces.votes[:, :_DISPLAYS].astype(np.float32)
    counted = np.where(votes > 1, votes, 0)
    if faces.fer2013 is not None:
        place = np.array([FERPLUS.labels.index(name) for name in FER2013_NAMES])[faces.fer2013]
        rows = np.arange(len(faces))
        few = np.isin(place, [FERPLUS.labels.index(name) for name in FEW])
        counted[rows, place] += label_votes * (few | (votes[rows, place] > 0))
    nobody = counted.sum(1) == 0
    counted[nobody] = votes[nobody]
    return Targets(counted / counted.sum(1, keepdims=True), disagreement_of(votes))


def disagreement_of(votes: npt.NDArray[np.number]) -> FloatArray:
    """Return the entropy of vote counts (N, C) in [0, 1]: 0 where all agree, 1 where all C got the same."""
    shares = votes / np.maximum(votes.sum(1, keepdims=True), 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(shares > 0, shares * np.log(shares), 0.0)
    return (-terms.sum(1) / np.log(votes.shape[1])).astype(np.float32)


def usable(faces: VotedFaces, least_votes: int) -> npt.NDArray[np.bool_]:
    """Return which faces (N,) can train: at least `least_votes` of ten saw a display, and at most two no face."""
    seen = faces.votes[:, :_DISPLAYS].sum(1)
    return np.asarray((seen >= least_votes) & (faces.votes[:, _NOT_A_FACE] < 3))


def split_training(
    faces: VotedFaces, held_out: float, seed: int
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return masks (N,) of the faces of FER+'s Training split that train, and of those that are held out for choosing.

    A group of equal pictures is never divided, and none that also lies in another split trains.
    """
    training = faces.split == SPLITS.index("train")
    training &= ~np.isin(faces.group, np.unique(faces.group[~training]))
    places = np.flatnonzero(training)
    splitter = GroupShuffleSplit(n_splits=1, test_size=held_out, random_state=seed)
    train, held = next(splitter.split(places, groups=faces.group[places]))
    masks = np.zeros((2, len(faces)), bool)
    masks[0, places[train]] = True
    masks[1, places[held]] = True
    return masks[0], masks[1]
