"""The networks on real videos and pictures, frame by frame, before any clip or backend."""

from __future__ import annotations

import numpy as np
import pytest

from emo_llama_ros.faces.face import QualityFlaw
from emo_llama_ros.labels import RAF_DB
from emo_llama_ros.options import Options
from emo_llama_ros.perception.tracking import Tracker


def _labels(faces_of, name: str, step: int) -> list[str]:
    return [RAF_DB.labels[int(f[0].expression.argmax())] if f else "" for _, f in faces_of(name, step)]


def _share(labels: list[str], label: str) -> float:
    return labels.count(label) / len(labels)


@pytest.mark.parametrize("name", ["single_face.mp4", "WolfgangLanger_Pexels.mp4"])
def test_one_good_face_is_found_in_every_frame(faces_of, name) -> None:
    flaws = [[face.flaws for face in faces] for _, faces in faces_of(name, 4 if name.startswith("W") else 1)]
    assert len(flaws) > 40
    assert flaws == [[QualityFlaw.NONE]] * len(flaws)


def test_neutral_turns_to_happiness(faces_of) -> None:
    labels = _labels(faces_of, "single_face.mp4", 1)

    assert _share(labels[:13], "neutral") == 1
    assert _share(labels[27:66], "happiness") == 1
    assert 13 <= labels.index("happiness") <= 27


def test_sadness_turns_to_happiness(faces_of) -> None:
    labels = _labels(faces_of, "WolfgangLanger_Pexels.mp4", 4)
    third = len(labels) // 3

    assert _share(labels[:third], "sadness") > 0.8
    assert _share(labels[-third:], "happiness") > 0.9


@pytest.mark.parametrize(("name", "step"), [("single_face.mp4", 3), ("WolfgangLanger_Pexels.mp4", 4)])
def test_one_person_keeps_one_id(faces_of, name, step) -> None:
    tracker = Tracker(Options(seed=1))
    ids = set()
    for stamp, faces in faces_of(name, step):
        ids |= {face_id for face_id, _ in tracker.update(stamp, faces)}
        assert tracker.ended() == []

    assert len(ids) == 1


def test_the_group_is_found_followed_and_happy(analyzer, picture) -> None:
    tracker, ids = Tracker(Options(seed=1)), []
    for step in range(5):
        people = tracker.update(step * 100_000_000, analyzer.analyze(picture("multi_face.jpg")))
        ids.append({face_id for face_id, _ in people})

    assert len(ids[-1]) == 5
    assert ids[1] == ids[-1]
    assert sum(RAF_DB.labels[int(face.expression.argmax())] == "happiness" for _, face in people) >= 4


def test_two_real_people_who_cross_keep_their_ids(analyzer, picture) -> None:
    """Two photographed heads move through each other, 25 pixels a frame; one hides the other."""
    import cv2

    size = 220
    front, behind = (cv2.resize(picture(name), (size, size)) for name in ("0-f1-su-ph.jpg", "0-f15-hao-ph.jpg"))
    oval = np.zeros((size, size, 1), np.float32)
    cv2.ellipse(oval, (110, 120), (75, 105), 0, 0, 360, 1, -1)
    tracker, places = Tracker(Options(seed=3)), []
    for step in range(17):
        image = np.full((480, 640, 3), 70, np.uint8)
        for head, x in ((behind, 420 - 25 * step), (front, 25 * step)):
            part = image[120 : 120 + size, x : x + size]
            part[:] = part * (1 - oval) + head * oval
        people = tracker.update(step * 100_000_000, analyzer.analyze(image))
        places.append([face_id for _, face_id in sorted((face.box.x, face_id) for face_id, face in people)])

    assert len(places[2]) == 2
    assert min(len(place) for place in places[2:]) == 1
    assert places[-1] == places[2][::-1]


def test_nothing_is_found_where_nobody_is(faces_of, analyzer, picture) -> None:
    assert all(faces == [] for _, faces in faces_of("no_face.mp4", 2))
    assert analyzer.analyze(picture("free-mountain-vector-01.jpg")) == []


@pytest.mark.parametrize(("name", "first", "last"), [("face_noface.mov", 0, 74), ("noface_face.mov", 96, 168)])
def test_a_person_is_found_exactly_while_there(faces_of, name, first, last) -> None:
    there = [3 * number for number, (_, faces) in enumerate(faces_of(name, 3)) if faces]

    assert abs(there[0] - first) <= 6
    assert abs(there[-1] - last) <= 6
    assert len(there) == (there[-1] - there[0]) // 3 + 1


@pytest.mark.parametrize("size", [(640, 480), (1920, 1080)])
def test_the_label_does_not_depend_on_the_camera(analyzer, picture, size) -> None:
    """The same smile, filling the height of a VGA and a full HD image."""
    import cv2

    rgb = picture("0-f15-hao-ph.jpg")
    width, height = size
    image = np.full((height, width, 3), 90, np.uint8)
    image[:, :height] = cv2.resize(rgb, (height, height))

    (face,) = analyzer.analyze(image)

    assert RAF_DB.labels[int(face.expression.argmax())] == "happiness"
    assert face.flaws == QualityFlaw.NONE
