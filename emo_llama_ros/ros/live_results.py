"""A live replay with its files: those of an offline one, from what came over DDS."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from emo_llama_ros import __version__
from emo_llama_ros.estimate import Estimate
from emo_llama_ros.images.files import shown
from emo_llama_ros.labels import RAF_DB, LabelSet, label_set
from emo_llama_ros.recordings.bags import ImageBag, ImageTopic
from emo_llama_ros.recordings.estimate_files import EstimateFiles, prepare_folder, published
from emo_llama_ros.recordings.timeline import Recording, draw_timeline
from emo_llama_ros.ros.live_replay import LiveReplay, replay_live


@dataclass(frozen=True, slots=True)
class LiveOutcome:
    """A live replay in words: the summary, why there is no estimate (or nothing), and what could not be read."""

    summary: str
    reason: str
    notes: list[str]


def replay_live_into(
    out: Path,
    bag: Path,
    parameters: Mapping[str, Any],
    topic: str | None = None,
    rate: float = 1.0,
    overwrite: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> LiveOutcome:
    """Play a bag to a node of its own, write the results into `out`, and return what to tell at the terminal.

    Raises BadRecording like an offline replay, and EmoError when the node does not start or load its model.
    """
    with ImageBag(bag) as recording:
        chosen = recording.choose(topic)
        prepare_folder(out, overwrite)
        done = count(1)
        live = replay_live(
            recording,
            chosen,
            parameters,
            out / "node.log",
            rate,
            on_frame=lambda _: progress(next(done), chosen.count),
        )
        write_live_results(out, shown(Path(bag.resolve().name)), recording, chosen, live)
        notes = recording.notes
    people = {e.face_id for e in live.estimates if e.face_id}
    received = live.diagnostics.get("estimates", {}).get("frames received", "?")
    summary = (
        f"{chosen.name}: {live.played.frames} frames played, {received} received by the node\n"
        f"{len(people)} people; {len(live.estimates)} estimates\n"
        f"{shown(out / 'timeline.png')}, estimates.jsonl, estimates.csv, bag/, report.json, node.log"
    )
    return LiveOutcome(summary, _why_empty(live), notes)


def write_live_results(out: Path, name: str, bag: ImageBag, topic: ImageTopic, live: LiveReplay) -> None:
    """Write estimates.jsonl, estimates.csv, bag/, timeline.png and report.json into the prepared folder `out`."""
    labels = label_set(live.label_set) if live.label_set else RAF_DB
    with published(out) as folder:
        _write(folder, name, bag, topic, live, labels)


def _write(folder: Path, name: str, bag: ImageBag, topic: ImageTopic, live: LiveReplay, labels: LabelSet) -> None:
    with EstimateFiles(folder, labels) as files:
        for estimate in live.estimates:
            files.write(estimate)
    stamps = [estimate.stamp_ns for estimate in live.estimates]
    start_ns, end_ns = min([bag.start_ns, *stamps]), max([bag.end_ns, *stamps])
    drawn = Recording(f"{name}  ·  {topic.name}  ·  live", start_ns, end_ns, live.model)
    draw_timeline(folder / "timeline.png", live.estimates, drawn)
    report = {
        "about": "Received over DDS from a running node, so this and the estimates differ a little between runs.",
        "emo_llama_ros": __version__,
        "topic": topic.name,
        "model": live.model,
        "frames_played": live.played.frames,
        "recording_s": live.played.seconds,
        "notes": bag.notes,
        "no_estimates_because": _why_empty(live) or None,
        "worst_playing_delay_s": live.played.worst_delay_s,
        "estimates_by_status": dict(Counter({e.estimate_id: e.status.name for e in live.estimates}.values())),
        "label_age_at_publish_ms_median": median_age_ms(live.estimates),
        "node": live.diagnostics,
    }
    (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def _why_empty(live: LiveReplay) -> str:
    """Return why the node published nothing, in its own words; empty where it did."""
    if live.estimates:
        return ""
    if not live.played.frames:
        return "No frame was played."
    said = (f"{part}: {values['message']}" for part, values in live.diagnostics.items() if values.get("message"))
    return f"{live.played.frames} frames were played; the node says {'; '.join(said) or 'nothing'} (see node.log)."


def median_age_ms(estimates: Sequence[Estimate]) -> float | None:
    """Return the median age of the first message of each estimate, in milliseconds of the recording's clock."""
    first = {e.estimate_id: e.age_at_publish_ns for e in reversed(estimates)}
    return statistics.median(first.values()) / 1e6 if first else None
