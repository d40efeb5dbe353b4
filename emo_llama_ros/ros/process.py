"""The process around the node: signals, autostart, exit code."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Sequence

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import remove_ros_args

from emo_llama_ros.errors import EmoError, traceback_wanted
from emo_llama_ros.ros.environment import can_be_written, log_folder, one_sentence, wrong_domain
from emo_llama_ros.ros.executor import GuardedExecutor
from emo_llama_ros.ros.node import EmoLlamaNode
from emo_llama_ros.ros.transport import keep_image_memory, use_shipped_profile

_LAST_WORDS_S = 0.2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run emo_llama_node until SIGINT, SIGTERM or its lifecycle shutdown; return the exit code.

    `arguments` are those of the command line without the program's name: --autostart configures and activates the node
    at once; everything between --ros-args and -- belongs to ROS. The code is 0 after an end that was asked for, else 1,
    so that whoever watches over the process starts it again.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="emo_llama_node", description="Displayed facial emotion from a camera topic.")
    parser.add_argument("--autostart", action="store_true", help="configure and activate the node at once")
    try:
        autostart = parser.parse_args(remove_ros_args(["emo_llama_node", *arguments])[1:]).autostart
    except Exception as error:  # rclpy has no common class for the arguments that it cannot read
        return _refuse(error)

    # rclpy's own handlers raise KeyboardInterrupt wherever the program happens to be, also inside the cleaning up.
    # These only set a flag, as often as signals come; the node spins in another thread.
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    transport = use_shipped_profile()
    keep_image_memory()
    try:
        init_ros(arguments)
        node = EmoLlamaNode()
    except (EmoError, ParameterException, ValueError) as error:
        rclpy.try_shutdown()
        return _refuse(error)
    except Exception as error:  # rcl's: a domain that is no number, a name that is none, a middleware that fails
        rclpy.try_shutdown()
        return _refuse(error)
    node.get_logger().debug(transport)
    node.on_finished = over.set
    try:
        if autostart and not _activate(node):
            return 1
        return _spin_until(over, node)
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


def init_ros(arguments: Sequence[str] = (), context: rclpy.Context | None = None) -> None:
    """Start rclpy without its signal handlers, and without log files where there is no folder for them.

    Raises EmoError when ROS_DOMAIN_ID is no domain.
    """
    if problem := wrong_domain():
        raise EmoError(f"{problem}: set one.")
    arguments = list(arguments)
    folder = log_folder()
    if not can_be_written(folder):
        print(f"emo_llama_node: no log files are written: {folder} cannot be written to.", file=sys.stderr)
        arguments += ["--ros-args", "--disable-external-lib-logs"]
    rclpy.init(args=arguments, context=context, signal_handler_options=SignalHandlerOptions.NO)


def _refuse(error: object) -> int:
    if isinstance(error, Exception) and traceback_wanted():
        raise error
    print(f"emo_llama_node: {one_sentence(error)}", file=sys.stderr)
    return 1


def _activate(node: EmoLlamaNode) -> bool:
    success = TransitionCallbackReturn.SUCCESS
    return node.trigger_configure() is success and node.trigger_activate() is success


def _spin_until(over: threading.Event, node: EmoLlamaNode) -> int:
    """Spin until `over` is set; return the exit code: 1 when the executor itself died."""
    executor = GuardedExecutor(node.callback_errors.note)
    executor.add_node(node)
    died: list[Exception] = []

    def spin() -> None:
        try:
            executor.spin()
        except ExternalShutdownException:
            pass
        except Exception as error:
            if not over.is_set():
                died.append(error)
        finally:
            over.set()  # whatever ends the spinning ends the process

    thread = threading.Thread(target=spin, name="emo_llama executor")
    thread.start()
    over.wait()
    # A lifecycle shutdown came by a service call, whose answer is still to be sent.
    thread.join(_LAST_WORDS_S)
    executor.shutdown(timeout_sec=1.0)
    thread.join()
    return _refuse(f"The node stopped spinning: {one_sentence(died[0])}") if died else 0
