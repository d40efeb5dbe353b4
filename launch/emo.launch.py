"""Start emo_llama_node on one camera, configured and active. Every parameter of the node is a launch argument.

ros2 launch emo_llama_ros emo.launch.py image_topic:=/camera/image_raw
ros2 launch emo_llama_ros emo.launch.py namespace:=left image_topic:=/left/camera/image_raw   # one of several cameras
ros2 launch emo_llama_ros emo.launch.py --show-args                                           # all of them
"""

import sys
from pathlib import Path

from launch import LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    LogInfo,
    OpaqueFunction,
    SetEnvironmentVariable,
)
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode
from launch_ros.parameter_descriptions import ParameterValue

from emo_llama_ros.ros.launch_arguments import launch_arguments, node_start, split
from emo_llama_ros.ros.transport import profile_variable, use_shipped_profile


def generate_launch_description() -> LaunchDescription:
    declared = [
        DeclareLaunchArgument(argument.name, default_value=argument.default, description=argument.description)
        for argument in launch_arguments()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=_start)])


def _start(context: LaunchContext) -> list:
    values = {argument.name: LaunchConfiguration(argument.name).perform(context) for argument in launch_arguments()}
    start = node_start({**_typed(context), **values})
    # A text would be read as YAML once more, and "no" or "2" become something else.
    options = {n: ParameterValue(v, value_type=str) if isinstance(v, str) else v for n, v in start.options.items()}
    if start.use_sim_time is not None:
        options["use_sim_time"] = start.use_sim_time
    node = LifecycleNode(
        package="emo_llama_ros",
        executable="emo_llama_node",
        namespace=start.namespace,
        name=start.name,
        parameters=[str(start.params_file), *([options] if options else [])],
        # The node starts itself: a transition that launch asks for is lost when a killed node comes back while the
        # graph still shows the services of the dead one.
        arguments=[*(["--autostart"] if start.autostart else []), "--ros-args", "--log-level", start.log_level],
        respawn=start.respawn,
        respawn_delay=1.0,
        output="screen",
        emulate_tty=True,
    )
    return [*_transport(context, start.fastdds_profile), node]


def _typed(context: LaunchContext) -> dict:
    """Return the arguments that a person typed for this file: launch itself ignores those that nobody declares.

    A launch file that includes this one has arguments of its own, so they are taken only where this file was started.
    """
    name = Path(__file__).name
    started = any(Path(argument).name == name for argument in sys.argv)
    return split(argument for argument in context.argv if ":=" in argument) if started else {}


def _transport(context: LaunchContext, profile: str) -> list:
    if profile == "none":
        return []
    if profile:
        return [SetEnvironmentVariable(profile_variable(), profile)]
    variable = profile_variable()
    reason = use_shipped_profile(context.environment)
    shipped = context.environment.get(variable)
    return [*([SetEnvironmentVariable(variable, shipped)] if shipped else []), LogInfo(msg=reason)]
