"""The files of a live replay: those of an offline one, from what came over DDS."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from emo_llama_ros import __version__
from emo_llama_ros.bags import ImageBag, ImageTopic
from emo_llama_ros.estimate import Estimate
from emo_llama_ros.estimate_files import EstimateFiles
from emo_llama_ros.labels import RAF_DB, label_set
from emo_llama_ros.ros.live_replay import LiveReplay
from emo_llama_ros.timeline import Recording, draw_timeline


def write_live_results(out: Path, name: str, bag: ImageBag, topic: ImageTopic, live: LiveReplay) -> None:
    """Write estimates.jsonl, estimates.csv, bag/, timeline.png and report.json into the prepared folder `out`."""
    labels = label_set(live.label_set) if live.label_set else RAF_DB
    with EstimateFiles(out, labels) as files:
        for estimate in live.estimates:
            files.write(estimate)
    stamps = [estimate.stamp_ns for estimate in live.estimates]
    start_ns, end_ns = min([bag.start_ns, *stamps]), max([bag.end_ns, *stamps])
    drawn = Recording(f"{name}  ·  {topic.name}  ·  live", start_ns, end_ns, live.model)
    draw_timeline(out / "timeline.png", live.estimates, drawn)
    report = {
        "about": "Received over DDS from a running node, so this and the estimates differ a little between runs.",
        "emo_llama_ros": __version__,
        "topic": topic.name,
        "model": live.model,
        "frames_played": live.played.frames,
        "recording_s": live.played.seconds,
        "worst_playing_delay_s": live.played.worst_delay_s,
        "estimates_by_status": dict(Counter({e.estimate_id: e.status.name for e in live.estimates}.values())),
        "label_age_at_publish_ms_median": median_age_ms(live.estimates),
        "node": live.diagnostics,
    }
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def median_age_ms(estimates: Sequence[Estimate]) -> float | None:
    """Return the median age of the first message of each estimate, in milliseconds of the recording's clock."""
    first = {e.estimate_id: e.age_at_publish_ns for e in reversed(estimates)}
    return statistics.median(first.values()) / 1e6 if first else None
