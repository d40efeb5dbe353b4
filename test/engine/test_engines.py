"""Both engines with the real face networks, on a real video, and what happens when the model side misbehaves."""

import os
import signal
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from patience import PATIENCE_S

from emo_llama_ros.backends.expression import ExpressionBackend
from emo_llama_ros.engine.api import EngineState, Question, unexplained_clips
from emo_llama_ros.engine.in_process import InProcessEngine
from emo_llama_ros.engine.make import make_engine
from emo_llama_ros.engine.worker_engine import WorkerEngine
from emo_llama_ros.errors import BadParameter, MissingModel
from emo_llama_ros.estimate import Stage, Status
from emo_llama_ros.frames import RawFrame
from emo_llama_ros.install.fetch import media_file
from emo_llama_ros.options import Options
from emo_llama_ros.recordings.media import file_frames

LIGHT = Options(backend="expression")


@pytest.fixture(scope="module")
def smile():
    """The frames of a person who begins to smile, 30 Hz."""
    try:
        return list(file_frames([media_file("single_face.mp4")]))
    except MissingModel as error:
        pytest.skip(str(error))


def wait_for(condition, what):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.01)


class Camera:
    """Plays frames into an engine, endlessly forward in time, and keeps what comes out."""

    def __init__(self, frames):
        self.frames, self.round, self.estimates = frames, 0, []

    def play(self, engine, count=72, rate_hz=60.0):
        length_ns = self.frames[-1].stamp_ns - self.frames[0].stamp_ns + 33_333_333
        for frame in self.frames[:count]:
            stamp_ns = frame.stamp_ns + self.round * length_ns
            engine.submit(replace(frame, stamp_ns=stamp_ns, received_ns=time.monotonic_ns()))
            time.sleep(1 / rate_hz)
        self.round += 1

    def play_until(self, engine, condition, what):
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, f"played in vain until {what}"
            self.play(engine)


@pytest.fixture
def camera(smile):
    return Camera(smile)


@pytest.fixture
def started():
    """Return a function that starts an engine and waits until it is ready; stops all engines at the end."""
    engines = []

    def start(engine, until=EngineState.READY):
        engines.append(engine)
        engine.start()
        wait_for(lambda: engine.stats().state is until, f"the engine is {until.value}: {engine.stats().message}")
        return engine

    yield start
    for engine in engines:
        engine.stop()


def accounted(stats):
    return stats.used + stats.skipped + stats.in_flight + sum(stats.drops.values())


