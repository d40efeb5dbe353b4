"""The whole street at once: the node as its own process, a bag played to it over DDS, its estimates received again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import rclpy
import yaml
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.signals import SignalHandlerOptions

import emo_llama_ros
from emo_llama_ros.errors import EmoError
from emo_llama_ros.estimate import Estimate
from emo_llama_ros.msg import EmotionEstimate, ModelInfo
from emo_llama_ros.recordings.bags import ImageBag, ImageTopic
from emo_llama_ros.ros.conversion import estimate_of
from emo_llama_ros.ros.player import BagPlayer, Played
from emo_llama_ros.ros.transport import use_shipped_profile

NODE_NAME = "emo_llama_node"
LOAD_TIMEOUT_S = 600.0
"""A 7B model from a slow disk takes minutes."""
_QUIET_S = 1.5
_SETTLE_S = 15.0
_STOP_S = 5.0


@dataclass(slots=True)
class LiveReplay:
    """What a live replay played and received."""

    played: Played = field(default_factory=lambda: Played(0, 0.0, 0.0))
    model: str = ""
    label_set: str = ""
    estimates: list[Estimate] = field(default_factory=list)
    diagnostics: dict[str, dict[str, str]] = field(default_factory=dict)
    """The node's last words on /diagnostics: status ("camera", "model", "estimates") → key → value."""


def replay_live(
    bag: ImageBag,
    topic: ImageTopic,
    parameters: Mapping[str, Any],
    log: Path,
    rate: float = 1.0,
    on_estimate: Callable[[Estimate], None] = lambda estimate: None,
    on_frame: Callable[[int], None] = lambda time_ns: None,
    on_ready: Callable[[str], None] = lambda model: None,
) -> LiveReplay:
    """Start emo_llama_node, play `topic` of `bag` to it, and return what it published.

    `parameters` are those of the node; the camera topic, its transport and use_sim_time follow from the bag. `log`
    takes the node's output. `on_ready` is called with the model's name before the first frame, `on_estimate` from
    another thread. Raises EmoError when the node does not start or cannot load its model.
    """
    suffix = "/compressed"
    if topic.compressed and not topic.name.endswith(suffix):
        raise EmoError(f"The compressed images on {topic.name} cannot be played: the topic must end in {suffix}.")
    values = {
        **parameters,
        "use_sim_time": True,
        "image_topic": topic.name.removesuffix(suffix) if topic.compressed else topic.name,
        "image_transport": "compressed" if topic.compressed else "raw",
    }
    result = LiveReplay()
    use_shipped_profile()
    with _listening(result, on_estimate) as (node, heard), running_node(values, log) as process:
        player = BagPlayer(node, topic)
        _wait_until_ready(player, heard, process, log)
        on_ready(result.model)
        result.played = player.play(bag, rate, on_frame)
        _settle(heard)
    return result


class _Heard:
    """What the subscriber knows; written by its thread."""

    def __init__(self) -> None:
        self.ready = threading.Event()
        self.failure = ""
        self.last_estimate_s = time.monotonic()


@contextmanager
def _listening(result: LiveReplay, on_estimate: Callable[[Estimate], None]) -> Iterator[tuple[Node, _Heard]]:
    heard = _Heard()

    def take_estimate(message: EmotionEstimate) -> None:
        estimate = estimate_of(message)
        result.estimates.append(estimate)
        heard.last_estimate_s = time.monotonic()
        on_estimate(estimate)

    def take_model(message: ModelInfo) -> None:
        result.model, result.label_set = message.model, message.label_set
        heard.ready.set()

    def take_diagnostics(message: DiagnosticArray) -> None:
        for status in message.status:
            node_name, _, part = status.name.partition(": ")
            if node_name == f"/{NODE_NAME}":
                result.diagnostics[part] = {"message": status.message, **{p.key: p.value for p in status.values}}
                if part == "model":
                    heard.failure = status.message if status.level == DiagnosticStatus.ERROR else ""

    context = rclpy.Context()
    rclpy.init(context=context, signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node("emo_llama_player", context=context, use_global_arguments=False)
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    node.create_subscription(EmotionEstimate, "/emotion", take_estimate, 100)
    node.create_subscription(ModelInfo, f"/{NODE_NAME}/model_info", take_model, latched)
    node.create_subscription(DiagnosticArray, "/diagnostics", take_diagnostics, 10)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)

    def spin() -> None:
        with suppress(ExternalShutdownException):
            executor.spin()

    thread = threading.Thread(target=spin, name="emo_llama listener")
    thread.start()
    try:
        yield node, heard
    finally:
        executor.shutdown(timeout_sec=1.0)
        thread.join()
        node.destroy_node()
        rclpy.try_shutdown(context=context)


@contextmanager
def running_node(parameters: Mapping[str, Any], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run an active emo_llama_node with these parameters as its own process, its output in `log`; end it after."""
    with tempfile.TemporaryDirectory(prefix="emo_llama_") as folder:
        file = Path(folder, "parameters.yaml")
        file.write_text(yaml.safe_dump({"/**": {"ros__parameters": dict(parameters)}}), encoding="utf-8")
        with node_process(["--autostart", "--ros-args", "--params-file", str(file)], log) as process:
            yield process


@contextmanager
def node_process(arguments: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run emo_llama_node with these arguments as its own process, its output in `log`; end it after."""
    # The child finds the same package as we do, installed or not.
    path = [str(Path(emo_llama_ros.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "emo_llama_ros.ros.startup", *arguments],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(part for part in path if part)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is ours: the node is ended below, after its last estimate
        )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_ready(player: BagPlayer, heard: _Heard, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + LOAD_TIMEOUT_S
    while not (heard.ready.is_set() and player.has_listener):
        if process.poll() is not None:
            lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["no output"]
            raise EmoError(f"The node ended with exit code {process.returncode}: {lines[-1]} (see {log})")
        if heard.failure:
            raise EmoError(f"The node cannot load its model: {heard.failure}")
        if time.monotonic() > deadline:
            raise EmoError(f"The node was not ready within {LOAD_TIMEOUT_S:.0f} s (see {log}).")
        heard.ready.wait(0.05)
        time.sleep(0.01)


def _settle(heard: _Heard) -> None:
    """Wait for estimates that are still on their way: until none came for a while."""
    ended = time.monotonic()
    while time.monotonic() < ended + _SETTLE_S:
        if time.monotonic() - max(ended, heard.last_estimate_s) > _QUIET_S:
            return
        time.sleep(0.05)
