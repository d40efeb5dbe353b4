"""From frames to clips, with a scripted analyzer: who is followed, and whose face is read when."""

from dataclasses import replace

import numpy as np
import pytest

from emo_llama_ros.faces.face import Box, Face, HeadPose
from emo_llama_ros.frames import SECOND_NS, Frame
from emo_llama_ros.options import Options
from emo_llama_ros.perception.perception import Perception

RATE_HZ = 10.0


class Analyzer:
    """Finds as many faces, side by side, as the first pixel says, and remembers which it was asked to read when."""

    name = "scripted"

    def __init__(self):
        self.reads = []
        self.searches = []

    def find(self, rgb, known=(), everywhere=True):
        self.searches.append((len(known), everywhere))
        crop = np.zeros((224, 224, 3), np.uint8)
        return [
            Face(Box(300.0 * n, 10, 100 + n, 100), 1.0, np.full_like(crop, 60 * n)) for n in range(int(rgb[0, 0, 0]))
        ]

    def read(self, rgb, faces):
        self.reads.append(len(faces))
        return [replace(face, pose=HeadPose(0, 0, 0)) for face in faces]

    def analyze(self, rgb):
        return self.read(rgb, self.find(rgb))


class Scene:
    def __init__(self, **options):
        self.analyzer, self.number = Analyzer(), 0
        self.perception = Perception(Options(seed=1, **options), self.analyzer)

    def show(self, people, seconds, rate_hz=RATE_HZ):
        """Return what each frame brought."""
        seen = []
        for _ in range(round(seconds * rate_hz)):
            stamp_ns = round((100 + self.number / rate_hz) * SECOND_NS)
            seen.append(self.perception.observe(Frame(stamp_ns, "camera", np.full((8, 8, 3), people, np.uint8))))
            self.number += 1
        return seen


def test_a_new_person_is_read_in_every_frame_and_a_known_one_in_keyframes():
    scene = Scene(clip_s=2.0, clip_frames=8)
    scene.show(1, 2.1)
    assert scene.analyzer.reads == [0] + 20 * [1]  # nobody yet in the first frame: it takes two to be somebody
    scene.analyzer.reads.clear()
    scene.show(1, 10.0)
    assert sum(scene.analyzer.reads) == 40  # 8 in 2 s


def test_the_keyframes_of_people_who_came_at_different_times_are_the_same_frames():
    scene = Scene()
    scene.show(1, 3.0)
    scene.show(3, 4.0)
    scene.analyzer.reads.clear()
    scene.show(3, 5.0)
    assert set(scene.analyzer.reads) == {0, 3}


def test_clips_hold_faces_that_were_read_and_nothing_else():
    scene = Scene()
    clips = [clip for seen in scene.show(2, 6.0) for clip in seen.due]
    clips.append(scene.perception.clip_of())
    assert len(clips) > 20
    assert all(face.pose is not None for clip in clips for face in clip.faces)


def test_frames_between_rare_keyframes_keep_a_person_in_view():
    scene = Scene(clip_s=30.0, clip_frames=8, max_gap_s=1.0)
    scene.show(1, 40.0)
    assert len(scene.perception.clip_of().faces) == 8


def test_one_clip_is_due_for_each_person_at_the_label_rate():
    due = [clip.face_id for seen in Scene(label_rate_hz=2.0).show(3, 5.0) for clip in seen.due]
    assert len(set(due)) == 3
    assert all(due.count(face_id) == pytest.approx(9, abs=1) for face_id in due)


def test_nobody_is_said_at_the_label_rate_and_not_while_somebody_is_only_hidden():
    scene = Scene(label_rate_hz=2.0, track_memory_s=1.0)
    assert sum(seen.nobody for seen in scene.show(0, 5.0)) == 10
    scene.show(1, 1.0)
    assert not any(seen.nobody for seen in scene.show(0, 0.9))
    assert any(seen.nobody for seen in scene.show(0, 1.0))


def test_whoever_is_forgotten_is_named():
    scene = Scene(track_memory_s=0.5)
    first = {face_id for face_id, _ in scene.show(2, 2.0)[-1].people}
    assert {face_id for seen in scene.show(0, 2.0) for face_id in seen.ended} == first
    second = {face_id for face_id, _ in scene.show(2, 2.0)[-1].people}
    assert set(scene.perception.flush()) == second
    assert not first & second
    assert scene.perception.clip_of() is None


def test_the_image_is_searched_at_the_search_rate_and_known_faces_are_handed_on_in_every_frame():
    scene = Scene(search_rate_hz=2.0)
    scene.show(1, 3.0)
    known, everywhere = zip(*scene.analyzer.searches, strict=True)
    assert known == (0,) + 29 * (1,)
    assert [n for n, search in enumerate(everywhere) if search] == [0, 5, 10, 15, 20, 25]


def test_after_a_flush_nobody_is_known_and_the_image_is_searched():
    scene = Scene()
    scene.show(1, 1.2)
    scene.perception.flush()
    scene.analyzer.searches.clear()
    scene.show(1, 0.1)
    assert scene.analyzer.searches == [(0, True)]


def test_the_largest_face_is_the_one_to_ask_about():
    scene = Scene()
    people = scene.show(3, 2.0)[-1].people
    assert scene.perception.clip_of().face_id == people[0][0]
    assert scene.perception.clip_of(people[2][0]).face_id == people[2][0]
    assert scene.perception.clip_of("nobody") is None


@pytest.mark.parametrize("rate_hz", [1.5, 1.0, 0.9, 0.5, 0.2, 0.05, 0.01])
def test_a_slow_camera_gives_an_estimate_of_each_person_with_nearly_every_frame(rate_hz):
    seen = Scene().show(2, seconds=12 / rate_hz, rate_hz=rate_hz)
    ids = [{clip.face_id for clip in frame.due} for frame in seen]
    assert all(len(people) == 2 for people in ids[2:])
    assert ids[-1] == ids[3], "who stays in view keeps their id"


def test_someone_who_comes_between_two_frames_of_a_slow_camera_is_estimated_at_once():
    scene = Scene()
    scene.show(0, seconds=20, rate_hz=0.2)
    assert len(scene.show(1, seconds=5, rate_hz=0.2)[0].due) == 1


def test_nobody_in_view_of_a_slow_camera_is_said_with_every_frame():
    scene = Scene()
    scene.show(1, seconds=20, rate_hz=0.2)
    assert all(seen.nobody for seen in scene.show(0, seconds=20, rate_hz=0.2)[1:])


def test_an_analysis_rate_of_one_hertz_is_slow_but_works():
    """Frames of a camera at 30 Hz are then a little more or less than a second apart."""
    scene, stamps = Scene(), [100 + n + (n % 2) / 30 for n in range(20)]
    seen = [
        scene.perception.observe(Frame(round(stamp * SECOND_NS), "camera", np.ones((8, 8, 3), np.uint8)))
        for stamp in stamps
    ]
    assert all(frame.due for frame in seen[2:])
