"""From camera frames of a real face to LABEL and FINAL estimates of a random tiny EMO-LLaMA, through the product."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="needs the 'model' extra")

from emo_llama_ros.engine.offline import OfflineEngine
from emo_llama_ros.errors import MissingModel
from emo_llama_ros.estimate import Stage, Status
from emo_llama_ros.frames import RawFrame
from emo_llama_ros.options import Options


@pytest.fixture(scope="module")
def film(media):
    """The first seconds of a real video, a tenth of a second apart, as sensor_msgs/Image would bring them."""
    import cv2

    capture = cv2.VideoCapture(str(media("single_face.mp4")))
    rate = capture.get(cv2.CAP_PROP_FPS)
    frames = []
    for number in range(int(4 * rate)):
        there, bgr = capture.read()
        if not there:
            break
        if number % max(1, round(rate / 10)) == 0:
            height, width = bgr.shape[:2]
            stamp = 10**9 + round(number / rate * 1e9)
            frames.append(RawFrame(stamp, "camera", bgr.reshape(-1), "bgr8", width, height, 3 * width))
    return frames


def run(folder, film, **options):
    given = {
        "backend": "emo_llama",
        "model_path": str(folder),
        "device": "cpu",
        "worker_threads": 1,
        "max_reasoning_tokens": 8,
        "min_confidence": 0.0,
        "seed": 7,
    }
    engine = OfflineEngine(Options().with_values(given | options))
    try:
        engine.load()
    except MissingModel as error:
        pytest.skip(str(error))
    estimates = [estimate for frame in film for estimate in engine.process(frame)]
    engine.close()
    return estimates


@pytest.mark.parametrize("quantization", ["none", "int8", "nf4"])
def test_each_clip_is_labelled_first_and_explained_after(checkpoint, film, quantization):
    estimates = run(checkpoint(quantization), film)
    read = [e for e in estimates if e.status is not Status.NO_FACE]
    assert read
    assert all(e.label in e.labels and e.confidence == max(e.probabilities) for e in read)
    assert all(quantization in e.model or quantization == "none" for e in read)
    labels = {e.estimate_id: e for e in read if e.stage is Stage.LABEL}
    finals = {e.estimate_id: e for e in read if e.stage is Stage.FINAL}
    assert labels
    assert set(labels) <= set(finals)
    for estimate_id, label in labels.items():
        final = finals[estimate_id]
        assert label.reasoning == ""
        assert final.reasoning
        assert final.probabilities == label.probabilities
        assert read.index(label) < read.index(final)


def test_a_recording_gives_the_same_estimates_every_time(checkpoint, film):
    folder = checkpoint("none", False, "clip")
    assert run(folder, film) == run(folder, film)
