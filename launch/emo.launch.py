"""Start emo_llama_node on one camera, configured and active.

ros2 launch emo_llama_ros emo.launch.py image_topic:=/camera/image_raw
ros2 launch emo_llama_ros emo.launch.py namespace:=left image_topic:=/left/camera/image_raw   # one of several cameras
"""

from launch import LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    LogInfo,
    OpaqueFunction,
    SetEnvironmentVariable,
)
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode
from launch_ros.substitutions import FindPackageShare

from emo_llama_ros.ros.transport import profile_variable, use_shipped_profile

# Empty means: as the params_file says.
OVERRIDES = {
    "image_topic": "Camera topic.",
    "image_transport": "raw, or compressed to read <image_topic>/compressed.",
    "backend": "What reads the clips: emo_llama (language model), or expression (network alone).",
}


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription(
        [
            *[DeclareLaunchArgument(name, default_value="", description=text) for name, text in OVERRIDES.items()],
            DeclareLaunchArgument(
                "params_file",
                default_value=PathJoinSubstitution([FindPackageShare("emo_llama_ros"), "config", "emo.yaml"]),
                description="Parameter file; the shipped one lists every parameter.",
            ),
            DeclareLaunchArgument("namespace", default_value="", description="Namespace of the node and of /emotion."),
            DeclareLaunchArgument("name", default_value="emo_llama_node", description="Name of the node."),
            DeclareLaunchArgument("use_sim_time", default_value="false", description="Follow /clock, as with a bag."),
            DeclareLaunchArgument("respawn", default_value="false", description="Start the node again when it dies."),
            DeclareLaunchArgument("autostart", default_value="true", description="Configure and activate the node."),
            DeclareLaunchArgument("log_level", default_value="info", description="debug, info, warn or error."),
            DeclareLaunchArgument(
                "fastdds_profile",
                default_value="",
                description="Fast DDS profile for everything launched from here on; empty takes the shipped one for "
                "large images unless the environment names one, 'none' takes none.",
            ),
            OpaqueFunction(function=_start),
        ]
    )


def _start(context: LaunchContext) -> list:
    def value(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    level = value("log_level")
    overrides = {name: value(name) for name in OVERRIDES if value(name)}
    node = LifecycleNode(
        package="emo_llama_ros",
        executable="emo_llama_node",
        namespace=value("namespace"),
        name=value("name"),
        parameters=[value("params_file"), {**overrides, "use_sim_time": _is_true(value("use_sim_time"))}],
        # The node starts itself: a transition that launch asks for is lost when a killed node comes back while the
        # graph still shows the services of the dead one.
        arguments=[*(["--autostart"] if _is_true(value("autostart")) else []), "--ros-args", "--log-level", level],
        respawn=_is_true(value("respawn")),
        respawn_delay=1.0,
        output="screen",
        emulate_tty=True,
    )
    return [*_transport(context, value("fastdds_profile")), node]


def _transport(context: LaunchContext, profile: str) -> list:
    if profile == "none":
        return []
    if profile:
        return [SetEnvironmentVariable(profile_variable(), profile)]
    variable = profile_variable()
    reason = use_shipped_profile(context.environment)
    shipped = context.environment.get(variable)
    return [*([SetEnvironmentVariable(variable, shipped)] if shipped else []), LogInfo(msg=reason)]


def _is_true(text: str) -> bool:
    return text.lower() in ("true", "1", "yes", "on")
