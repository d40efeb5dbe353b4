"""What `emo_llama doctor` finds out about ROS: installation, middleware, cameras in the graph."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from emo_llama_ros.errors import EmoError
from emo_llama_ros.findings import Finding, Level
from emo_llama_ros.options import Options
from emo_llama_ros.ros.environment import wrong_domain
from emo_llama_ros.ros.shared_files import PACKAGE, shared_file
from emo_llama_ros.ros.transport import missing_middleware, use_shipped_profile

if TYPE_CHECKING:  # rclpy may be what is broken
    from rclpy.node import Node

_START_S = 60.0
_START = "import rclpy; rclpy.init(args=['--ros-args', '--disable-external-lib-logs']); rclpy.shutdown()"


def ros_findings(options: Options, seconds: float = 2.0) -> Iterator[Finding]:
    """Look at ROS, and listen to the graph for `seconds`. What fails is a finding, and the others follow."""
    distribution = os.environ.get("ROS_DISTRO") or "from wheels"
    problem = wrong_domain()
    if not problem:
        yield Finding(Level.OK, "ROS 2", f"{distribution}, domain {os.environ.get('ROS_DOMAIN_ID') or '0'}")
    else:
        yield Finding(
            Level.FAIL, "ROS 2", f"{distribution}, but {problem}", "set it to the robot's domain, or unset it"
        )
        os.environ.pop("ROS_DOMAIN_ID")  # so that what follows can be looked at
    yield _installation()
    yield _launch()
    yield _log_folder()
    yield Finding(Level.OK, "DDS", use_shipped_profile())
    problem = missing_middleware() or _start_apart()
    if problem:
        yield Finding(Level.FAIL, "middleware", problem, "the node cannot start before that is repaired")
        return
    yield from _graph(options, seconds)


def _start_apart() -> str:
    """Return why rclpy does not start, "" when it does. In a process of its own, because rcl may end the process."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _START], capture_output=True, text=True, timeout=_START_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return f"rclpy did not start within {_START_S:g} s."
    if done.returncode == 0:
        return ""
    from emo_llama_ros.ros.environment import one_sentence

    return one_sentence((done.stderr.strip().splitlines() or [f"rclpy ended with exit code {done.returncode}"])[-1])


def _graph(options: Options, seconds: float) -> Iterator[Finding]:
    import rclpy

    from emo_llama_ros.ros.process import init_ros

    context = rclpy.Context()
    init_ros(context=context)
    node = rclpy.create_node("emo_llama_doctor", context=context, use_global_arguments=False)
    try:
        yield Finding(Level.OK, "middleware", rclpy.utilities.get_rmw_implementation_identifier())
        time.sleep(seconds)  # discovery goes on in the middleware's own threads
        yield from _cameras(node, options)
    finally:
        node.destroy_node()
        rclpy.try_shutdown(context=context)


def _installation() -> Finding:
    if importlib.util.find_spec(f"{PACKAGE}.msg") is None:
        return Finding(
            Level.FAIL, "messages", "not built", "build the package with colcon, or `make setup` in the repository"
        )
    from ament_index_python.packages import get_package_prefix

    try:
        return Finding(Level.OK, "package", f"installed in {get_package_prefix(PACKAGE)}")
    except (LookupError, OSError):
        return Finding(
            Level.WARN, "package", "not in the ament index, so `ros2 run` and `ros2 launch` do not find it",
            "source install/setup.bash, or for a virtual environment: export AMENT_PREFIX_PATH=$VIRTUAL_ENV",
        )  # fmt: skip


def _launch() -> Finding:
    if importlib.util.find_spec("launch_ros") is None:
        return Finding(Level.OK, "launch", "launch_ros is not installed: start the node with `emo_llama run`")
    return Finding(Level.OK, "launch", f"ros2 launch {PACKAGE} {shared_file('launch', 'emo.launch.py').name}")


def _log_folder() -> Finding:
    from emo_llama_ros.ros.environment import can_be_written, log_folder

    folder = log_folder()
    if can_be_written(folder):
        return Finding(Level.OK, "log files", str(folder))
    return Finding(
        Level.WARN, "log files", f"{folder} cannot be written to, so the node logs to the console alone",
        "set ROS_LOG_DIR to a folder that can be written to",
    )  # fmt: skip


def _cameras(node: Node, options: Options) -> Iterator[Finding]:
    from emo_llama_ros.ros.camera import TYPES, camera_topic, how_to_read, image_topics
    from emo_llama_ros.ros.diagnostics import advice_on_topic

    try:
        wanted = camera_topic(node, options)
    except EmoError as error:
        yield Finding(Level.FAIL, "image_topic", str(error), "set image_topic to the camera's topic")
        return
    published = image_topics(node)
    for topic, transport in sorted(published.items()):
        yield from _camera(node, topic, transport, options, topic == wanted)
    others = {p.topic_type for p in node.get_publishers_info_by_topic(wanted)}
    if published.get(wanted) == options.image_transport or TYPES[options.image_transport] in others:
        return
    if others:
        read = TYPES[options.image_transport]
        found = f"{wanted} carries {', '.join(sorted(others))}, but image_transport is {options.image_transport}, "
        advice = f"set {how_to_read(wanted, published[wanted])}" if wanted in published else "set image_topic"
        yield Finding(Level.FAIL, "cameras", f"{found}which reads {read}", advice)
    elif published:
        advice = advice_on_topic(wanted, published)
        yield Finding(Level.WARN, "cameras", f"nobody publishes {wanted}", advice)
    else:
        yield Finding(
            Level.WARN, "cameras", "no image topic in the graph",
            "start the camera driver; on another machine, check ROS_DOMAIN_ID and the network",
        )  # fmt: skip


def _camera(node: Node, topic: str, transport: str, options: Options, wanted: bool) -> Iterator[Finding]:
    """Say what each publisher of an image topic offers; how that fits counts for the topic that the node reads."""
    from emo_llama_ros.ros.camera import TYPES

    for publisher in node.get_publishers_info_by_topic(topic):
        if publisher.topic_type != TYPES[transport]:
            continue
        offers = publisher.qos_profile.reliability.name.lower()
        who = f"{publisher.node_namespace.rstrip('/')}/{publisher.node_name}"
        subject = f"{topic} ({transport})"
        if not wanted or transport != options.image_transport:
            yield Finding(Level.OK, subject, f"{who} offers {offers}; not what image_topic and image_transport name")
            continue
        asks = options.input_reliability
        found = f"{who} offers {offers}, this node {'follows that' if asks == 'auto' else f'asks for {asks}'}"
        if asks == "reliable" and offers == "best_effort":
            yield Finding(Level.FAIL, subject, found, "set input_reliability to auto or best_effort")
        else:
            yield Finding(Level.OK, subject, found)
