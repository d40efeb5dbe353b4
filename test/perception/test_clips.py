import numpy as np
import pytest

from emo_llama_ros.faces.face import Box, Face, QualityFlaw
from emo_llama_ros.frames import SECOND_NS
from emo_llama_ros.options import Options
from emo_llama_ros.perception.clips import ClipWindows


def face(flaws=QualityFlaw.NONE):
    return Face(Box(0, 0, 100, 100), 1.0, np.zeros((224, 224, 3), np.uint8), flaws=flaws)


def seconds(value):
    return round(value * SECOND_NS)


def play(windows, until_s, rate_hz=30.0, start_s=0.0, face_id="a"):
    """Add a sighting per frame and return the stamps, in seconds, at which a clip was due."""
    count = round((until_s - start_s) * rate_hz)
    stamps = [start_s + i / rate_hz for i in range(count)]
    return [t for t in stamps if windows.add(face_id, seconds(t), face())]


class TestClipWindows:
    def test_a_full_clip_spreads_its_frames_evenly_over_the_window(self):
        windows = ClipWindows(Options(clip_s=2.0, clip_frames=8))
        play(windows, 4.0)
        clip = windows.cut("a", "camera")
        assert len(clip.faces) == 8
        steps = np.diff(clip.stamps_ns) / SECOND_NS
        assert np.allclose(steps, 0.25, atol=1 / 30)

    def test_overlapping_clips_share_their_keyframes(self):
        windows = ClipWindows(Options(clip_s=2.0, clip_frames=8, label_rate_hz=2.0))
        play(windows, 4.0)
        before = windows.cut("a", "camera")
        play(windows, 4.5, start_s=4.0)
        after = windows.cut("a", "camera")
        assert len(set(before.stamps_ns) & set(after.stamps_ns)) == 6

    def test_clips_are_due_at_the_label_rate_once_the_person_is_known(self):
        due = play(ClipWindows(Options(label_rate_hz=2.0, clip_min_s=0.5)), 5.0)
        assert due[0] == pytest.approx(0.5)
        assert np.allclose(np.diff(due), 0.5)

    def test_a_new_person_is_not_judged_before_clip_min_s(self):
        assert play(ClipWindows(Options(clip_min_s=1.5)), 1.4) == []

    def test_a_due_clip_ends_with_the_frame_that_made_it_due(self):
        windows = ClipWindows(Options())
        due = play(windows, 3.0)[-1]
        fresh = ClipWindows(Options())
        play(fresh, due + 1 / 60)
        assert fresh.cut("a", "camera").stamp_ns == seconds(due)

    def test_no_clip_spans_a_gap(self):
        windows = ClipWindows(Options(max_gap_s=1.0))
        play(windows, 2.0)
        play(windows, 4.0, start_s=3.5)
        assert windows.cut("a", "camera").start_ns >= seconds(3.5)

    def test_old_keyframes_leave_the_window_when_sightings_are_rare(self):
        windows = ClipWindows(Options(clip_s=2.0, max_gap_s=5.0))
        play(windows, 6.0, rate_hz=0.8)
        clip = windows.cut("a", "camera")
        assert clip.stamp_ns - clip.start_ns < seconds(2.0)

    def test_people_have_windows_of_their_own(self):
        windows = ClipWindows(Options())
        play(windows, 1.0, face_id="a")
        play(windows, 2.0, start_s=1.5, face_id="b")
        assert windows.cut("a", "camera").stamp_ns < windows.cut("b", "camera").start_ns
        windows.forget("a")
        assert windows.cut("a", "camera") is None
        windows.flush()
        assert windows.cut("b", "camera") is None

    def test_every_frame_of_a_new_person_is_wanted_and_then_every_keyframe(self):
        windows = ClipWindows(Options(clip_s=2.0, clip_frames=8))
        wanted = []
        for i in range(100):
            wanted.append(windows.wants("a", seconds(i / 10)))
            windows.add("a", seconds(i / 10), face())
        assert all(wanted[:20])
        assert sum(wanted[20:]) == 32
        assert windows.wants("a", seconds(20.0)), "who comes back after a gap is new"
        assert windows.wants("a", seconds(20.1))

    def test_the_flaws_of_a_clip_are_those_of_its_newest_face(self):
        windows = ClipWindows(Options())
        windows.add("a", 0, face(QualityFlaw.DARK))
        windows.add("a", seconds(1.0), face())
        assert windows.cut("a", "camera").flaws is QualityFlaw.NONE
