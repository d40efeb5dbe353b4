"""`emo_llama demo`: two real face videos through the real node, and what it says about them as it says it."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections import OrderedDict
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from emo_llama_ros.estimate import Estimate, Stage, Status
from emo_llama_ros.install.fetch import fetch_media, fetch_models, media_file
from emo_llama_ros.recordings.bag_writer import BagWriter
from emo_llama_ros.recordings.bags import ImageBag, ImageTopic
from emo_llama_ros.recordings.estimate_files import prepare_folder
from emo_llama_ros.recordings.media import file_frames
from emo_llama_ros.ros.live_replay import LiveReplay, replay_live
from emo_llama_ros.ros.live_results import median_age_ms, write_live_results

VIDEOS = ("WolfgangLanger_Pexels.mp4", "single_face.mp4")
TOPIC = "/camera/image_raw"
_ROWS = 10
_BAR = 12
_COLOURS = {
    "happiness": "yellow", "sadness": "blue", "anger": "red", "surprise": "magenta", "fear": "purple",
    "disgust": "green", "neutral": "white",
}  # fmt: skip


class EstimateTable:
    """The newest estimates as a table; a FINAL message completes the row of its LABEL."""

    def __init__(self) -> None:
        self._rows: OrderedDict[str, Estimate] = OrderedDict()
        self.start_ns = 0

    def add(self, estimate: Estimate) -> None:
        """Take an estimate in; may be called from any thread."""
        self._rows[estimate.estimate_id] = estimate
        while len(self._rows) > _ROWS:
            self._rows.popitem(last=False)

    def __rich__(self) -> Table:
        """Draw what is there now."""
        table = Table(expand=True, pad_edge=False, title="/emotion")
        for name, width in (("s", 5), ("person", 9), ("stage", 5), ("displayed expression", 26), ("status", 14)):
            table.add_column(name, width=width, no_wrap=True)
        table.add_column("reasoning", ratio=1, no_wrap=True, overflow="ellipsis")
        for estimate in list(self._rows.values()):
            table.add_row(
                f"{(estimate.stamp_ns - self.start_ns) / 1e9:.1f}",
                estimate.face_id,
                estimate.stage.name,
                _bar(estimate),
                "" if estimate.status is Status.OK else estimate.status.name,
                estimate.reasoning or ("…" if estimate.stage is Stage.LABEL else ""),
            )
        return table


def line(estimate: Estimate, start_ns: int) -> str:
    """Return an estimate as one line, for a terminal that cannot redraw."""
    seconds = (estimate.stamp_ns - start_ns) / 1e9
    said = f"{estimate.label} {estimate.confidence:.2f}" if estimate.label else "-"
    parts = (f"{seconds:6.1f} s", estimate.face_id or "-", estimate.stage.name, said, estimate.status.name)
    return "  ".join((*parts, estimate.reasoning)).rstrip()


def run_demo(out: Path) -> None:
    """Play the sample videos to a node of their own and leave the results in `out`; raise EmoError when it cannot."""
    console = Console()
    fetch_models(report=lambda text: None)
    fetch_media(report=lambda text: None)
    # A domain of its own: nothing else that runs here can disturb the demo, or be disturbed by its /clock.
    os.environ.setdefault("ROS_DOMAIN_ID", str(random.randint(1, 100)))
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    prepare_folder(out, overwrite=True)
    with console.status(f"Making a rosbag2 of {' and '.join(VIDEOS)} …"):
        recording = _make_bag(out / "camera_bag")
    with ImageBag(recording) as bag:
        topic = bag.choose(TOPIC)
        console.print(f"{recording}: {topic.count} frames, {(bag.end_ns - bag.start_ns) / 1e9:.0f} s on {topic.name}")
        watch = f"ROS_DOMAIN_ID={os.environ['ROS_DOMAIN_ID']} ros2 topic echo /emotion"
        console.print(f"Starting emo_llama_node; to watch it from another terminal: [bold]{watch}[/bold]")
        live = _watch(console, bag, topic, out / "node.log")
        with console.status("Drawing the timeline …"):
            write_live_results(out, "make demo", bag, topic, live)
    _summary(console, live, out)


def _make_bag(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    with BagWriter(folder) as writer:
        # Stamped as if filmed just now, so that other tools show sensible times.
        for frame in file_frames([media_file(name) for name in VIDEOS], start_ns=time.time_ns()):
            writer.write_image(TOPIC, frame)
    return folder


def _watch(console: Console, bag: ImageBag, topic: ImageTopic, log: Path) -> LiveReplay:
    table = EstimateTable()
    table.start_ns = bag.start_ns
    bar = Progress(TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=console)
    task = bar.add_task("loading the model", total=topic.count)
    if not console.is_terminal:

        def print_line(estimate: Estimate) -> None:
            console.print(line(estimate, bag.start_ns), highlight=False, soft_wrap=True)

        return replay_live(bag, topic, {}, log, on_estimate=print_line)
    with Live(Group(table, bar), console=console, refresh_per_second=8):
        return replay_live(
            bag,
            topic,
            {},
            log,
            on_estimate=table.add,
            on_frame=lambda _: bar.advance(task),
            on_ready=lambda model: bar.update(task, description=f"playing to {model}"),
        )


def _bar(estimate: Estimate) -> Text:
    if not estimate.label:
        return Text("-", style="dim")
    filled = round(estimate.confidence * _BAR)
    colour = _COLOURS.get(estimate.label, "cyan")
    text = Text("█" * filled, style=colour)
    text.append("░" * (_BAR - filled), style="dim")
    return text.append(f" {estimate.confidence:.0%} {estimate.label}")


def _summary(console: Console, live: LiveReplay, out: Path) -> None:
    numbers = live.diagnostics.get("estimates", {})
    people = {e.face_id for e in live.estimates if e.face_id}
    age = median_age_ms(live.estimates)
    console.print(
        f"{live.played.frames} frames played, {numbers.get('frames received', '?')} received by the node, "
        f"{len(live.estimates)} messages about {len(people)} people"
        + (f", labels {age:.0f} ms old when published (median)." if age is not None else ".")
    )
    console.print(f"Timeline: [bold]{out / 'timeline.png'}[/bold]   estimates: {out / 'estimates.csv'}")
    console.print(f"Play it yourself: ros2 bag play {out / 'camera_bag'} --clock")