@pytest.mark.parametrize("worker", ["process", "in_process"])
class TestBoth:
    def test_a_smile_becomes_happiness(self, worker, camera, started):
        engine = started(make_engine(replace(LIGHT, worker=worker, seed=1), camera.estimates.append))
        camera.play_until(engine, lambda: any(e.label == "happiness" for e in camera.estimates), "happiness is read")
        assert engine.model_info.backend == "expression"
        assert len({e.face_id for e in camera.estimates if e.face_id}) == 1

    def test_a_final_follows_its_label(self, worker, camera, started):
        engine = started(make_engine(replace(LIGHT, worker=worker, seed=1), camera.estimates.append))
        camera.play_until(engine, lambda: any(e.stage is Stage.LABEL for e in camera.estimates), "a label is announced")
        wait_for(lambda: camera.estimates[-1].stage is Stage.FINAL, "it is final")
        ids = {s: {e.estimate_id for e in camera.estimates if e.stage is s} for s in Stage}
        assert ids[Stage.LABEL] <= ids[Stage.FINAL]

    def test_every_frame_is_accounted_for(self, worker, camera, started):
        engine = started(make_engine(replace(LIGHT, worker=worker), camera.estimates.append))
        camera.play(engine, rate_hz=1000.0)
        engine.submit(replace(camera.frames[0], stamp_ns=10**19, data=np.zeros(5, np.uint8)))
        wait_for(lambda: engine.stats().in_flight == 0, "nothing is in flight")
        stats = engine.stats()
        assert stats.received == accounted(stats) == 73
        assert stats.drops["bad_image"] == 1
        wait_for(lambda: "bytes" in engine.stats().last_bad_image, "the reason is reported")

    def test_the_privacy_switch_lets_no_frame_in(self, worker, camera, started):
        engine = started(make_engine(replace(LIGHT, worker=worker), camera.estimates.append))
        engine.set_live_option("enabled", False)
        camera.play(engine, count=10)
        stats = engine.stats()
        assert (stats.used, stats.drops["disabled"]) == (0, 10)
        with pytest.raises(BadParameter):
            engine.set_live_option("enabled", "maybe")

    def test_a_question_is_answered_about_the_person_in_view(self, worker, camera, started):
        engine = started(make_engine(replace(LIGHT, worker=worker, on_demand=True), camera.estimates.append))
        answers, refusals = [], []

        def ask(face_id=""):
            engine.ask(Question(face_id, ""), answers.append, lambda piece: None, refusals.append)

        ask("nobody")
        wait_for(lambda: refusals, "the question is refused")
        assert "nobody" in refusals[0]
        camera.play(engine, rate_hz=30.0)
        ask()
        wait_for(lambda: len(answers) == 2, "the question is answered")
        assert [e.stage for e in answers] == [Stage.LABEL, Stage.FINAL]
        assert camera.estimates == []

    def test_missing_networks_fail_with_the_command_that_brings_them(self, worker, camera, started, tmp_path):
        options = replace(LIGHT, worker=worker, models_folder=str(tmp_path))
        engine = started(make_engine(options, camera.estimates.append), until=EngineState.FAILED)
        assert "emo_llama fetch" in engine.stats().message
        camera.play(engine, count=5)
        wait_for(lambda: engine.stats().drops.get("not_ready"), "the frame is counted")

    def test_stop_may_come_at_any_time(self, worker, camera):
        engine = make_engine(replace(LIGHT, worker=worker), camera.estimates.append)
        engine.start()
        camera.play(engine, count=20)
        engine.stop()
        assert engine.stats().state is EngineState.STOPPED
        camera.play(engine, count=3)
        assert accounted(engine.stats()) == engine.stats().received
        assert unexplained_clips(engine.stats().clips) == 0


