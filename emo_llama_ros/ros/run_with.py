"""The node together with a camera of its own, a view of what it says, or both; they end together."""

from __future__ import annotations

import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from emo_llama_ros.errors import BadParameter, EmoError
from emo_llama_ros.options import Options
from emo_llama_ros.recordings.playable import webcam as webcam_source
from emo_llama_ros.ros.environment import can_be_written, log_folder
from emo_llama_ros.ros.launch_arguments import NodeStart, node_start, ros_arguments
from emo_llama_ros.ros.live_replay import node_process
from emo_llama_ros.ros.play import BesideCamera, camera_beside
from emo_llama_ros.ros.process import main
from emo_llama_ros.ros.until_interrupted import until_interrupted

_LOG = "emo_llama_run.log"
_START_S = 30.0
"""How long the node may take until it advertises its topic, before that is worth a word."""


def run_with(values: Mapping[str, str], more: Sequence[str], webcam: str | None, watch: bool) -> int:
    """Run the node that the launch arguments describe with a webcam, a view, or both; return the exit code.

    Raises EmoError for what cannot be started, before anything is.
    """
    values = dict(values)
    if webcam is not None:
        values.setdefault("image_topic", Options().image_topic)  # the parameter file may name another camera
    start = node_start(values, launched=False)
    if webcam is not None and start.use_sim_time:
        raise BadParameter("A webcam gives the present time: leave out use_sim_time.")
    with ExitStack() as stack:
        over = stack.enter_context(until_interrupted())
        camera = None
        if webcam is not None:
            base = str(start.options["image_topic"]).removesuffix("/compressed")
            source = webcam_source(webcam)
            camera = stack.enter_context(camera_beside(source, base, start.namespace, more))
            print(f"{source.name}: {camera.size} images on {camera.topic}. Ctrl-C ends it.", file=sys.stderr)
        if over.is_set():  # Ctrl-C while the camera was opened
            return 0
        code = _watched(start, more, over) if watch else main(ros_arguments(start, more))
    return _ended(code, camera)


def _ended(code: int, camera: BesideCamera | None) -> int:
    if camera is None or not camera.failure:
        return code
    print(f"emo_llama: {camera.failure}", file=sys.stderr)
    return 1


def _watched(start: NodeStart, more: Sequence[str], over: threading.Event) -> int:
    from emo_llama_ros.ros.watch import watch

    folder = log_folder()
    log = (folder if can_be_written(folder) else Path(tempfile.gettempdir())) / _LOG
    with node_process(ros_arguments(start, more), log) as process:
        print(f"The node writes its log to {log}.", file=sys.stderr)
        watch(f"{start.namespace}/emotion", over, nobody_s=_START_S, ended=lambda: process.poll() is not None)
        code = process.poll()
    if code is not None and not over.is_set():
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["no output"]
        raise EmoError(f"The node ended with exit code {code}: {lines[-1]} (see {log})")
    return 0
