"""The process around the node: signals, autostart, exit code."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Sequence

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import remove_ros_args

from emo_llama_ros.errors import BadParameter, EmoError
from emo_llama_ros.ros.node import EmoLlamaNode
from emo_llama_ros.ros.shared_files import shared_file
from emo_llama_ros.ros.transport import keep_image_memory, use_shipped_profile

_LAST_WORDS_S = 0.2
_REMAPS = {"namespace": "__ns", "name": "__node"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run emo_llama_node until SIGINT, SIGTERM or its lifecycle shutdown; return the exit code.

    `arguments` are those of the command line without the program's name: --autostart configures and activates the node
    at once; everything between --ros-args and -- belongs to ROS.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="emo_llama_node", description="Displayed facial emotion from a camera topic.")
    parser.add_argument("--autostart", action="store_true", help="configure and activate the node at once")
    autostart = parser.parse_args(remove_ros_args(["emo_llama_node", *arguments])[1:]).autostart

    # rclpy's own handlers raise KeyboardInterrupt wherever the program happens to be, also inside the cleaning up.
    # These only set a flag, as often as signals come; the node spins in another thread.
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    transport = use_shipped_profile()
    keep_image_memory()
    rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = EmoLlamaNode()
    except (EmoError, ParameterException, ValueError) as error:
        print(f"emo_llama_node: {error}", file=sys.stderr)
        rclpy.try_shutdown()
        return 1
    node.get_logger().debug(transport)
    node.on_finished = over.set
    try:
        if autostart and not _activate(node):
            return 1
        _spin_until(over, node)
        return 0
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


def ros_arguments(arguments: Sequence[str], params_file: str = "") -> list[str]:
    """Return `arguments` of `emo_llama run` as ROS arguments.

    NAME:=VALUE before --ros-args sets a parameter, as it does for emo.launch.py; namespace and name are the node's.
    Without a `params_file` the shipped one is used. Raises BadParameter for an argument of another form.
    """
    given, rest = list(arguments), []
    if "--ros-args" in given:
        at = given.index("--ros-args")
        given, rest = given[:at], given[at + 1 :]
    found = ["--ros-args", "--params-file", params_file or str(shared_file("config", "emo.yaml"))]
    for argument in given:
        name, separator, value = argument.partition(":=")
        if not separator or not name.isidentifier():
            raise BadParameter(f"'{argument}' is not of the form name:=value.")
        found += ["-r", f"{_REMAPS[name]}:={value}"] if name in _REMAPS else ["-p", argument]
    return found + rest


def _activate(node: EmoLlamaNode) -> bool:
    success = TransitionCallbackReturn.SUCCESS
    return node.trigger_configure() is success and node.trigger_activate() is success


def _spin_until(over: threading.Event, node: EmoLlamaNode) -> None:
    executor = SingleThreadedExecutor()
    executor.add_node(node)

    def spin() -> None:
        try:
            executor.spin()
        except ExternalShutdownException:
            pass
        finally:
            over.set()  # whatever ends the spinning ends the process

    thread = threading.Thread(target=spin, name="emo_llama executor")
    thread.start()
    over.wait()
    # A lifecycle shutdown came by a service call, whose answer is still to be sent.
    thread.join(_LAST_WORDS_S)
    executor.shutdown(timeout_sec=1.0)
    thread.join()


if __name__ == "__main__":
    sys.exit(main())