class TestWorker:
    def test_a_killed_worker_is_restarted_and_says_so(self, camera, started):
        engine = started(WorkerEngine(LIGHT, camera.estimates.append))
        camera.play_until(engine, lambda: engine.stats().clips.get("due"), "there is something to lose")
        os.kill(engine.worker_pid, signal.SIGKILL)
        wait_for(lambda: engine.stats().restarts == 1 and engine.stats().state is EngineState.READY, "it is back")
        due = engine.stats().clips["due"]
        camera.estimates.clear()
        camera.play_until(engine, lambda: camera.estimates, "it answers again")
        wait_for(lambda: engine.stats().clips["due"] > due > 0, "the clips of both workers are counted")
        assert accounted(engine.stats()) == engine.stats().received
        assert unexplained_clips(engine.stats().clips) == 0

    def test_a_worker_that_dies_again_and_again_is_given_up(self, camera, started):
        engine = started(WorkerEngine(replace(LIGHT, worker_max_restarts=1), camera.estimates.append))
        for _ in range(2):
            wait_for(lambda: engine.stats().state is EngineState.READY, "it is ready")
            os.kill(engine.worker_pid, signal.SIGKILL)
            wait_for(lambda: engine.stats().state is not EngineState.READY, "its death is seen")
        wait_for(lambda: engine.stats().state is EngineState.FAILED, "it is given up")
        assert "2 times within a minute" in engine.stats().message

    def test_a_frozen_worker_is_killed_and_restarted(self, camera, started):
        engine = started(WorkerEngine(LIGHT, camera.estimates.append))
        frozen = engine.worker_pid
        os.kill(frozen, signal.SIGSTOP)
        wait_for(lambda: engine.stats().state is EngineState.UNRESPONSIVE, "a hang does not read as ready")
        assert "no life for" in engine.stats().message
        engine._options = replace(LIGHT, worker_timeout_s=1.0)
        wait_for(lambda: engine.stats().restarts == 1, "the frozen worker is replaced")
        reasons = set()
        while engine.stats().state is not EngineState.READY:
            reasons.add((engine.stats().state, "did not answer" in engine.stats().message))
            engine._options = LIGHT
            time.sleep(0.01)
        assert reasons == {(EngineState.RESTARTING, True)}, "the reason is not overwritten while the model loads"
        assert "did not answer" in engine.stats().last_restart
        assert engine.worker_pid != frozen

    def test_a_stopped_worker_holds_up_no_call(self, camera, started):
        options = replace(LIGHT, seed=1, worker_timeout_s=PATIENCE_S)
        engine = started(WorkerEngine(options, camera.estimates.append))
        camera.play(engine, count=3)
        os.kill(engine.worker_pid, signal.SIGSTOP)
        refusals = []
        pixels = np.zeros(2000 * 2000 * 3, np.uint8)
        for number in range(500):
            frame = RawFrame(10**12 + number * 10**8, "camera", pixels, "rgb8", 2000, 2000, 6000, received_ns=1)
            engine.submit(frame)
            engine.ask(Question("", "why " * 250), print, print, refusals.append)
            engine.ask(Question("", "x" * 2**20), print, print, refusals.append)
            engine.set_live_option("min_confidence", number / 1000)
            engine.flush()
            engine.stats()
        engine.set_live_option("enabled", False)
        engine.set_live_option("enabled", True)
        assert engine.stats().restarts == 0, "no call waited until the worker was given up"
        assert len(refusals) == 1000  # 500 are too long, 16 were open and are refused by the switch, the others at once
        os.kill(engine.worker_pid, signal.SIGCONT)
        camera.round = 10**6
        camera.play_until(engine, lambda: camera.estimates, "it answers again")
        assert engine.stats().restarts == 0
        assert accounted(engine.stats()) == engine.stats().received

    def test_a_worker_that_is_stopped_for_good_does_not_hold_up_the_stop(self, camera, started):
        engine = started(WorkerEngine(LIGHT, camera.estimates.append))
        os.kill(engine.worker_pid, signal.SIGSTOP)
        for _ in range(10):
            engine.ask(Question("", "x" * 1000), print, print, str)
        process = engine._process
        engine.stop(timeout_s=0.5)
        assert process.poll() == -signal.SIGKILL

    def test_the_worker_ends_with_its_node(self, camera, started):
        engine = started(WorkerEngine(LIGHT, camera.estimates.append))
        process = engine._process
        engine._pipe.close()
        assert process.wait(PATIENCE_S) == 0

    def test_a_question_to_a_worker_that_dies_is_refused(self, camera, started):
        engine = started(WorkerEngine(LIGHT, camera.estimates.append))
        refusals = []
        os.kill(engine.worker_pid, signal.SIGSTOP)
        engine.ask(Question(), print, print, refusals.append)
        os.kill(engine.worker_pid, signal.SIGKILL)
        wait_for(lambda: refusals, "the question is refused")
        assert "ask again" in refusals[0]

    def test_a_worker_that_cannot_be_started_is_said(self, camera, started, monkeypatch):
        def no_memory(*args, **kwargs):
            raise OSError("Cannot allocate memory")

        monkeypatch.setattr("emo_llama_ros.engine.worker_engine.subprocess.Popen", no_memory)
        engine = started(WorkerEngine(LIGHT, camera.estimates.append), until=EngineState.FAILED)
        assert "Cannot allocate memory" in engine.stats().message

    def test_a_program_of_ones_own_can_be_the_worker(self, camera, started, tmp_path):
        program = tmp_path / "my_worker.py"
        program.write_text(
            "from dataclasses import replace\n"
            "from emo_llama_ros.engine import worker\n"
            "from emo_llama_ros.backends.expression import ExpressionBackend\n"
            "class Mine(ExpressionBackend):\n"
            "    info = property(lambda self: replace(super().info, model='mine'))\n"
            "worker.main(Mine)\n"
        )
        engine = started(WorkerEngine(LIGHT, camera.estimates.append, [str(program)]))
        assert engine.model_info.model == "mine"

    def test_the_pixels_are_wiped_when_the_camera_is_switched_off(self, camera, started):
        engine = started(WorkerEngine(LIGHT, camera.estimates.append))
        camera.play(engine, count=3)
        wait_for(lambda: engine.stats().in_flight == 0, "the frames are looked at")
        assert engine._pixels.any()
        engine.set_live_option("enabled", False)
        assert not engine._pixels.any()

    def test_larger_images_find_room(self, camera, started):
        engine = started(WorkerEngine(LIGHT, camera.estimates.append))
        for second, side in enumerate((100, 2000, 50)):
            data = np.zeros(side * side * 3, np.uint8)
            engine.submit(RawFrame(second * 10**9, "c", data, "rgb8", side, side, side * 3, received_ns=1))
            wait_for(lambda n=second: engine.stats().used == n + 1, f"the {side} pixels wide image is used")


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (RawFrame(1, "", np.zeros(9_000_000, np.uint8), "mono8", 1, 1, 1), "needs 1 bytes, but has 9000000"),
        (RawFrame(1, "", np.zeros(9_000_000, np.uint8), "mono8", 1, 1, 9_000_000), "far more than its pixels need"),
        (RawFrame(1, "", np.zeros(9_000_000, np.uint8), "16UC1", 1, 1, 2), "depth image"),
        (RawFrame(1, "", np.zeros(10_000, np.uint8), "mono8", 1, 10_000, 1), "32 times as long"),
        (RawFrame(1, "", np.zeros(9_000_000, np.uint8), "jpeg", compressed=True), "neither JPEG nor PNG"),
    ],
)
def test_a_bad_image_is_counted_and_explained_without_copying_its_payload(frame, reason):
    engine = WorkerEngine(LIGHT, print)
    engine.submit(frame)
    stats = engine.stats()
    assert (stats.drops, stats.in_flight) == ({"bad_image": 1}, 0)
    assert reason in stats.last_bad_image
    assert engine._pixels.size == 0
    engine.stop()


