"""The offline engine, scripted analyzer and backend: what odd streams of frames bring, and why they bring none."""

import numpy as np
import pytest

from emo_llama_ros.backends.backend import LabelAnswer, ModelInfo
from emo_llama_ros.engine.offline import OfflineEngine
from emo_llama_ros.faces.face import Box, Face
from emo_llama_ros.frames import SECOND_NS, RawFrame
from emo_llama_ros.labels import RAF_DB
from emo_llama_ros.options import Options


class Analyzer:
    """Finds one face where the picture is bright."""

    name = "scripted"

    def find(self, rgb, known=(), everywhere=True):
        return [Face(Box(100, 100, 100, 100), 1.0, np.zeros((224, 224, 3), np.uint8))] if rgb.max() else []

    def read(self, rgb, faces):
        return list(faces)


class Model:
    info = ModelInfo("scripted", "scripted", RAF_DB)

    def load(self):
        pass

    def label(self, clips):
        return [LabelAnswer((1.0, 0, 0, 0, 0, 0, 0)) for _ in clips]

    def explain(self, clip, answer, question="", cancelled=lambda: False):
        yield "because"

    def forget(self, face_id):
        pass

    def close(self):
        pass


OPTIONS = Options(seed=1)


def played(stamps_s, arrivals_s=None, options=OPTIONS, shade=255, encoding="rgb8"):
    """Return an engine that has seen a frame at each of these times, and its estimates of faces."""
    engine = OfflineEngine(options, Model(), Analyzer())
    engine.load()
    arrivals_s = [0] * len(stamps_s) if arrivals_s is None else arrivals_s
    estimates = []
    for stamp, arrival in zip(stamps_s, arrivals_s, strict=True):
        data = np.full(12, shade, np.uint8)
        times = round(stamp * SECOND_NS), "camera", data, encoding, 2, 2, 6
        estimates += engine.process(RawFrame(*times, received_ns=round(arrival * SECOND_NS)))
    return engine, [e for e in estimates if e.label]


@pytest.mark.parametrize("rate_hz", [30.0, 1.0, 0.7, 0.2, 0.1])
def test_every_camera_gives_estimates_however_slow(rate_hz):
    engine, estimates = played([100 + n / rate_hz for n in range(round(max(10, 3 * rate_hz)))])
    assert len({e.estimate_id for e in estimates}) >= 5
    assert engine.stats().remarks == ()


@pytest.mark.parametrize("stamp_s", [0.0, 1_700_000_000.0])
@pytest.mark.parametrize("rate_hz", [30.0, 0.2])
def test_a_camera_that_stamps_all_frames_alike_gives_estimates_and_a_remark(stamp_s, rate_hz):
    count = round(max(20, 3 * rate_hz))
    engine, estimates = played([stamp_s] * count, [5 + n / rate_hz for n in range(count)])
    assert len({e.stamp_ns for e in estimates}) >= 3
    assert "same stamp" in engine.stats().remarks[0]


def test_equal_stamps_without_times_of_arrival_say_why_there_is_nothing():
    engine, estimates = played([50.0] * 20)
    assert estimates == []
    assert "stands still" in engine.stats().silence


@pytest.mark.parametrize(
    ("stamps", "changes", "words"),
    [
        ([], {}, "No frame has come"),
        ([n / 10 + 3600 * (n % 2) for n in range(40)], {}, "to and fro by 36"),
        ([10 * burst + n / 10 for burst in range(10) for n in range(4)], {}, "bursts"),
        ([n / 10 for n in range(20)], {"encoding": "h264"}, "All 20 frames could not be read: "),
        (
            [n / 10 for n in range(4)],
            {},
            "in 4 of 4 frames, but none of them for as long as clip_min_s",
        ),
    ],
)
def test_an_empty_result_says_why(stamps, changes, words):
    engine, estimates = played(stamps, **changes)
    assert estimates == []
    assert words in engine.stats().silence


def test_a_result_that_is_not_empty_needs_no_reason():
    assert played([n / 10 for n in range(20)])[0].stats().silence == ""
    assert played([n / 10 for n in range(20)], shade=0)[0].stats().silence == ""


def test_a_camera_that_sends_a_few_frames_now_and_then_gives_an_estimate_of_each_few():
    stamps = [10 * burst + n / 30 for burst in range(10) for n in range(4)]
    assert len(played(stamps)[1]) >= 8
