"""The model side beside a camera, with a scripted pair of eyes and a scripted model: every race in slow motion."""

import os
import threading
import time
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
from patience import PATIENCE_S

from emo_llama_ros.backends.backend import LabelAnswer, ModelInfo
from emo_llama_ros.engine.api import EngineState, Question, unexplained_clips
from emo_llama_ros.engine.in_process import InProcessEngine
from emo_llama_ros.estimate import Stage
from emo_llama_ros.faces.face import Box, Face
from emo_llama_ros.frames import RawFrame
from emo_llama_ros.labels import RAF_DB
from emo_llama_ros.options import Options

FAST = Options(worker="in_process", clip_s=0.4, clip_frames=4, clip_min_s=0.0, label_rate_hz=10.0, max_age_s=60.0,
               reasoning_rate_hz=30.0, track_memory_s=0.3)  # fmt: skip


def wait_for(condition, what):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.002)


STUCK = threading.Event()


class Eyes:
    """Sees as many faces, side by side, as the first pixel says; 255 is an accident, 254 holds until STUCK is set."""

    name = "scripted"

    def find(self, rgb, known=(), everywhere=True):
        count = int(rgb[0, 0, 0])
        if count == 254:
            assert STUCK.wait(PATIENCE_S)
            count = 0
        if count == 255:
            raise RuntimeError("odd frame")
        crop = np.zeros((224, 224, 3), np.uint8)
        return [Face(Box(200.0 * n, 10, 100, 100), 1.0, np.full_like(crop, 30 * n)) for n in range(count)]

    def read(self, rgb, faces):
        return list(faces)


class Model:
    """Labels at once, or when `go` is set; speaks until it is cancelled, or as many words as `words` says."""

    info: ClassVar[ModelInfo] = ModelInfo("scripted", "scripted", RAF_DB)

    def __init__(self):
        self.go, self.begun = threading.Event(), threading.Event()
        self.go.set()
        self.words, self.polls, self.speaking = 3, 0, threading.Event()
        self.batches, self.forgotten, self.closed = [], [], False

    def load(self):
        self.niceness = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    def label(self, clips):
        self.begun.set()
        assert self.go.wait(PATIENCE_S)
        self.batches.append(len(clips))
        return [LabelAnswer((1.0, 0, 0, 0, 0, 0, 0)) for _ in clips]

    def explain(self, clip, answer, question="", cancelled=lambda: False):
        for number in range(self.words):
            if cancelled():
                self.polls = number
                return
            self.speaking.set()
            yield f"word {number} "
            if self.words > 100:
                time.sleep(0.002)

    def forget(self, face_id):
        self.forgotten.append(face_id)

    def close(self):
        self.closed = True


class Scene:
    """An engine with scripted eyes and model, and a camera whose stamps are 0.1 s apart."""

    def __init__(self, monkeypatch, **options):
        monkeypatch.setattr("emo_llama_ros.engine.model_side.make_analyzer", lambda options: Eyes())
        self.model, self.out = Model(), []
        self.engine = InProcessEngine(replace(FAST, **options), self.out.append, self.model)
        self.engine.start()
        wait_for(lambda: self.engine.stats().state is EngineState.READY, "it is ready")
        self.now_s = 1.0

    def show(self, people, frames=1):
        """Show so many people, each frame looked at before the next comes."""
        for _ in range(frames):
            self.now_s += 0.1
            data = np.full(640 * 120 * 3, people, np.uint8)
            frame = RawFrame(round(self.now_s * 1e9), "camera", data, "rgb8", 640, 120, 1920)
            self.engine.submit(replace(frame, received_ns=time.monotonic_ns()))
            wait_for(lambda: self.engine.stats().in_flight == 0, "the frame is looked at")

    @property
    def clips(self):
        return self.engine.stats().clips

    def settled(self):
        wait_for(lambda: not (self.clips["waiting"] or self.clips["in_work"]), "all labels are done")
        wait_for(lambda: not (self.clips["reasoning_waiting"] or self.clips["reasoning_in_work"]), "all is explained")


@pytest.fixture
def scene(monkeypatch):
    scenes = []

    def make(**options):
        scenes.append(Scene(monkeypatch, **options))
        return scenes[-1]

    yield make
    for made in scenes:
        made.model.go.set()
        made.engine.stop()
        assert unexplained_clips(made.clips) == 0


