"""Four cameras, eight people, and a model that can read a tenth of what comes due."""

import threading
import time
from collections import Counter

import cv2
import numpy as np
import psutil
import pytest
from patience import PATIENCE_S

from emo_llama_ros.backends.expression import ExpressionBackend
from emo_llama_ros.engine.api import EngineState, unexplained_clips
from emo_llama_ros.engine.in_process import InProcessEngine
from emo_llama_ros.frames import RawFrame
from emo_llama_ros.options import Options

CAMERAS, PEOPLE, RATE_HZ = 4, 2, 30.0
OPTIONS = Options(worker="in_process", label_rate_hz=10.0, clip_s=0.8, clip_min_s=0.1, reasoning_rate_hz=30.0)
SECONDS_PER_CLIP = 10 / (PEOPLE * OPTIONS.label_rate_hz)
ENOUGH = 3


class TenTimesTooSlow(ExpressionBackend):
    def label(self, clips):
        time.sleep(SECONDS_PER_CLIP * len(clips))
        return super().label(clips)


class Camera:
    """Streams two people in a thread until it is told to stop."""

    def __init__(self, picture):
        self.picture, self.submitted = picture, 0
        self.ages_s, self.labels, self.published = [], Counter(), {}
        self.engine = InProcessEngine(OPTIONS, self.hear, TenTimesTooSlow(OPTIONS))
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.stream)

    def hear(self, estimate):
        if estimate.estimate_id not in self.published:
            self.published[estimate.estimate_id] = estimate
            self.ages_s.append((time.monotonic_ns() - estimate.stamp_ns) / 1e9)
            self.labels[estimate.face_id] += 1

    def stream(self):
        height, width, _ = self.picture.shape
        while not self.over.wait(1 / RATE_HZ):
            now = time.monotonic_ns()
            data = self.picture.reshape(-1).copy()  # a new message each time, as a camera sends it
            self.engine.submit(RawFrame(now, "camera", data, "bgr8", width, height, 3 * width, received_ns=now))
            self.submitted += 1


def wait_for(condition, what):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.02)


@pytest.fixture
def cameras(media):
    faces = [cv2.resize(cv2.imread(str(media(f"{name}.jpg"))), (320, 480)) for name in ("0-f1-su-ph", "15-f13-anc-ph")]
    cameras = [Camera(np.hstack(faces)) for _ in range(CAMERAS)]
    for camera in cameras:
        camera.engine.start()
    for camera in cameras:
        wait_for(lambda c=camera: c.engine.stats().state is EngineState.READY, "the model is loaded")
        camera.thread.start()
    yield cameras
    for camera in cameras:
        camera.over.set()
        camera.thread.join()
        camera.engine.stop()


def test_under_overload_labels_are_fresh_people_served_alike_memory_flat_and_every_drop_explained(cameras):
    resident = psutil.Process().memory_info

    def everybody_has(labels):
        return all(len(c.labels) >= PEOPLE and min(c.labels.values()) >= labels for c in cameras)

    wait_for(lambda: everybody_has(1), "everybody has a label")
    settled_mb, since = resident().rss / 1e6, sum(c.submitted for c in cameras)
    wait_for(lambda: everybody_has(1 + ENOUGH), "everybody has a few more")
    grown_mb = resident().rss / 1e6 - settled_mb
    streamed_mb = (sum(c.submitted for c in cameras) - since) * 640 * 480 * 3 / 1e6
    assert streamed_mb > 150
    assert grown_mb < streamed_mb / 4

    for camera in cameras:
        stats = camera.engine.stats()
        assert stats.in_flight <= 2
        assert stats.clips["waiting"] <= len(camera.labels)
        assert stats.received == stats.used + stats.skipped + sum(stats.drops.values()) + stats.in_flight
        assert unexplained_clips(stats.clips) == 0
        camera.over.set()
        camera.thread.join()
        camera.engine.stop()
        stats = camera.engine.stats()
        assert stats.received == camera.submitted == stats.used + stats.skipped + sum(stats.drops.values())
        assert unexplained_clips(stats.clips) == stats.clips["waiting"] == stats.clips["in_work"] == 0
        assert stats.clips["labelled"] + stats.clips.get("failed", 0) == len(camera.published)
        assert stats.clips["superseded"] > stats.clips["labelled"]
        assert max(camera.ages_s) <= OPTIONS.max_age_s
