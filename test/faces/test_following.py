"""Known faces are looked for where they were; the rest of the image is searched only where that is needed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from emo_llama_ros.faces.embedded import distinct
from emo_llama_ros.faces.face import Box, Face


@pytest.fixture
def searches(analyzer, monkeypatch) -> list[tuple[int, ...]]:
    """The shapes of the images that the detector has searched."""
    shapes: list[tuple[int, ...]] = []
    detect = analyzer._finder._detector.detect
    monkeypatch.setattr(analyzer._finder._detector, "detect", lambda rgb: shapes.append(rgb.shape) or detect(rgb))
    return shapes


def _near(first: Face, second: Face) -> bool:
    distance = np.linalg.norm(first.landmarks[:, :2] - second.landmarks[:, :2], axis=1).mean()
    return bool(distance < 0.03 * first.box.width)


def test_a_known_face_is_followed_through_a_video_without_a_search(analyzer, video, searches) -> None:
    frames = [rgb for _, rgb in video("single_face.mp4", step=3)]
    truth = [analyzer.find(rgb)[0] for rgb in frames]
    searches.clear()

    known = [truth[0]]
    for rgb, there in zip(frames[1:], truth[1:], strict=True):
        known = analyzer.find(rgb, known, everywhere=False)
        assert [_near(face, there) for face in known] == [True]

    assert searches == []


def test_who_moved_too_far_is_searched_for(analyzer, picture, searches) -> None:
    rgb = picture("single_face.jpg")
    known = analyzer.find(rgb)
    moved = np.full_like(np.concatenate([rgb, rgb], 1), 90)
    moved[:, rgb.shape[1] :] = rgb
    searches.clear()

    (face,) = analyzer.find(moved, known, everywhere=False)

    assert len(searches) == 1
    assert face.box.x == pytest.approx(known[0].box.x + rgb.shape[1], abs=5)


def test_a_known_face_that_is_gone_is_not_found(analyzer, picture) -> None:
    rgb = picture("single_face.jpg")

    assert analyzer.find(np.full_like(rgb, 90), analyzer.find(rgb), everywhere=False) == []


def test_a_newcomer_is_found_by_the_next_search_beside_those_who_are_known(analyzer, picture) -> None:
    rgb = picture("multi_face.jpg")
    everybody = analyzer.find(rgb)

    assert len(analyzer.find(rgb, everybody[:3], everywhere=False)) == 3
    found = analyzer.find(rgb, everybody[:3])
    assert len(found) == 5
    assert all(any(_near(face, other) for other in everybody) for face in found)


def test_two_known_faces_that_meet_on_one_face_become_one(analyzer, picture) -> None:
    rgb = picture("single_face.jpg")
    (face,) = analyzer.find(rgb)
    shifted = replace(face, landmarks=face.landmarks + np.array([0.08 * face.box.width, 0, 0], np.float32))

    assert len(analyzer.find(rgb, [face, shifted], everywhere=False)) == 1


def test_following_gives_the_same_faces_every_time(analyzer, picture) -> None:
    rgb = picture("multi_face.jpg")
    known = analyzer.find(rgb)
    first, again = (analyzer.find(rgb, known, everywhere=False) for _ in range(2))

    assert all((a.landmarks == b.landmarks).all() for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize(
    ("second", "kept"),
    [(Box(0, 0, 100, 120), 1), (Box(10, 10, 40, 50), 1), (Box(60, 0, 100, 120), 2), (Box(200, 0, 100, 120), 2)],
    ids=["equal", "inside", "beside", "apart"],
)
def test_a_face_on_or_in_another_is_dropped_and_a_neighbour_kept(second, kept) -> None:
    crop = np.zeros((224, 224, 3), np.uint8)

    assert len(distinct([Face(Box(0, 0, 100, 120), 0.9, crop), Face(second, 0.8, crop)])) == kept