def test_people_are_labelled_then_explained(scene):
    view = scene()
    view.show(2, frames=6)
    view.settled()
    assert {e.stage for e in view.out} == {Stage.LABEL, Stage.FINAL}
    assert len({e.face_id for e in view.out}) == 2
    assert view.clips["labelled"] == len({e.estimate_id for e in view.out})
    assert all(e.reasoning == "word 0 word 1 word 2" for e in view.out if e.stage is Stage.FINAL and e.reasoning)


def test_people_who_are_due_together_share_a_batch_once_the_model_is_known_to_be_fast(scene):
    view = scene()
    view.show(3, frames=6)
    view.settled()
    assert view.model.batches[0] == 1
    assert max(view.model.batches) == 3


def test_a_reasoning_is_cancelled_within_one_token_and_its_part_is_never_published(scene):
    view = scene()
    view.model.words = 10**6
    view.show(1, frames=2)
    assert view.model.speaking.wait(PATIENCE_S)
    first = view.out[-1]
    view.show(1, frames=2)
    wait_for(lambda: view.clips.get("reasoning_cancelled"), "the reasoning is cancelled")
    view.model.words = 3
    view.show(1, frames=2)
    view.settled()
    assert all(e.stage is Stage.LABEL for e in view.out if e.estimate_id == first.estimate_id)
    assert all(len(e.reasoning.split()) in (0, 6) for e in view.out)


def test_the_reasoning_of_someone_who_leaves_stops(scene):
    view = scene()
    view.model.words = 10**6
    view.show(1, frames=2)
    assert view.model.speaking.wait(PATIENCE_S)
    view.show(0, frames=6)
    wait_for(lambda: view.clips.get("reasoning_gone"), "the reasoning ends")
    wait_for(lambda: view.model.forgotten, "what was cached of the person is dropped")
    assert not any(e.reasoning for e in view.out)


def test_a_label_from_before_a_flush_is_not_published(scene):
    view = scene()
    view.model.go.clear()
    view.show(1, frames=2)
    assert view.model.begun.wait(PATIENCE_S)
    view.show(1, frames=2)
    view.engine.flush()
    view.model.go.set()
    view.settled()
    assert view.out == []
    assert view.clips["flushed"] == 2
    assert view.clips.get("labelled", 0) == 0
    wait_for(lambda: view.model.forgotten, "what was cached of the people is dropped")


def test_a_clock_that_jumps_back_lets_no_old_label_through(scene):
    view = scene(max_gap_s=1.0)
    view.now_s = 1000.0
    view.model.go.clear()
    view.show(1, frames=2)
    assert view.model.begun.wait(PATIENCE_S)
    view.now_s = 1.0
    view.show(1, frames=4)
    view.model.go.set()
    view.settled()
    assert view.out
    assert all(e.stamp_ns < 100e9 for e in view.out)


def test_switching_the_camera_off_wipes_everything_that_was_seen(scene):
    view = scene()
    answers, refusals = [], []
    view.show(1, frames=2)
    view.settled()
    published = len(view.out)
    view.model.go.clear()
    view.model.begun.clear()
    view.show(1, frames=2)
    assert view.model.begun.wait(PATIENCE_S)
    view.engine.ask(Question(), answers.append, answers.append, refusals.append)
    view.engine.set_live_option("enabled", False)
    view.model.go.set()
    view.settled()
    assert len(view.out) == published
    assert answers == []
    assert "switched off" in refusals[0]
    view.engine.set_live_option("enabled", True)
    view.engine.ask(Question(), answers.append, answers.append, refusals.append)
    assert "nobody in view" in refusals[1]
    assert view.clips["asked"] == view.clips["unanswered"] == 1


def test_a_label_that_comes_too_late_is_counted_and_not_published(scene):
    view = scene(max_age_s=0.5)
    view.model.go.clear()
    view.show(1, frames=2)
    assert view.model.begun.wait(PATIENCE_S)
    time.sleep(0.55)
    view.model.go.set()
    view.settled()
    assert view.clips["late"] == 1
    assert view.out == []
    assert "became older than max_age_s" in view.engine.stats().silence


def test_a_slow_camera_gives_labels_and_can_be_asked(scene):
    view = scene(clip_min_s=0.5)
    for _ in range(6):
        view.now_s += 5.0
        view.show(1)
        view.settled()
    assert view.clips["labelled"] == 5
    assert len({e.face_id for e in view.out}) == 1
    assert view.engine.stats().remarks == ()
    assert view.engine.stats().silence == ""
    answers = []
    view.engine.ask(Question(), answers.append, lambda piece: None, answers.append)
    wait_for(lambda: len(answers) == 2, "the question is answered")


