"""How fast the node's services answer whatever its worker does, beside those of a bare rclpy node in the same run.

python benchmarks/services.py [--quick] [--calls N]

Each state of the worker in turn: idle, reading a video at 30 Hz, stopped by SIGSTOP, and flooded with questions of a
megabyte. Called are get_state and a parameter that changes at once, N times each, and then deactivate and activate,
once; at last the node is ended by SIGINT. The bare node only answers a parameter. The last line is one JSON object; the
limit is 200 ms for a service and 2 s for the end.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psutil
from camera_stream import machine
from node_overhead import TOPIC, Diagnostics, camera, use_own_graph
from rich.console import Console
from rich.table import Table

LIMITS = {"service_ms_max": 200.0, "end_s": 2.0}
NODE = "emo_llama_node"
BARE = """
import rclpy
rclpy.init()
node = rclpy.create_node("bare")
node.declare_parameter("enabled", True)
print("ready", flush=True)
rclpy.spin(node)
"""
QUESTION = "why? " * 200_000


class Caller:
    """Calls services and waits for their answers."""

    def __init__(self) -> None:
        import rclpy
        from rclpy.executors import SingleThreadedExecutor

        self._context = rclpy.Context()
        rclpy.init(context=self._context)
        self._node = rclpy.create_node("caller", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._executor.spin)
        self._thread.start()
        self._clients: dict[str, Any] = {}

    def close(self) -> None:
        """End the thread."""
        self._executor.shutdown(timeout_sec=1.0)
        self._thread.join()
        self._node.destroy_node()
        self._context.shutdown()

    def ms(self, kind: Any, name: str, request: Any, succeeded: Callable[[Any], bool] = lambda _: True) -> float:
        """Return the milliseconds until a service has answered; end the benchmark where it did not do what it should.

        A refusal would be quick, and no measure of anything.
        """
        if name not in self._clients:
            client = self._clients[name] = self._node.create_client(kind, name)
            if not client.wait_for_service(timeout_sec=30):
                raise SystemExit(f"There is no service {name}.")
        start = time.perf_counter()
        answered = threading.Event()
        future = self._clients[name].call_async(request)
        future.add_done_callback(lambda _: answered.set())
        if not answered.wait(60):
            raise SystemExit(f"{name} did not answer within a minute.")
        took_ms = 1e3 * (time.perf_counter() - start)
        if not succeeded(future.result()):
            raise SystemExit(f"{name} refused what was asked of it.")
        return took_ms

    def parameter(self, node: str, value: bool) -> float:
        """Set `enabled` of a node."""
        from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
        from rcl_interfaces.srv import SetParameters

        wanted = ParameterValue(type=ParameterType.PARAMETER_BOOL, bool_value=value)
        request = SetParameters.Request(parameters=[Parameter(name="enabled", value=wanted)])
        return self.ms(SetParameters, f"/{node}/set_parameters", request, lambda answer: answer.results[0].successful)

    def state(self) -> float:
        """Ask for the node's state."""
        from lifecycle_msgs.srv import GetState

        return self.ms(GetState, f"/{NODE}/get_state", GetState.Request())

    def change(self, transition: int) -> float:
        """Ask for a lifecycle transition."""
        from lifecycle_msgs.msg import Transition
        from lifecycle_msgs.srv import ChangeState

        request = ChangeState.Request(transition=Transition(id=transition))
        return self.ms(ChangeState, f"/{NODE}/change_state", request, lambda answer: answer.success)

    @contextmanager
    def questions(self) -> Iterator[None]:
        """Ask questions of a megabyte, one after the other, until the block ends."""
        from emo_llama_ros.action import AskEmotion
        from rclpy.action import ActionClient

        asking = ActionClient(self._node, AskEmotion, f"/{NODE}/ask")
        asking.wait_for_server(timeout_sec=30)
        over = threading.Event()

        def flood() -> None:
            while not over.wait(0.2):
                asking.send_goal_async(AskEmotion.Goal(question=QUESTION))

        thread = threading.Thread(target=flood)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def measure(caller: Caller, calls: int) -> dict[str, float]:
    """Return the slowest answer of each kind, in milliseconds."""
    from lifecycle_msgs.msg import Transition

    kinds: dict[str, Callable[[], float]] = {
        "get_state": caller.state,
        "parameter": lambda: caller.parameter(NODE, True),
        "deactivate": lambda: caller.change(Transition.TRANSITION_DEACTIVATE),
        "activate": lambda: caller.change(Transition.TRANSITION_ACTIVATE),
    }
    times: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(calls):
        for name in ("get_state", "parameter"):
            times[name].append(kinds[name]())
        time.sleep(0.05)
    for name in ("deactivate", "activate"):
        times[name].append(kinds[name]())
    return {name: round(max(values), 2) for name, values in times.items()}


