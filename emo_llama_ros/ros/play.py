"""A camera for any node: recorded or grabbed frames, published as a camera driver would."""

from __future__ import annotations

import itertools
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import rclpy
from rclpy.node import Node

from emo_llama_ros.errors import BadParameter, BadRecording, EmoError
from emo_llama_ros.recordings.playable import Playable, TimedFrames, looped
from emo_llama_ros.ros.camera_publisher import CameraPublisher
from emo_llama_ros.ros.environment import one_sentence
from emo_llama_ros.ros.player import ClockPublisher, Played, in_time
from emo_llama_ros.ros.process import init_ros
from emo_llama_ros.ros.transport import use_shipped_profile

NODE_NAME = "emo_llama_camera"
_PATIENCE_S = 3.0
"""How long the first frame waits for a subscriber."""
_JOIN_S = 2.0
_AGAIN_S = 0.5


@contextmanager
def camera_node(
    topic: str, namespace: str = "", more: Sequence[str] = (), name: str = NODE_NAME
) -> Iterator[tuple[Node, CameraPublisher]]:
    """Yield a node with a camera on the base topic `topic`; `more` are ROS arguments, such as remappings.

    Raises BadParameter for a name that is none, and for ROS arguments that cannot be read.
    """
    use_shipped_profile()
    context = rclpy.Context()
    init_ros(context=context)
    try:
        try:
            node = rclpy.create_node(
                name, namespace=namespace, context=context, use_global_arguments=False, start_parameter_services=False,
                cli_args=["--ros-args", "-r", f"__node:={name}", "-r", f"__ns:={namespace or '/'}", *more],
            )  # fmt: skip
        except Exception as error:  # rclpy has no common class for the arguments that it cannot read
            raise BadParameter(one_sentence(error)) from None
        try:
            yield node, _camera(node, topic)
        finally:
            node.destroy_node()
    finally:
        rclpy.try_shutdown(context=context)


def play(
    source: Playable,
    topic: str,
    over: threading.Event,
    rate: float = 1.0,
    loop: bool = False,
    clock: bool = False,
    on_start: Callable[[str], None] = lambda text: None,
    on_frame: Callable[[], None] = lambda: None,
) -> tuple[Played, CameraPublisher]:
    """Publish `source` on `topic` until its end or until `over` is set, stamped anew as the frames go out.

    With `clock` the recorded stamps are kept, and /clock tells the time to them. `on_start` hears one sentence on what
    is done and one when nobody listens.
    """
    frames = looped(source.open) if loop else source.open()
    first = next(frames, None)  # what cannot be read shows before anything is published
    if first is None:
        raise BadRecording(f"{source.name} holds no image that can be read.")
    played = Played()
    with camera_node(topic) as (node, camera):
        ticks = ClockPublisher(node) if clock else None
        on_start(f"Playing {source.name} on {camera.topic} and {camera.topic}/compressed.")
        if not _somebody_listens(camera, over):
            on_start(f"Nobody listens to {camera.topic} yet: start `emo_llama run` in another terminal.")
        for _, frame in in_time(itertools.chain([first], frames), rate, ticks, over, played):
            camera.publish(frame, frame.stamp_ns if clock else node.get_clock().now().nanoseconds)
            on_frame()
        if camera.published and not over.is_set():
            time.sleep(0.2)  # the last frames are still on their way
    return played, camera


@dataclass(slots=True)
class BesideCamera:
    """A camera in a thread of this process."""

    topic: str
    size: str
    failure: str = ""
    """Why it ended by itself, "" when it did not."""
    over: threading.Event = field(default_factory=threading.Event)


@contextmanager
def camera_beside(
    source: Playable,
    topic: str,
    namespace: str = "",
    more: Sequence[str] = (),
    on_end: Callable[[], None] | None = None,
) -> Iterator[BesideCamera]:
    """Publish `source` from a thread for as long as the context lasts.

    Raises BadRecording when it gives no first frame. Where it ends by itself, `failure` says why and `on_end` is
    called; without one, the main thread gets SIGINT.
    """
    frames = source.open()
    first = next(frames, None)
    if first is None:
        raise BadRecording(f"{source.name} gives no picture.")
    size = f"{first[1].width}×{first[1].height}"
    with camera_node(topic, namespace, more) as (node, camera):
        beside = BesideCamera(camera.topic, size)

        def run() -> None:
            failure = f"{source.name} gives no picture any more."
            try:
                _publish(source, itertools.chain([first], frames), node, camera, beside.over)
            except EmoError as error:
                failure = str(error)
            except Exception as error:  # a driver fails in its own ways
                failure = f"{source.name} failed: {' '.join(str(error).split())}"
            if not beside.over.is_set():
                beside.failure = failure
                _interrupt_main()
            while not beside.over.wait(_AGAIN_S):
                _interrupt_main()

        thread = threading.Thread(target=run, name="emo_llama camera", daemon=True)
        thread.start()
        try:
            yield beside
        finally:
            beside.over.set()
            thread.join(_JOIN_S)


def _publish(
    source: Playable, frames: TimedFrames | itertools.chain, node: Node, camera: CameraPublisher, over: threading.Event
) -> None:
    for _, frame in frames if source.live else in_time(frames, over=over):
        if over.is_set():
            return
        camera.publish(frame, frame.stamp_ns if source.live else node.get_clock().now().nanoseconds)


def _camera(node: Node, topic: str) -> CameraPublisher:
    try:
        return CameraPublisher(node, topic)
    except Exception as error:  # rclpy has no common class for its name errors
        reason = " ".join(str(error).split(":\n")[0].split())
        raise BadParameter(f"'{topic}' is no topic name: {reason}.") from None


def _somebody_listens(camera: CameraPublisher, over: threading.Event) -> bool:
    deadline = time.monotonic() + _PATIENCE_S
    while not camera.has_listener:
        if time.monotonic() > deadline or over.wait(0.02):
            return False
    return True


def _interrupt_main() -> None:
    number = threading.main_thread().ident
    if number is not None:
        signal.pthread_kill(number, signal.SIGINT)
