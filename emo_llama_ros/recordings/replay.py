"""Offline replay: what the node would say about a recorded bag.

Every frame goes through the engine in the order of recording, nothing waits and nothing is dropped, and only the
frames' stamps count. So the same bag gives the same estimates on the same machine, byte for byte.
"""

from __future__ import annotations

import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2

from emo_llama_ros import __version__
from emo_llama_ros.engine.api import EngineStats
from emo_llama_ros.engine.offline import OfflineEngine
from emo_llama_ros.errors import BadImage, BadParameter, BadRecording
from emo_llama_ros.estimate import Estimate, RegionOfInterest
from emo_llama_ros.frames import RawFrame, RgbImage
from emo_llama_ros.images.converter import make_converter
from emo_llama_ros.images.files import shown
from emo_llama_ros.options import Options
from emo_llama_ros.recordings.bags import ImageBag, ImageTopic
from emo_llama_ros.recordings.estimate_files import EstimateFiles, prepare_folder, published
from emo_llama_ros.recordings.timeline import Recording, draw_timeline

REPLAY_SEED = 1
"""Seed of the face ids where the options ask for random ones."""

LIVE_ONLY = frozenset(
    {
        "image_topic", "image_transport", "input_reliability", "camera_timeout_s", "enabled", "deployment_context",
        "medical_or_safety_reason", "max_rate_hz", "max_age_s", "on_demand", "skip_unchanged", "worker", "worker_nice",
        "worker_timeout_s", "worker_max_restarts", "overlay",
    }
)  # fmt: skip
"""Options of a camera that does not wait, of ROS and of the worker process: an offline replay has none of these."""

_THUMBNAILS = 10
_THUMBNAIL_PX = 96