def bare(caller: Caller, calls: int) -> dict[str, float]:
    """Return the slowest answer of a node that has nothing else to do."""
    process = subprocess.Popen([sys.executable, "-c", BARE], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        return {"parameter": round(max(caller.parameter("bare", True) for _ in range(calls)), 2)}
    finally:
        process.kill()
        process.communicate()


def measure_states(caller: Caller, diagnostics: Diagnostics, calls: int) -> tuple[dict[str, dict[str, float]], float]:
    """Return the slowest answers of each state, in milliseconds, and the seconds that the node took to end."""
    from emo_llama_ros.install.fetch import media_file
    from emo_llama_ros.ros.live_replay import running_node

    def ready() -> None:
        diagnostics.values.clear()
        diagnostics.wait("model", "model state", "ready")

    rows = {"bare node": bare(caller, calls)}
    with (
        tempfile.TemporaryDirectory() as folder,
        running_node({"image_topic": TOPIC, "backend": "expression"}, Path(folder) / "node.log") as process,
    ):
        node = psutil.Process(process.pid)
        ready()
        rows["idle"] = measure(caller, calls)
        ready()
        with camera((640, 480), 600, media_file("single_face.mp4")):
            time.sleep(3)
            rows["a face at 30 Hz"] = measure(caller, calls)
            ready()
            time.sleep(2)
            for worker in node.children():
                worker.send_signal(signal.SIGSTOP)
            rows["worker stopped"] = measure(caller, calls)
            ready()
            with caller.questions():
                rows["questions of 1 MB"] = measure(caller, calls)
            ready()
            start = time.perf_counter()
            node.send_signal(signal.SIGINT)
            process.wait(60)
            return rows, time.perf_counter() - start


def main() -> None:
    """Measure, print a table, then JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer calls, about 30 s")
    parser.add_argument("--calls", type=int, default=100, help="calls of get_state and of the parameter in each state")
    arguments = parser.parse_args()
    calls = 20 if arguments.quick else arguments.calls
    use_own_graph()
    with closing(Caller()) as caller, closing(Diagnostics()) as diagnostics:
        rows, end_s = measure_states(caller, diagnostics, calls)
    table = Table("slowest answer, ms", *rows["idle"])
    for name, values in rows.items():
        table.add_row(name, *(f"{values[kind]:.1f}" if kind in values else "–" for kind in rows["idle"]))
    Console().print(table)
    worst = max(v for name, values in rows.items() if name != "bare node" for v in values.values())
    result = {
        "calls": calls, "states": rows, "service_ms_max": worst, "end_s": round(end_s, 2), "limits": LIMITS,
        "parameter_vs_bare": round(rows["a face at 30 Hz"]["parameter"] / rows["bare node"]["parameter"], 2),
        "within_limits": worst <= LIMITS["service_ms_max"] and end_s <= LIMITS["end_s"], **machine(),
    }  # fmt: skip
    print(json.dumps(result))


if __name__ == "__main__":
    main()
