"""`emo_llama demo`: two real face videos through the real node, and what it says about them as it says it."""

from __future__ import annotations

import os
import random
import shutil
import time
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from emo_llama_ros.estimate import Estimate
from emo_llama_ros.install.fetch import fetch_media, fetch_models, media_file
from emo_llama_ros.recordings.bag_writer import BagWriter
from emo_llama_ros.recordings.bags import ImageBag, ImageTopic
from emo_llama_ros.recordings.estimate_files import prepare_folder
from emo_llama_ros.recordings.media import file_frames
from emo_llama_ros.ros.emotion_view import EmotionView, line
from emo_llama_ros.ros.live_replay import LiveReplay, replay_live
from emo_llama_ros.ros.live_results import median_age_ms, write_live_results

VIDEOS = ("WolfgangLanger_Pexels.mp4", "single_face.mp4")
TOPIC = "/camera/image_raw"


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
        found = f"{recording}: {topic.count} frames, {(bag.end_ns - bag.start_ns) / 1e9:.0f} s on {topic.name}"
        console.print(found, markup=False, soft_wrap=True)
        watch = f"ROS_DOMAIN_ID={os.environ['ROS_DOMAIN_ID']} emo_llama watch"
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
    view = EmotionView("/emotion")
    bar = Progress(
        TextColumn("{task.description}", markup=False), BarColumn(None), TimeElapsedColumn(), console=console
    )
    task = bar.add_task("loading the model", total=topic.count)
    if not console.is_terminal:

        def print_line(estimate: Estimate) -> None:
            console.print(line(estimate, bag.start_ns), highlight=False, soft_wrap=True)

        return replay_live(bag, topic, {}, log, on_estimate=print_line)
    with Live(Group(view, bar), console=console, refresh_per_second=8):
        return replay_live(
            bag,
            topic,
            {},
            log,
            on_estimate=view.add,
            on_frame=lambda _: bar.advance(task),
            on_ready=lambda model: bar.update(task, description=f"playing to {model}"),
        )


def _summary(console: Console, live: LiveReplay, out: Path) -> None:
    numbers = live.diagnostics.get("estimates", {})
    people = {e.face_id for e in live.estimates if e.face_id}
    age = median_age_ms(live.estimates)
    console.print(
        f"{live.played.frames} frames played, {numbers.get('frames received', '?')} received by the node, "
        f"{len(live.estimates)} messages about {len(people)} people"
        + (f", labels {age:.0f} ms old when published (median)." if age is not None else ".")
    )
    console.print(
        f"Timeline: {out / 'timeline.png'}   estimates: {out / 'estimates.csv'}", markup=False, soft_wrap=True
    )
    console.print(f"Play it yourself: ros2 bag play {out / 'camera_bag'} --clock", markup=False, soft_wrap=True)