@dataclass(slots=True)
class Replay:
    """What one replay read and found; `report` is what report.json holds."""

    bag: str
    topic: ImageTopic
    model: str = ""
    frames: int = 0
    unreadable: int = 0
    unstamped: int = 0
    start_ns: int = 0
    end_ns: int = 0
    wall_s: float = 0.0
    interrupted: bool = False
    reason: str = ""
    """Why there is no estimate; empty where there are some."""
    notes: list[str] = field(default_factory=list)
    """What of the bag could not be read, one sentence each."""
    stats: EngineStats = field(default_factory=EngineStats)
    estimates: list[Estimate] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Return the time between the first and the last stamp."""
        return (self.end_ns - self.start_ns) / 1e9

    @property
    def people(self) -> list[str]:
        """Return the face ids in the order in which they came."""
        return list(dict.fromkeys(e.face_id for e in self.estimates if e.face_id))

    def statuses(self) -> Counter[str]:
        """Return how many estimates have each status, LABEL and FINAL of one clip counted once."""
        return Counter({e.estimate_id: e.status.name for e in self.estimates}.values())

    def report(self, options: Options) -> dict[str, Any]:
        """Return the account of the replay, JSON-ready."""
        stats = self.stats
        changed = {name: value for name, value in asdict(options).items() if value != getattr(Options(), name)}
        return {
            "about": "Times are wall time measured in this run; this file differs between runs, the estimates do not.",
            "emo_llama_ros": __version__,
            "bag": self.bag,
            "topic": {"name": self.topic.name, "encoding": self.topic.encoding, "messages": self.topic.count},
            "model": self.model,
            "options": changed,
            "interrupted": self.interrupted,
            "notes": self.notes,
            "no_estimates_because": self.reason or None,
            "frames": {
                "read": self.frames,
                "used": stats.used,
                "skipped": stats.skipped,
                "unreadable": self.unreadable,
                "without_stamp": self.unstamped,
                **stats.drops,
            },
            "clips": dict(stats.clips),
            "estimates": {
                "written": len(self.estimates),
                "by_status": dict(self.statuses()),
                "by_stage": dict(Counter(e.stage.name for e in self.estimates)),
                "by_label": dict(Counter({e.estimate_id: e.label for e in self.estimates if e.label}.values())),
            },
            "people": len(self.people),
            "recording_s": self.seconds,
            "wall_s": self.wall_s,
            "times_real_time": self.seconds / self.wall_s if self.wall_s else None,
            "latency_ms": {stage: {"p50": p50, "p95": p95} for stage, (p50, p95) in stats.latency_ms.items()},
            "last_bad_image": stats.last_bad_image,
            "remarks": list(stats.remarks),
            "silence": stats.silence,
        }


def refuse_live_only(names: Iterable[str]) -> None:
    """Raise BadParameter for the first option that would change nothing offline."""
    for name in names:
        if name in LIVE_ONLY:
            instead = "use --topic" if name in ("image_topic", "image_transport") else "leave it out or add --live"
            raise BadParameter(f"Parameter '{name}' changes nothing in an offline replay; {instead}.")


def replay(
    bag: Path,
    out: Path,
    options: Options,
    topic: str | None = None,
    thumbnails: bool = False,
    overwrite: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Replay:
    """Run `bag` through the engine and write the results into the folder `out`.

    Writes estimates.jsonl, estimates.csv, bag/ (with /emotion), timeline.png and report.json. `progress` is called
    with the frames done and in all. Ctrl-C ends the replay early with everything written so far. Raises BadRecording
    when the bag cannot be read, holds no usable image, or `out` holds earlier results and `overwrite` is not set; and
    what `OfflineEngine.load` raises.
    """
    if options.seed == 0:
        options = options.with_values({"seed": REPLAY_SEED})
    with ImageBag(bag) as recording:
        chosen = recording.choose(topic)
        if bag.resolve().is_relative_to((out / "bag").resolve()):
            raise BadRecording(f"{shown(out)} holds the bag that is read; name another folder.")
        prepare_folder(out, overwrite)
        engine = OfflineEngine(options)
        engine.load()
        try:
            with published(out) as folder:
                result = Replay(shown(Path(bag.resolve().name)), chosen)
                album = _Album(options, recording.start_ns, recording.end_ns) if thumbnails else None
                _run(engine, recording, result, folder, album, progress)
                _refuse_if_unusable(result)
                result.reason = _why_empty(result, options)
                name = f"{result.bag}  ·  {chosen.name}"
                drawn = Recording(name, result.start_ns, result.end_ns, result.model)
                draw_timeline(folder / "timeline.png", result.estimates, drawn, album.pictures if album else None)
                report = json.dumps(result.report(options), indent=2, ensure_ascii=False)
                (folder / "report.json").write_text(report + "\n", encoding="utf-8")
        finally:
            engine.close()
    return result


def _refuse_if_unusable(result: Replay) -> None:
    """Raise BadRecording where the topic has messages, and not one of them is an image that can be seen."""
    if result.interrupted or result.stats.used:
        return
    why = result.stats.last_bad_image or ("none has a usable stamp." if result.frames else "none is a valid message.")
    notes = "".join(f" {note}" for note in result.notes)
    raise BadRecording(f"None of the {result.topic.count} images on {result.topic.name} could be used: {why}{notes}")


def _why_empty(result: Replay, options: Options) -> str:
    """Return why there is no estimate, as one sentence; empty where there are some."""
    if result.estimates or result.interrupted:
        return ""
    stats = result.stats
    repeated = stats.drops["old_stamp"]
    if repeated > stats.used:
        return f"{repeated} of {result.frames} frames carry a stamp no later than that of the frame before."
    if result.seconds < options.clip_min_s:
        return (
            f"The frames span {result.seconds:.1f} s, and a person gets a first estimate when seen for clip_min_s "
            f"({options.clip_min_s:g} s); set clip_min_s lower."
        )
    return f"Nobody was in view for clip_min_s ({options.clip_min_s:g} s) without a gap."


def _run(
    engine: OfflineEngine,
    recording: ImageBag,
    result: Replay,
    out: Path,
    album: _Album | None,
    progress: Callable[[int, int], None],
) -> None:
    info = engine.backend.info
    result.model = info.model
    started = time.perf_counter()
    with EstimateFiles(out, info.label_set) as files:

        def keep(estimates: list[Estimate]) -> None:
            for estimate in estimates:
                files.write(estimate)
                # Only what the picture and the report need, so that a long bag stays small in memory.
                result.estimates.append(replace(estimate, reasoning="", action_units=(), timings=()))

        try:
            for frame in recording.frames(result.topic):
                result.start_ns = min(result.start_ns or frame.stamp_ns, frame.stamp_ns)
                result.end_ns = max(result.end_ns, frame.stamp_ns)
                result.frames += 1
                estimates = engine.process(frame)
                keep(estimates)
                if album:
                    album.add(frame, estimates)
                progress(result.frames, result.topic.count)
        except KeyboardInterrupt:
            result.interrupted = True
    result.wall_s = time.perf_counter() - started
    result.unreadable, result.unstamped = recording.unreadable, recording.unstamped
    result.notes = recording.notes
    result.stats = engine.stats()


class _Album:
    """Collects a few small face crops of every person, evenly over the recording."""

    def __init__(self, options: Options, start_ns: int, end_ns: int) -> None:
        self._converter = make_converter(options)
        self._period_ns = max(1, (end_ns - start_ns) // _THUMBNAILS)
        self._next_ns: defaultdict[str, int] = defaultdict(int)
        self.pictures: defaultdict[str, list[tuple[int, RgbImage]]] = defaultdict(list)

    def add(self, raw: RawFrame, estimates: list[Estimate]) -> None:
        """Take the faces of a frame's own estimates that are due."""
        due = {
            e.face_id: e.roi
            for e in estimates
            if e.face_id and e.stamp_ns == raw.stamp_ns >= self._next_ns[e.face_id] and e.roi.width and e.roi.height
        }
        if not due:
            return
        try:
            rgb = self._converter.decode(raw).rgb
        except BadImage:
            return
        for face_id, roi in due.items():
            self._next_ns[face_id] = raw.stamp_ns + self._period_ns
            self.pictures[face_id].append((raw.stamp_ns, _crop(rgb, roi)))


def _crop(rgb: RgbImage, roi: RegionOfInterest) -> RgbImage:
    face = rgb[roi.y_offset : roi.y_offset + roi.height, roi.x_offset : roi.x_offset + roi.width]
    if not face.size:
        return rgb[:1, :1].copy()
    scale = _THUMBNAIL_PX / max(face.shape[:2])
    size = max(1, round(face.shape[1] * scale)), max(1, round(face.shape[0] * scale))
    return cv2.resize(face, size, interpolation=cv2.INTER_AREA).astype("uint8", copy=False)
