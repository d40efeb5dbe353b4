"""The neutral face of a person: what is learned from, when it is enough, and whose it is."""

from __future__ import annotations

import pytest

from emo_llama_ros.faces.face import HeadPose, QualityFlaw
from emo_llama_ros.options import Options
from emo_llama_ros.perception.baseline import MAX_FRAMES, MIN_FRAMES, Baselines

MS = 1_000_000


@pytest.fixture
def baselines() -> Baselines:
    return Baselines(Options())


def test_a_baseline_needs_enough_frames_over_enough_time(baselines, make_face) -> None:
    for n in range(MIN_FRAMES - 1):
        baselines.add("a", n * 120 * MS, make_face())
    assert baselines.of("a") is None

    baselines.add("a", (MIN_FRAMES - 1) * 120 * MS, make_face())
    assert baselines.of("a") == make_face().measures


def test_many_frames_within_a_moment_are_not_enough(baselines, make_face) -> None:
    for n in range(30):
        baselines.add("a", n * 10 * MS, make_face())

    assert baselines.of("a") is None


def test_the_baseline_is_the_median_of_each_measure(baselines, make_face) -> None:
    for n, width in enumerate([0.60, 0.61, 0.62, 0.63, 0.90]):
        baselines.add("a", n * 200 * MS, make_face(measures={"mouth_width": width}))

    assert baselines.of("a")["mouth_width"] == 0.62


@pytest.mark.parametrize(
    "face",
    [
        {"label": "happiness"},
        {"flaws": QualityFlaw.BLURRED},
        {"pose": HeadPose(25, 0, 0)},
        {"pose": HeadPose(0, -25, 0)},
        {"pose": None},
        {"expression": None},
        {"measures": {"eye_opening": 0.05}},
    ],
    ids=["smiling", "blurred", "turned", "bowed", "without pose", "unread", "blinking"],
)
def test_nothing_is_learned_from_other_faces(baselines, make_face, face) -> None:
    for n in range(20):
        baselines.add("a", n * 100 * MS, make_face(**face))

    assert baselines.of("a") is None


def test_everybody_has_their_own(baselines, make_face) -> None:
    for n in range(10):
        baselines.add("a", n * 100 * MS, make_face(measures={"mouth_width": 0.5}))
        baselines.add("b", n * 100 * MS, make_face(measures={"mouth_width": 0.7}))
    assert (baselines.of("a")["mouth_width"], baselines.of("b")["mouth_width"]) == (0.5, 0.7)

    baselines.forget("a")
    assert baselines.of("a") is None
    assert baselines.of("b") is not None

    baselines.reset()
    assert baselines.of("b") is None


def test_what_was_learned_long_ago_fades(baselines, make_face) -> None:
    for n in range(2 * MAX_FRAMES):
        baselines.add("a", n * 100 * MS, make_face(measures={"mouth_width": 0.5 if n < MAX_FRAMES else 0.7}))

    assert baselines.of("a")["mouth_width"] == 0.7


def test_a_baseline_handed_out_does_not_change_later(baselines, make_face) -> None:
    """A clip keeps the baseline it was cut with, also when it waits for its turn."""
    for n in range(10):
        baselines.add("a", n * 100 * MS, make_face(measures={"mouth_width": 0.5}))
    before = baselines.of("a")

    for n in range(10, 60):
        baselines.add("a", n * 100 * MS, make_face(measures={"mouth_width": 0.7}))

    assert before["mouth_width"] == 0.5
    assert baselines.of("a")["mouth_width"] == 0.7


def test_the_real_neutral_stretch_is_enough_before_the_smile(faces_of) -> None:
    """At ten frames per second: frames 0 to 15 of single_face.mp4."""
    baselines = Baselines(Options())
    for stamp, faces in faces_of("single_face.mp4", 3)[:6]:
        baselines.add("a", stamp, faces[0])

    assert baselines.of("a") is not None


def test_a_face_that_is_never_neutral_has_no_baseline(faces_of) -> None:
    baselines = Baselines(Options())
    for stamp, faces in faces_of("WolfgangLanger_Pexels.mp4", 4)[:50]:
        baselines.add("a", stamp, faces[0])

    assert baselines.of("a") is None