def test_on_demand_silences_also_what_was_on_its_way(scene):
    view = scene()
    view.model.go.clear()
    view.show(1, frames=2)
    assert view.model.begun.wait(PATIENCE_S)
    view.show(1, frames=2)
    view.engine.set_live_option("on_demand", True)
    view.model.go.set()
    view.show(1, frames=4)
    view.settled()
    assert view.out == []
    answers = []
    view.engine.ask(Question(), answers.append, lambda piece: None, answers.append)
    wait_for(lambda: len(answers) == 2, "the question is answered")
    assert [e.stage for e in answers] == [Stage.LABEL, Stage.FINAL]


def test_a_question_whose_time_is_over_is_refused_and_frees_the_model(scene):
    view = scene(on_demand=True)
    view.model.words = 10**6
    view.show(1, frames=2)
    refusals = []
    view.engine.ask(Question("", "Why?", timeout_s=0.1), lambda e: None, lambda piece: None, refusals.append)
    wait_for(lambda: refusals, "the question is refused")
    assert "in time" in refusals[0]
    wait_for(lambda: view.clips["asking"] == 0, "the model is free")
    assert view.clips["unanswered"] == 1


def test_nobody_is_asked_about_a_picture_of_the_past(scene):
    view = scene(camera_timeout_s=0.1)
    view.show(1, frames=2)
    time.sleep(0.3)
    refusals = []
    view.engine.ask(Question(), refusals.append, refusals.append, refusals.append)
    assert "no frame for" in refusals[0]


def test_a_long_answer_is_no_hang(scene):
    view = scene()
    view.model.words = 10**6
    view.show(1, frames=2)
    assert view.model.speaking.wait(PATIENCE_S)
    time.sleep(0.1)  # what counts from the answer's first word on never comes below this again
    wait_for(lambda: view.engine._side.stats().busy_s < 0.05, "a new word is a sign of life")


def test_face_networks_that_hang_are_noticed(scene):
    """The worker process is then restarted, as for a model that hangs."""
    view = scene()
    STUCK.clear()
    view.engine.submit(RawFrame(10**9, "camera", np.full(640 * 120 * 3, 254, np.uint8), "rgb8", 640, 120, 1920))
    wait_for(lambda: view.engine._side.stats().busy_s > 0.05, "it is noticed")
    STUCK.set()
    wait_for(lambda: view.engine._side.stats().busy_s == 0, "it goes on")


def test_the_model_gives_way_to_the_camera_and_to_nobody_else(scene):
    view = scene()
    view.show(1, frames=2)
    view.settled()
    assert view.model.niceness == min(19, os.getpriority(os.PRIO_PROCESS, 0) + 5)


def test_one_odd_frame_does_not_end_the_stream(scene):
    view = scene()
    view.show(1, frames=2)
    view.show(255)
    view.show(1, frames=2)
    stats = view.engine.stats()
    assert stats.drops == {"faces_failed": 1}
    assert "odd frame" in stats.last_bad_image
    assert stats.used == 4


def test_nothing_comes_after_the_stop_and_everything_is_accounted_for(scene):
    view = scene()
    view.show(2, frames=4)
    view.settled()
    published = len(view.out)
    view.model.go.clear()
    view.model.begun.clear()
    view.show(2, frames=2)
    assert view.model.begun.wait(PATIENCE_S)
    view.show(2, frames=2)
    view.engine.stop(timeout_s=0.1)
    view.model.go.set()
    wait_for(lambda: view.model.closed, "the model is freed")
    assert len(view.out) == published
    assert view.engine.stats().state is EngineState.STOPPED
    assert view.clips["waiting"] == view.clips["in_work"] == 0


def test_an_engine_that_is_stopped_while_it_loads_stays_stopped(monkeypatch):
    monkeypatch.setattr("emo_llama_ros.engine.model_side.make_analyzer", lambda options: Eyes())
    model, loading = Model(), threading.Event()
    model.load = lambda: loading.set() or model.go.wait(PATIENCE_S)
    model.go.clear()
    engine = InProcessEngine(FAST, print, model)
    engine.start()
    assert loading.wait(PATIENCE_S)
    engine.stop(timeout_s=0.1)
    model.go.set()
    wait_for(lambda: model.closed, "the model is freed")
    assert engine.stats().state is EngineState.STOPPED
