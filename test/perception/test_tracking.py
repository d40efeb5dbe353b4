"""Following people: ids, occlusions, crossings, limits."""

from __future__ import annotations

import pickle
import random
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emo_llama_ros.faces.face import Box, Face
from emo_llama_ros.options import Options
from emo_llama_ros.perception.tracking import Tracker, _Ids

MS = 1_000_000
RED, BLUE = (200, 60, 60), (60, 60, 200)


@pytest.fixture
def tracker() -> Tracker:
    return Tracker(Options(seed=7))


def _ids(people) -> list[str]:
    return [face_id for face_id, _ in people]


def test_a_face_gets_its_id_at_the_second_sighting(tracker, make_face) -> None:
    assert tracker.update(0, [make_face()]) == []
    assert len(tracker.update(100 * MS, [make_face()])) == 1


def test_ids_are_short_readable_and_never_words(tracker, make_face) -> None:
    tracker.update(0, [make_face(100), make_face(500)])
    ids = _ids(tracker.update(100 * MS, [make_face(100), make_face(500)]))

    assert len(set(ids)) == 2
    assert all(re.fullmatch(r"[b-df-hj-np-tv-xz][2-9b-df-hj-np-tv-xz]{4}", i) for i in ids)


def test_a_seed_repeats_the_ids_and_no_seed_does_not(make_face) -> None:
    def first_id(seed: int) -> str:
        tracker = Tracker(Options(seed=seed))
        tracker.update(0, [make_face()])
        return _ids(tracker.update(1, [make_face()]))[0]

    assert first_id(3) == first_id(3)
    assert first_id(0) != first_id(0)


def test_a_hidden_face_keeps_its_id_for_the_track_memory(tracker, make_face) -> None:
    tracker.update(0, [make_face()])
    before = _ids(tracker.update(100 * MS, [make_face()]))
    tracker.update(500 * MS, [])

    assert _ids(tracker.update(1000 * MS, [make_face(330)])) == before
    assert tracker.ended() == []


def test_a_face_hidden_for_longer_is_somebody_new(tracker, make_face) -> None:
    tracker.update(0, [make_face()])
    before = _ids(tracker.update(100 * MS, [make_face()]))
    tracker.update(500 * MS, [])
    tracker.update(1200 * MS, [make_face()])

    assert tracker.ended() == before
    assert _ids(tracker.update(1300 * MS, [make_face()])) != before
    assert tracker.ended() == []


def test_without_memory_a_face_missed_once_has_left(make_face) -> None:
    tracker = Tracker(Options(seed=7, track_memory_s=0.0))
    tracker.update(0, [make_face()])
    before = _ids(tracker.update(100 * MS, [make_face()]))
    assert _ids(tracker.update(200 * MS, [make_face()])) == before

    tracker.update(300 * MS, [])

    assert tracker.ended() == before


def test_a_face_seen_once_is_never_reported_as_ended(tracker, make_face) -> None:
    tracker.update(0, [make_face()])
    for step in range(1, 30):
        assert tracker.update(step * 100 * MS, []) == []
        assert tracker.ended() == []


def test_the_largest_person_comes_first(tracker, make_face) -> None:
    faces = [make_face(100, width=60), make_face(400, width=120), make_face(250, width=80)]
    tracker.update(0, faces)

    widths = [face.box.width for _, face in tracker.update(100 * MS, faces)]

    assert widths == [120, 80, 60]


def test_a_walking_person_keeps_the_id(tracker, make_face) -> None:
    ids = {
        i for step in range(30) for i in _ids(tracker.update(step * 100 * MS, [make_face(50 + 45 * step, width=60)]))
    }
    assert len(ids) == 1


def test_an_approaching_person_keeps_the_id(tracker, make_face) -> None:
    ids = {i for step in range(25) for i in _ids(tracker.update(step * 100 * MS, [make_face(width=40 * 1.08**step)]))}
    assert len(ids) == 1


@pytest.mark.parametrize("other", [RED, BLUE], ids=["same colours", "other colours"])
def test_two_people_who_cross_keep_their_ids(tracker, make_face, other) -> None:
    """One walks behind the other and is hidden for four frames."""
    at: dict[int, list[tuple[str, float]]] = {}
    for step in range(21):
        right, left = 100 + 20 * step, 500 - 20 * step
        faces = [make_face(right, colour=RED)]
        if abs(right - left) > 60:
            faces.append(make_face(left, colour=other))
        at[step] = [(i, f.box.x + 50) for i, f in tracker.update(step * 100 * MS, faces)]

    walker, other_walker = (i for i, _ in sorted(at[1], key=lambda p: p[1]))
    assert [i for i, _ in sorted(at[20], key=lambda p: p[1])] == [other_walker, walker]
    assert {i for people in at.values() for i, _ in people} == {walker, other_walker}


