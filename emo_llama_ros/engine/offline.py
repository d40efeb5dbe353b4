"""The whole product without ROS: image → faces → clips → model → estimate, one frame after the other.

This is the offline form, for replay and tests: it waits for every answer, drops nothing that is due, and knows no
clock but the stamps of the frames, so the same recording gives the same estimates. `model_side.py` does the same with a
camera that does not wait.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from emo_llama_ros.backends.backend import Backend, LabelAnswer
from emo_llama_ros.backends.registry import make_backend
from emo_llama_ros.engine.answers import announced, explained, label_estimate, nobody_estimate
from emo_llama_ros.engine.api import EngineState, EngineStats
from emo_llama_ros.engine.latencies import Latencies
from emo_llama_ros.engine.silence import why_silent
from emo_llama_ros.errors import BadImage
from emo_llama_ros.estimate import Estimate, Status
from emo_llama_ros.faces.face import FaceAnalyzer
from emo_llama_ros.faces.make import make_analyzer
from emo_llama_ros.frames import SECOND_NS, RawFrame
from emo_llama_ros.images.converter import make_converter
from emo_llama_ros.options import Options
from emo_llama_ros.perception.clips import Clip
from emo_llama_ros.perception.perception import Perception
from emo_llama_ros.perception.stamps import CaptureTimes, FrameGate, StampGrid


class OfflineEngine:
    """Frames in, estimates out."""

    def __init__(self, options: Options, backend: Backend | None = None, analyzer: FaceAnalyzer | None = None) -> None:
        """Make an engine of the backend and analyzer that `options` name, or of given ones."""
        self._options = options
        self._backend = backend or make_backend(options)
        self._analyzer = analyzer
        self._converter = make_converter(options)
        self._times = CaptureTimes()
        self._restamped = ""
        self._gate = FrameGate(options)
        self._reasoning_turns: dict[str, StampGrid] = {}
        self._frames: Counter[str] = Counter()
        self._clips: Counter[str] = Counter()
        self._latencies = Latencies()
        self._last_bad_image = ""
        self._people = 0
        self._loaded = False

    @property
    def backend(self) -> Backend:
        """The backend that answers."""
        return self._backend

    def load(self) -> None:
        """Bring all models into memory; raise EmoError where one is missing or does not fit."""
        if self._analyzer is None:
            self._analyzer = make_analyzer(self._options)
        self._perception = Perception(self._options, self._analyzer)
        self._backend.load()
        self._loaded = True

    def process(self, raw: RawFrame) -> list[Estimate]:
        """Return all estimates that this frame brings: for each person LABEL and FINAL, or only FINAL.

        A frame that cannot be decoded is counted, and brings none.
        """
        self._frames["received"] += 1
        raw = replace(raw, stamp_ns=self._times.of(raw.stamp_ns, raw.received_ns))
        self._restamped = self._restamped or self._times.remark()
        verdict = self._gate.judge(raw.stamp_ns)
        if self._gate.jumped:
            self._frames["clock_jumps"] += 1
            self._flush()
        if verdict != "wanted":
            self._frames[verdict] += 1
            return []
        try:
            with self._latencies.measure("decode"):
                frame = self._converter.decode(raw)
        except BadImage as error:
            self._frames["bad_image"] += 1
            self._last_bad_image = str(error)
            return []
        self._frames["used"] += 1
        with self._latencies.measure("faces"):
            seen = self._perception.observe(frame)
        self._people = len(seen.people)
        for face_id in seen.ended:
            self._backend.forget(face_id)
            self._reasoning_turns.pop(face_id, None)
        if seen.nobody:
            self._clips["nobody"] += 1
            return [nobody_estimate(frame.stamp_ns, frame.frame_id, self._backend.info)]
        return self._answer(list(seen.due)) if seen.due else []

    def close(self) -> None:
        """Free the models."""
        if self._loaded:
            self._backend.close()
            self._loaded = False

    def stats(self) -> EngineStats:
        """Return the counters."""
        stats = EngineStats(
            state=EngineState.READY if self._loaded else EngineState.STOPPED,
            received=self._frames["received"],
            used=self._frames["used"],
            skipped=self._frames["skipped"],
            drops={reason: self._frames[reason] for reason in ("bad_image", "old_stamp")},
            clips=dict(self._clips),
            people=self._people,
            latency_ms=self._latencies.percentiles_ms(),
            last_bad_image=self._last_bad_image,
            converter=f"{self._converter.name}. {self._converter.reason}",
            frames_with_faces=self._perception.frames_with_faces if self._loaded else 0,
            remarks=tuple(filter(None, (self._restamped, self._gate.remark()))),
        )
        return replace(stats, silence=why_silent(stats, self._options))

    def _answer(self, clips: list[Clip]) -> list[Estimate]:
        self._clips["due"] += len(clips)
        with self._latencies.measure("label"):
            answers = self._backend.label(clips)
        return [e for clip, answer in zip(clips, answers, strict=True) for e in self._estimates(clip, answer)]

    def _estimates(self, clip: Clip, answer: LabelAnswer) -> list[Estimate]:
        estimate = label_estimate(clip, answer, self._backend.info, self._options.min_confidence)
        self._clips["labelled" if answer.status is Status.OK else "failed"] += 1
        if answer.status is not Status.OK or not self._reasoning_due(clip):
            return [estimate]
        with self._latencies.measure("reasoning"):
            reasoning = "".join(self._backend.explain(clip, answer))
        self._clips["reasoned"] += 1
        return [announced(estimate), explained(estimate, reasoning)]

    def _reasoning_due(self, clip: Clip) -> bool:
        if not self._options.reasoning:
            return False
        period_ns = round(SECOND_NS / self._options.reasoning_rate_hz)
        return self._reasoning_turns.setdefault(clip.face_id, StampGrid(period_ns)).enters(clip.stamp_ns)

    def _flush(self) -> None:
        for face_id in self._perception.flush():
            self._backend.forget(face_id)
        self._reasoning_turns.clear()
