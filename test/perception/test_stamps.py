"""Which frames belong together, by their stamps: fast and slow cameras, stamps that stand still, clocks that jump."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emo_llama_ros.frames import SECOND_NS
from emo_llama_ros.options import Options
from emo_llama_ros.perception.stamps import CaptureTimes, FrameGate, FrameInterval, StampGrid


def seconds(s):
    return round(s * SECOND_NS)


def judged(gate, stamps_s):
    return [(gate.judge(seconds(s)), gate.jumped) for s in stamps_s]


class TestStampGrid:
    def test_the_first_stamp_of_every_cell_enters_it(self):
        grid = StampGrid(100)
        assert [grid.enters(t) for t in (5, 50, 100, 199, 420)] == [True, False, True, False, True]

    def test_a_stamp_that_goes_back_enters_nothing(self):
        grid = StampGrid(100)
        assert grid.enters(500)
        assert not grid.enters(300)


class TestFrameGate:
    def test_thirty_hertz_are_thinned_to_the_analysis_rate(self):
        gate = FrameGate(Options(analysis_rate_hz=10.0))
        verdicts = [gate.judge(seconds(i / 30)) for i in range(300)]
        assert verdicts.count("wanted") == 100
        assert verdicts.count("skipped") == 200

    def test_clips_that_need_more_frames_raise_the_rate(self):
        gate = FrameGate(Options(analysis_rate_hz=1.0, clip_s=1.0, clip_frames=15))
        assert [gate.judge(seconds(i / 30)) for i in range(30)].count("wanted") == 15

    def test_repeated_zero_and_backward_stamps_are_old(self):
        gate = FrameGate(Options())
        assert [gate.judge(t) for t in (0, 0, seconds(0.5), seconds(0.4))] == [
            "wanted",
            "old_stamp",
            "wanted",
            "old_stamp",
        ]

    @pytest.mark.parametrize("jump_s", [3600.0, -3600.0])
    def test_a_jump_of_the_clock_is_told_and_the_frame_is_wanted(self, jump_s):
        gate = FrameGate(Options())
        gate.judge(seconds(5000))
        assert gate.judge(seconds(5000 + jump_s)) == "wanted"
        assert gate.jumped
        gate.judge(seconds(5000 + jump_s + 0.1))
        assert not gate.jumped


class TestFrameInterval:
    def test_it_is_the_usual_step_and_not_the_gap(self):
        interval = FrameInterval()
        for stamp in (0.0, 0.1, 0.2, 5.2, 5.3):
            interval.add(seconds(stamp))
        assert interval.ns == seconds(0.1)

    def test_a_camera_that_becomes_slow_is_believed_after_three_frames(self):
        interval = FrameInterval()
        for stamp in (0.0, 0.1, 0.2, 0.3, 5.3, 10.3, 15.3):
            interval.add(seconds(stamp))
        assert interval.ns == seconds(5.0)

    def test_a_step_back_is_no_interval(self):
        interval = FrameInterval()
        for stamp in (100.0, 100.1, 3.0, 3.1):
            interval.add(seconds(stamp))
        assert interval.ns == seconds(0.1)


@pytest.mark.parametrize("rate_hz", [30.0, 10.0, 1.0, 0.9, 0.5, 0.2, 0.1])
def test_no_frame_of_a_steady_camera_is_a_jump_however_slow_it_is(rate_hz):
    gate = FrameGate(Options())
    assert not any(jumped for _, jumped in judged(gate, [n / rate_hz for n in range(20)]))
    assert gate.remark() == ""


def test_a_slow_camera_that_loses_a_frame_does_not_jump():
    assert not any(jumped for _, jumped in judged(FrameGate(Options()), [0, 5, 10, 20, 25]))


def test_a_hole_in_the_frames_of_a_fast_camera_is_a_jump():
    verdicts = judged(FrameGate(Options()), [0, 0.1, 0.2, 5.2, 5.3])
    assert [jumped for _, jumped in verdicts] == [False, False, False, True, False]
    assert all(verdict == "wanted" for verdict, _ in verdicts)


def test_a_camera_that_becomes_slow_jumps_until_it_is_believed():
    fast, slow = [n / 10 for n in range(20)], [2 + 5 * n for n in range(1, 10)]
    jumps = [jumped for _, jumped in judged(FrameGate(Options()), fast + slow)]
    assert sum(jumps) <= 3
    assert not any(jumps[-6:])


@pytest.mark.parametrize("rate_hz", [10.0, 0.2])
@pytest.mark.parametrize("step_s", [3600.0, -3600.0])
def test_a_clock_that_is_set_jumps_once(rate_hz, step_s):
    before = [10_000 + n / rate_hz for n in range(10)]
    after = [before[-1] + step_s + n / rate_hz for n in range(1, 10)]
    gate = FrameGate(Options())
    jumps = [jumped for _, jumped in judged(gate, before + after)]
    assert jumps == [False] * 10 + [True] + [False] * 8
    assert gate.remark() == ""


class TestRemarks:
    def test_two_cameras_on_one_topic(self):
        gate = FrameGate(Options())
        judged(gate, [n / 10 + (3600 if n % 2 else 0) for n in range(30)])
        assert "to and fro by 36" in gate.remark()
        judged(gate, [4000 + n / 10 for n in range(40)])
        assert gate.remark() == "", "what is over is not told"

    def test_bursts(self):
        gate = FrameGate(Options())
        judged(gate, [10 * burst + n / 30 for burst in range(20) for n in range(4)])
        assert "bursts" in gate.remark()
        assert "max_gap_s" in gate.remark()

    def test_stamps_that_run_backwards(self):
        gate = FrameGate(Options())
        judged(gate, [100 - n / 30 for n in range(60)])
        assert "goes back" in gate.remark()


class TestCaptureTimes:
    def test_stamps_that_move_are_the_capture_times(self):
        times = CaptureTimes()
        assert [times.of(seconds(s), seconds(s) + 7) for s in (1.0, 1.1, 1.2)] == [seconds(s) for s in (1.0, 1.1, 1.2)]
        assert times.remark() == ""

    @pytest.mark.parametrize("rate_hz", [30.0, 1.0, 0.2])
    def test_frames_that_are_all_stamped_alike_are_timed_by_their_arrival(self, rate_hz):
        times, gate = CaptureTimes(), FrameGate(Options())
        got = [times.of(seconds(1000), seconds(5 + n / rate_hz)) for n in range(100)]
        verdicts = [gate.judge(stamp) for stamp in got]
        assert got[-1] == pytest.approx(seconds(1000 + 99 / rate_hz), abs=100)
        assert verdicts.count("old_stamp") <= 30
        assert "old_stamp" not in verdicts[31:]
        assert "same stamp" in times.remark()

    def test_frames_that_were_never_stamped_get_the_time_of_the_clock_from_the_second_on(self):
        times = CaptureTimes(now=lambda: seconds(1_700_000_000))
        got = [times.of(0, seconds(5 + n / 10)) for n in range(5)]
        assert got[0] == 0
        assert got[1:] == [seconds(1_700_000_000 + n / 10) for n in range(4)]

    def test_a_frame_that_comes_twice_keeps_its_stamp(self):
        times = CaptureTimes()
        stamps = [s for s in range(100, 110) for _ in range(3)]
        assert [times.of(seconds(s), seconds(n / 3)) for n, s in enumerate(stamps)] == [seconds(s) for s in stamps]

    def test_without_a_time_of_arrival_equal_stamps_stay_equal(self):
        times = CaptureTimes()
        assert {times.of(5, 0) for _ in range(100)} == {5}

    def test_stamps_that_begin_to_move_are_trusted_again(self):
        times = CaptureTimes()
        for n in range(100):
            times.of(seconds(1000), seconds(n / 10))
        assert times.of(seconds(2000), seconds(11)) == seconds(2000)
        assert times.remark() == ""


@given(st.lists(st.floats(-3, 5000), min_size=1, max_size=60))
def test_whatever_the_stamps_wanted_frames_are_in_order_but_for_jumps(stamps_s):
    gate, last = FrameGate(Options()), None
    for stamp_s in stamps_s:
        verdict = gate.judge(seconds(stamp_s))
        if verdict == "wanted":
            assert last is None or gate.jumped or seconds(stamp_s) > last
            last = seconds(stamp_s)
