"""The one sentence that users get where ROS 2 is needed and missing."""

from __future__ import annotations

import importlib.util

from emo_llama_ros.errors import MissingDependency
from emo_llama_ros.ros.transport import missing_middleware


def require_ros() -> None:
    """Raise MissingDependency when rclpy or the generated messages cannot be imported.

    Imports neither: a middleware that is missing ends the process that imports rclpy.
    """
    if importlib.util.find_spec("rclpy") is None:
        raise MissingDependency(
            "This needs ROS 2, and this Python has no rclpy: source /opt/ros/<distro>/setup.bash, or run `make setup` "
            "in the repository, which brings ROS 2 as wheels into .venv."
        )
    problem = missing_middleware()
    if problem:
        raise MissingDependency(problem)
    if importlib.util.find_spec("emo_llama_ros.msg") is None:
        raise MissingDependency(
            "The messages of emo_llama_ros are not built: build the package with colcon and source its setup.bash, "
            "or run `make setup` in the repository."
        )