def test_colours_tell_who_came_out_on_which_side(tracker, make_face) -> None:
    """Two people meet, hide behind a pillar together, and each turns back."""

    def pair(red: float, blue: float):
        return [make_face(red, width=60, colour=RED), make_face(blue, width=60, colour=BLUE)]

    tracker.update(0, pair(300, 380))
    tracker.update(100 * MS, pair(310, 370))
    before = {f.crop[0, 0, 0]: i for i, f in tracker.update(200 * MS, pair(320, 360))}
    tracker.update(400 * MS, [])

    after = tracker.update(700 * MS, pair(320, 360))

    assert {f.crop[0, 0, 0]: i for i, f in after} == before


def test_no_more_than_max_faces_are_followed(make_face) -> None:
    tracker = Tracker(Options(seed=7, max_faces=2))
    crowd = [make_face(100 * n, width=50 + n) for n in range(1, 6)]
    tracker.update(0, crowd)

    people = tracker.update(100 * MS, crowd)

    assert [face.box.width for _, face in people] == [55, 54]


def test_somebody_much_nearer_takes_the_place_of_the_smallest(make_face) -> None:
    tracker = Tracker(Options(seed=7, max_faces=1))
    tracker.update(0, [make_face(100, width=50)])
    far = _ids(tracker.update(100 * MS, [make_face(100, width=50)]))
    slightly_larger = [make_face(100, width=50), make_face(400, width=60)]
    assert _ids(tracker.update(200 * MS, slightly_larger)) == far

    much_larger = [make_face(100, width=50), make_face(400, width=120)]
    tracker.update(300 * MS, much_larger)
    assert tracker.ended() == far
    assert [face.box.width for _, face in tracker.update(400 * MS, much_larger)] == [120]


def test_a_clock_that_jumps_back_ends_all_tracks(tracker, make_face) -> None:
    tracker.update(10_000 * MS, [make_face()])
    before = _ids(tracker.update(10_100 * MS, [make_face()]))

    tracker.update(0, [make_face()])

    assert tracker.ended() == before


def test_frames_that_stop_coming_end_all_tracks(tracker, make_face) -> None:
    tracker.update(0, [make_face()])
    before = _ids(tracker.update(100 * MS, [make_face()]))

    tracker.update(5_000 * MS, [make_face()])

    assert tracker.ended() == before


def test_reset_forgets_everybody_and_reuses_no_id(tracker, make_face) -> None:
    tracker.update(0, [make_face()])
    before = _ids(tracker.update(100 * MS, [make_face()]))

    tracker.reset()
    tracker.update(200 * MS, [make_face()])

    assert _ids(tracker.update(300 * MS, [make_face()])) != before


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.tuples(st.integers(0, 639), st.integers(0, 479), st.integers(20, 300)), max_size=6)))
def test_nobody_is_in_two_places_and_every_end_had_a_birth(frames) -> None:
    crop = np.zeros((224, 224, 3), np.uint8)
    tracker = Tracker(Options(seed=7, max_faces=4))
    seen: set[str] = set()
    gone: set[str] = set()
    for step, boxes in enumerate(frames):
        people = tracker.update(step * 100 * MS, [Face(Box(x, y, w, w), 0.9, crop) for x, y, w in boxes])
        ids = _ids(people)
        assert len(ids) == len(set(ids)) <= 4
        assert not gone & set(ids)
        seen |= set(ids)
        gone |= set(tracker.ended())
        assert gone <= seen


def test_nothing_is_kept_of_the_candidates_that_came_and_went(make_face) -> None:
    tracker = Tracker(Options(seed=7))
    size = len(pickle.dumps(tracker))
    for step in range(3000):
        tracker.update(step * 1000 * MS, [make_face(100 if step % 2 else 500)] if step % 3 else [])
    tracker.update(3000 * 1000 * MS, [])
    assert len(pickle.dumps(tracker)) < size + 200


def test_ids_do_not_repeat_in_a_hundred_thousand(make_face) -> None:
    ids = _Ids(random.Random(7))
    assert len({ids.draw() for _ in range(100_000)}) == 100_000
