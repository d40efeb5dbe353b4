"""Four cameras, eight people and a model ten times too slow: the node's services do not notice."""

import array
import threading
import time
from dataclasses import replace

import pytest

from emo_llama_ros.engine.api import EngineState
from emo_llama_ros.engine.worker_engine import WorkerEngine
from emo_llama_ros.frames import RawFrame

RATE_HZ, PEOPLE, OTHER_CAMERAS = 30.0, 2, 3
OVERLOAD = {"label_rate_hz": 10.0, "clip_s": 0.8, "clip_min_s": 0.1}


@pytest.fixture
def slow_engine(repository):
    """Make an engine whose worker needs ten times too long for each clip."""
    command = [str(repository / "benchmarks" / "slow_worker.py"), str(10 / (PEOPLE * 10.0)), "wait"]
    return lambda options, on_estimate: WorkerEngine(replace(options, **OVERLOAD), on_estimate, command)


@pytest.fixture
def faces(media):
    """Return the pixels of two people side by side, rgb8 640 x 480."""
    import cv2
    import numpy as np

    people = [cv2.resize(cv2.imread(str(media(name))), (320, 480)) for name in ("0-f1-su-ph.jpg", "15-f13-anc-ph.jpg")]
    return np.ascontiguousarray(np.hstack(people)[:, :, ::-1]).reshape(-1)


@pytest.fixture
def other_cameras(slow_engine, faces, until):
    """Run three more cameras with engines of their own, as three more nodes on the machine would."""
    from emo_llama_ros.options import Options

    engines = [slow_engine(Options(), lambda estimate: None) for _ in range(OTHER_CAMERAS)]
    over = threading.Event()

    def stream():
        while not over.wait(1 / RATE_HZ):
            for engine in engines:
                now = time.monotonic_ns()
                engine.submit(RawFrame(now, "camera", faces, "rgb8", 640, 480, 1920, received_ns=now))

    thread = threading.Thread(target=stream)
    for engine in engines:
        engine.start()
    until(lambda: all(e.stats().state is EngineState.READY for e in engines), "the other cameras' models")
    thread.start()
    yield
    over.set()
    thread.join()
    for engine in engines:
        engine.stop()


def test_lifecycle_and_parameter_services_answer_under_overload(corner, slow_engine, other_cameras, faces):
    from emo_llama_ros.msg import EmotionEstimate

    heard = corner.hear(EmotionEstimate, "emotion")
    diagnostics = corner.diagnostics()
    corner.emo_llama_node(slow_engine)
    camera = corner.camera()
    message = corner.image(width=640, height=480)
    message.data = array.array("B", faces.tobytes())
    over = threading.Event()

    def stream():
        while not over.wait(1 / RATE_HZ):
            message.header.stamp = corner.helper.get_clock().now().to_msg()
            camera.publish(message)

    thread = threading.Thread(target=stream)
    try:
        for transition in ("configure", "activate"):
            assert corner.change_state(transition)
        thread.start()
        corner.until(lambda: len({m.face_id for m in heard if m.label}) == PEOPLE, "both people's labels")
        for number in range(10):
            assert corner.state() == "active"
            assert corner.set_parameter("min_confidence", 0.3 + number / 100).successful
        corner.until(
            lambda: int(diagnostics("estimates")[2].get("clips superseded", 0)) > 10, "the overload to be told"
        )
        for transition in ("deactivate", "activate", "deactivate", "cleanup"):
            assert corner.change_state(transition), transition
    finally:
        over.set()
        if thread.ident:
            thread.join()