@pytest.mark.parametrize("worker", ["process", "in_process"])
def test_a_broken_cv_bridge_that_was_asked_for_is_one_sentence_and_no_crash(worker, started, tmp_path, monkeypatch):
    (tmp_path / "cv_bridge.py").write_text("raise AttributeError('_ARRAY_API not found')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    options = replace(LIGHT, worker=worker, image_converter="cv_bridge")
    stats = started(make_engine(options, print), until=EngineState.FAILED).stats()
    assert stats.message == (
        "image_converter is cv_bridge, which cannot be used: cv_bridge is installed but cannot be imported: "
        "_ARRAY_API not found. Repair it, or set image_converter to auto."
    )
    assert stats.restarts == 0


class Stubborn(ExpressionBackend):
    """The expression backend, made slow, or failing."""

    def __init__(self, options, error=None, hold=None):
        super().__init__(options)
        self.error, self.hold, self.closed = error, hold, False

    def label(self, clips):
        if self.hold is not None:
            self.hold.wait(PATIENCE_S)
        if self.error is not None:
            raise self.error
        return super().label(clips)

    def close(self):
        self.closed = True
        super().close()


class TestModelTrouble:
    def test_a_failing_model_becomes_an_error_estimate_and_the_engine_lives(self, camera, started):
        backend = Stubborn(Options(), error=RuntimeError("boom"))
        engine = started(InProcessEngine(Options(), camera.estimates.append, backend))
        camera.play_until(
            engine, lambda: any(e.status is Status.ERROR for e in camera.estimates), "the failure is told"
        )
        assert "boom" in next(e.reasoning for e in camera.estimates if e.status is Status.ERROR)
        backend.error = None
        camera.play_until(engine, lambda: any(e.label for e in camera.estimates), "it answers again")

    def test_faces_are_followed_while_the_model_is_busy(self, camera, started):
        hold = threading.Event()
        engine = started(InProcessEngine(Options(), camera.estimates.append, Stubborn(Options(), hold=hold)))
        camera.play_until(engine, lambda: engine.stats().clips.get("superseded", 0) > 1, "newer clips wait")
        assert engine.stats().people == 1
        hold.set()

    def test_the_model_is_freed_when_the_engine_stops(self, camera, started):
        backend = Stubborn(Options())
        engine = started(InProcessEngine(Options(), camera.estimates.append, backend))
        engine.stop()
        assert backend.closed
