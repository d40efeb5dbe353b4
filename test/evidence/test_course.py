"""The course of an expression has few phases, and one frame alone never makes one."""

from itertools import pairwise

import hypothesis.strategies as st
import pytest
from hypothesis import given

from emo_llama_ros.evidence import Phase, phases_of

LABELS = ("happiness", "neutral", "anger")
AGES = (1.75, 1.5, 1.25, 1.0, 0.75, 0.5, 0.25, 0.0)


def readings(letters):
    return [[0.8 if letter == label[0] else 0.1 for label in LABELS] for letter in letters]


def course(letters):
    return [(p.label, p.start_s, p.end_s) for p in phases_of(AGES[-len(letters) :], readings(letters), LABELS)]


@pytest.mark.parametrize(
    ("letters", "expected"),
    [
        ("nnnnnnnn", [("neutral", 1.75, 0.0)]),
        ("nnnnhhhh", [("neutral", 1.75, 0.875), ("happiness", 0.875, 0.0)]),
        ("nnnhhnnn", [("neutral", 1.75, 1.125), ("happiness", 1.125, 0.625), ("neutral", 0.625, 0.0)]),
        ("nnnnhnnn", [("neutral", 1.75, 0.0)]),
        ("nnnnnnna", [("neutral", 1.75, 0.0)]),
        ("h", [("happiness", 0.0, 0.0)]),
        ("", []),
    ],
)
def test_phases(letters, expected):
    assert course(letters) == expected


@given(st.text("nha", max_size=8))
def test_phases_cover_the_clip_without_gap_and_never_repeat(letters):
    found = phases_of(AGES[len(AGES) - len(letters) :], readings(letters), LABELS)
    assert bool(found) == bool(letters)
    if found:
        assert (found[0].start_s, found[-1].end_s) == (AGES[len(AGES) - len(letters)], 0.0)
    for before, after in pairwise(found):
        assert before.end_s == after.start_s
        assert before.label != after.label


def test_phases_are_phases():
    assert phases_of((0.0,), [[0.1, 0.2, 0.7]], LABELS) == (Phase("anger", 0.0, 0.0),)
