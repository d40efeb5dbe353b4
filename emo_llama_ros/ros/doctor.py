"""The doctor's look at ROS: installation, middleware, cameras in the graph."""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Iterator

import rclpy
from rclpy.node import Node
from rclpy.qos import ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions

from emo_llama_ros.install.doctor import Finding, Level
from emo_llama_ros.options import Options
from emo_llama_ros.ros.shared_files import PACKAGE, shared_file
from emo_llama_ros.ros.transport import use_shipped_profile

_KINDS = {"sensor_msgs/msg/Image": "raw", "sensor_msgs/msg/CompressedImage": "compressed"}


def ros_findings(options: Options, seconds: float = 2.0) -> Iterator[Finding]:
    """Look at ROS, and listen to the graph for `seconds`."""
    distribution = os.environ.get("ROS_DISTRO") or "from wheels"
    yield Finding(Level.OK, "ROS 2", f"{distribution}, domain {os.environ.get('ROS_DOMAIN_ID', '0')}")
    yield _installation()
    yield _launch()
    rclpy_context = rclpy.Context()
    yield Finding(Level.OK, "DDS", use_shipped_profile())
    rclpy.init(context=rclpy_context, signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node("emo_llama_doctor", context=rclpy_context, use_global_arguments=False)
    try:
        middleware = rclpy.utilities.get_rmw_implementation_identifier()
        yield Finding(Level.OK, "middleware", middleware)
        time.sleep(seconds)  # discovery goes on in the middleware's own threads
        yield from _cameras(node, options)
    finally:
        node.destroy_node()
        rclpy.try_shutdown(context=rclpy_context)


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


def _cameras(node: Node, options: Options) -> Iterator[Finding]:
    found = {name: kinds[0] for name, kinds in node.get_topic_names_and_types() if kinds[0] in _KINDS}
    published = {name: kind for name, kind in found.items() if node.count_publishers(name)}
    if not published:
        yield Finding(
            Level.WARN, "cameras", "no image topic in the graph",
            "start the camera driver; on another machine, check ROS_DOMAIN_ID and the network",
        )  # fmt: skip
        return
    suffix = "/compressed" if options.image_transport == "compressed" else ""
    wanted = node.resolve_topic_name(options.image_topic + suffix)
    for name, kind in sorted(published.items()):
        yield from (_camera(node, name, _KINDS[kind], options))
    if wanted not in published:
        yield Finding(
            Level.WARN, "cameras", f"nobody publishes {wanted}",
            f"set image_topic (and image_transport), for example image_topic:={min(published)}",
        )  # fmt: skip


def _camera(node: Node, topic: str, transport: str, options: Options) -> Iterator[Finding]:
    for publisher in node.get_publishers_info_by_topic(topic):
        offers = publisher.qos_profile.reliability.name.lower()
        who = f"{publisher.node_namespace.rstrip('/')}/{publisher.node_name}"
        subject = f"{topic} ({transport})"
        found = f"{who} offers {offers}, this node asks for {options.input_reliability}"
        refused = (
            options.input_reliability == "reliable"
            and publisher.qos_profile.reliability is ReliabilityPolicy.BEST_EFFORT
        )
        if refused:
            yield Finding(Level.FAIL, subject, found, "set input_reliability to best_effort")
        else:
            yield Finding(Level.OK, subject, found)
