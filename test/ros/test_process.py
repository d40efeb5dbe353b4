"""The node as its own process, with the real worker and the real networks: signals, deaths, exit codes."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from patience import PATIENCE_S

pytestmark = pytest.mark.usefixtures("ros", "fetched_networks")


class NodeProcess:
    def __init__(self, corner, repository, log, *arguments, autostart=True, environment=None):
        command = [sys.executable, "-m", "emo_llama_ros.ros.startup", *(["--autostart"] if autostart else [])]
        # These tests are about the process, so the light backend answers; what a test gives comes later and counts.
        arguments = ("-p", "backend:=expression", *arguments)
        self.corner = corner
        self.log = log  # a pipe that nobody reads would fill and hold the node up
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [*command, "--ros-args", "-r", f"__ns:={corner.namespace}", *arguments],
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join([str(repository), os.environ.get("PYTHONPATH", "")]),
                    **(environment or {}),
                },
            )

    def workers(self):
        with contextlib.suppress(psutil.NoSuchProcess):
            return [
                p for p in psutil.Process(self.process.pid).children() if "emo_llama_ros.engine.worker" in p.cmdline()
            ]
        return []

    def wait_ready(self, diagnostics, instead_of=None):
        """Wait until a worker, other than the one that is known to have ended, has its model; return it."""

        def ready():
            status = diagnostics("model")
            if status and status[2]["model state"] == "ready" and status[2]["lifecycle"] == "active":
                return [worker for worker in self.workers() if worker != instead_of]
            return []

        return self.corner.until(ready, "the model to be ready")[0]

    def read(self):
        """Return what the process and its workers have printed."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def wait_end(self):
        """Return (exit code, output)."""
        return self.process.wait(PATIENCE_S), self.read()

    def close(self):
        for process in [self.process, *self.workers()]:
            with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
                process.kill()
        self.process.wait(PATIENCE_S)
        print(self.read())


@pytest.fixture
def node(corner, repository, tmp_path):
    made = []

    def start(*arguments, **keywords):
        made.append(NodeProcess(corner, repository, tmp_path / f"node_{len(made)}.log", *arguments, **keywords))
        return made[-1]

    yield start
    for process in made:
        process.close()


def gone(worker):
    return not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE


def end(node, worker, deliver):
    deliver()
    code, output = node.wait_end()
    assert code == 0, output
    assert "Traceback" not in output
    assert gone(worker)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("target", ["node", "group"])
def test_a_signal_ends_node_and_worker_under_load(corner, node, number, target):
    """To the node alone as from systemd, or to the whole group, twice, as from an impatient Ctrl-C."""
    started = node()
    diagnostics = corner.diagnostics()
    camera = corner.camera()
    worker = started.wait_ready(diagnostics)
    for _ in range(10):
        camera.publish(corner.image(width=640, height=480))

    def deliver():
        if target == "node":
            os.kill(started.process.pid, number)
        else:
            os.killpg(started.process.pid, number)
            time.sleep(0.05)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(started.process.pid, number)

    if target == "group" and number == signal.SIGTERM:
        # Nobody shields the worker from a SIGTERM of its own; what counts is that the node ends well.
        deliver()
        code, output = started.wait_end()
        assert (code, gone(worker)) == (0, True), output
    else:
        end(started, worker, deliver)


def test_a_signal_while_the_model_loads_ends_it_too(corner, node):
    started = node()
    corner.until(started.workers, "the worker")
    (worker,) = started.workers()
    end(started, worker, lambda: os.kill(started.process.pid, signal.SIGTERM))


def test_lifecycle_shutdown_ends_the_process_and_is_answered(corner, node):
    started = node()
    worker = started.wait_ready(corner.diagnostics())
    end(started, worker, lambda: pytest.importorskip("rclpy") and corner.change_state("active_shutdown"))


def test_a_killed_worker_is_replaced_and_the_node_lives(corner, node):
    started = node()
    diagnostics = corner.diagnostics()
    worker = started.wait_ready(diagnostics)
    worker.kill()
    corner.until(lambda: gone(worker), "the worker's end")
    corner.until(lambda: diagnostics("model")[2]["worker restarts"] == "1", "the restart")
    newcomer = started.wait_ready(diagnostics, instead_of=worker)
    assert newcomer.pid != worker.pid
    assert corner.state() == "active"
    end(started, newcomer, lambda: os.kill(started.process.pid, signal.SIGINT))


def test_a_worker_that_hangs_is_an_error_and_is_replaced(corner, node):
    # On a busy machine a worker that is well may be silent for this long too, so that more than one may be replaced.
    started = node("-p", "worker_timeout_s:=3.0", "-p", "worker_max_restarts:=100")
    diagnostics = corner.diagnostics()
    worker = started.wait_ready(diagnostics)
    worker.suspend()
    assert corner.change_state("deactivate")
    corner.until(lambda: gone(worker), "the hung worker's end")
    assert corner.change_state("activate")
    worker = started.wait_ready(diagnostics, instead_of=worker)
    worker.suspend()
    corner.until(lambda: gone(worker), "the watchdog")
    corner.until(lambda: int(diagnostics("model")[2]["worker restarts"]) >= 1, "the restart to be counted")
    started.wait_ready(diagnostics, instead_of=worker)


def test_a_worker_that_dies_again_and_again_makes_the_node_inactive(corner, node):
    started = node("-p", "worker_max_restarts:=0")
    diagnostics = corner.diagnostics()
    worker = started.wait_ready(diagnostics)
    worker.kill()
    status = corner.until(lambda: (s := diagnostics("model")) and s[0] == b"\x02" and s, "the error")
    assert "activate the node to try again" in status[1]
    corner.until(lambda: corner.state() == "inactive", "the node to go inactive")
    assert corner.change_state("activate")
    started.wait_ready(diagnostics, instead_of=worker)


def test_no_worker_outlives_a_killed_node(corner, node):
    started = node()
    worker = started.wait_ready(corner.diagnostics())
    started.process.kill()
    corner.until(lambda: gone(worker), "the orphan's end")


def test_deactivate_frees_the_models_memory_and_activate_brings_it_back(corner, node):
    started = node()
    diagnostics = corner.diagnostics()
    worker = started.wait_ready(diagnostics)
    assert float(corner.until(lambda: diagnostics("model")[2], "memory")["worker memory MB"]) > 20
    assert corner.change_state("deactivate")
    corner.until(lambda: gone(worker), "the worker's memory to be freed")
    assert corner.change_state("activate")
    started.wait_ready(diagnostics, instead_of=worker)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("clip_s:=true", ["clip_s", "float"]),
        ("clip_s:=1000", ["clip_s", "between 0.1 and 30"]),
        ("clip_s:=[1.0, 2.0]", ["clip_s"]),
        ("image_topic:=/cam-1/image", ["image_topic", "/cam-1/image"]),
        ("image_topic:=''", ["image_topic is empty"]),
        ("image_converter:=cv_bridge", ["image_converter", "auto"]),
        ("calibration_file:=/etc/hostname", ["calibration_file", "JSON"]),
        ("expression_model:='~nosuchuser/x.onnx'", ["expression_model"]),
        ("deployment_context:=workplace", ["medical_or_safety_reason"]),
        ("models_folder:=/nowhere", ["emo_llama fetch"]),
        ("backend:=crystal_ball", ["backend", "expression"]),
    ],
)
def test_what_cannot_run_ends_with_a_sentence_and_code_1(node, setting, words):
    code, output = node("-p", setting).wait_end()
    assert code == 1
    assert "Traceback" not in output
    for word in words:
        assert word in output


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"ROS_DOMAIN_ID": "abc"}, ["ROS_DOMAIN_ID is 'abc'", "no number"]),
        ({"ROS_DOMAIN_ID": "-1"}, ["ROS_DOMAIN_ID is '-1'", "no number"]),
        ({"ROS_DOMAIN_ID": "999"}, ["ROS_DOMAIN_ID is '999'", "no number"]),
        ({"RMW_IMPLEMENTATION": "rmw_none_cpp"}, ["rmw_none_cpp", "not installed", "unset RMW_IMPLEMENTATION"]),
    ],
)
def test_a_ros_that_cannot_start_ends_with_a_sentence_and_code_1(node, environment, words):
    code, output = node(environment=environment).wait_end()
    assert code == 1
    assert "Traceback" not in output
    for word in words:
        assert word in output


def test_a_node_without_a_folder_for_log_files_runs_and_says_so(corner, node, tmp_path):
    nowhere = tmp_path / "file"
    nowhere.touch()
    cache = os.path.expanduser("~/.cache")
    environment = {"HOME": str(nowhere), "ROS_HOME": "", "ROS_LOG_DIR": "", "XDG_CACHE_HOME": cache}
    started = node(environment=environment)
    worker = started.wait_ready(corner.diagnostics())
    os.kill(started.process.pid, signal.SIGINT)
    code, output = started.wait_end()
    assert code == 0, output
    assert gone(worker)
    assert "no log files are written" in output
    assert "Traceback" not in output


def odd_parameters():
    """Parameter messages that rclpy's own services answer with an exception, or not at all."""
    from rcl_interfaces.msg import Parameter, ParameterValue

    kinds = [
        *(ParameterValue(type=kind) for kind in (0, 5, 6, 7, 8, 9, 10, 77, 255)),
        ParameterValue(type=2, integer_value=-(2**63)),
        ParameterValue(type=3, double_value=float("nan")),
        ParameterValue(type=3, double_value=float("inf")),
        ParameterValue(type=4, string_value="\x00\ud7ff" * 3),
        ParameterValue(type=9, string_array_value=["a"] * 1000),
    ]
    names = ("clip_s", "enabled", "max_faces", "use_sim_time", "", "nonsense", "a." * 200)
    return [Parameter(name=name, value=value) for name in names for value in kinds]


def test_nothing_that_arrives_ends_the_node_and_every_request_is_answered(corner, node):
    """What any peer on the network may send: parameters, times, transitions and names of no sense."""
    from lifecycle_msgs.msg import Transition
    from lifecycle_msgs.srv import ChangeState
    from rcl_interfaces.srv import (
        DescribeParameters,
        GetParameters,
        GetParameterTypes,
        ListParameters,
        SetParameters,
        SetParametersAtomically,
    )
    from rclpy.serialization import serialize_message
    from rosgraph_msgs.msg import Clock

    started = node("-p", "use_sim_time:=true", autostart=False)
    corner.until(lambda: corner.state() == "unconfigured", "the node")
    odd = odd_parameters()
    response = corner.call(SetParameters, "set_parameters", SetParameters.Request(parameters=odd))
    assert len(response.results) == len(odd)
    assert all(result.reason for result in response.results)
    assert not any(result.successful for result in response.results)
    response = corner.call(
        SetParametersAtomically, "set_parameters_atomically", SetParametersAtomically.Request(parameters=odd[:20])
    )
    assert not response.result.successful
    for service, request in (("get_parameters", GetParameters), ("get_parameter_types", GetParameterTypes),
                             ("describe_parameters", DescribeParameters)):  # fmt: skip
        corner.call(request, service, request.Request(names=["", "no such", "clip_s", "\n" * 9]))
    corner.call(ListParameters, "list_parameters", ListParameters.Request(prefixes=["", "..", "x" * 999], depth=2**63))

    for label, number in (("", 250), ("nonsense", 1), ("transition_error", 0), ("", Transition.TRANSITION_ACTIVATE)):
        request = ChangeState.Request(transition=Transition(id=number, label=label))
        response = corner.call(ChangeState, "change_state", request)
        assert not response.success
    assert corner.state() == "unconfigured"

    clock = corner.helper.create_publisher(Clock, "/clock", 10)
    negative = Clock()
    negative.clock.sec = -5
    good = serialize_message(negative)
    diagnostics = corner.diagnostics()

    def warned():
        for data in (good, good[:3], b"\x00\x03" + good[2:], b""):
            clock.publish(data)
        return (status := diagnostics("node")) and status[0] == b"\x01" and "/clock" in status[1]

    corner.until(warned, "the warning about /clock")
    assert corner.state() == "unconfigured"
    corner.helper.destroy_publisher(clock)
    os.kill(started.process.pid, signal.SIGINT)
    code, output = started.wait_end()
    assert code == 0, output
    assert "Traceback" not in output
    assert "A message on /clock was left unanswered or ignored" in output


def test_a_node_that_dies_ends_with_code_1_and_a_sentence(repository):
    """A dead middleware cannot be made here, so the executor's own waiting raises in its place."""
    program = """
import sys
from emo_llama_ros.ros import executor, process
def broken(self, **keywords):
    raise RuntimeError("the middleware is gone")
executor.GuardedExecutor.wait_for_ready_callbacks = broken
sys.exit(process.main([]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE_S, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(repository), os.environ.get("PYTHONPATH", "")])},
    )  # fmt: skip
    assert done.returncode == 1
    assert "The node stopped spinning: the middleware is gone." in done.stderr
    assert "Traceback" not in done.stderr


def test_the_console_tells_loading_ready_and_observing_in_this_order_and_each_trouble_once(corner, node):
    started = node("-p", "camera_timeout_s:=0.3", "-p", "image_topic:=nobody/image")
    camera = corner.camera("front/image_raw")
    diagnostics = corner.diagnostics()
    worker = started.wait_ready(diagnostics)
    corner.until(lambda: "image_topic:=" in diagnostics("camera")[1], "the camera's warning")
    worker.kill()
    corner.until(lambda: diagnostics("model")[2]["worker restarts"] == "1", "the restart")
    started.wait_ready(diagnostics, instead_of=worker)
    os.kill(started.process.pid, signal.SIGINT)
    code, output = started.wait_end()
    corner.helper.destroy_publisher(camera)
    assert code == 0
    places = [output.index(word) for word in ("Loading the model", "Model ready", "Observing displayed expressions")]
    assert places == sorted(places)
    assert output.count("0 publishers: there is") == 1
    assert f"set image_topic:={corner.name('front/image_raw')} image_transport:=raw" in output
    assert output.count("model: ") >= 1
    assert "killed, perhaps for lack of memory" in output


def test_a_misspelt_parameter_is_warned_of(corner, node):
    started = node("-p", "lable_rate_hz:=5.0", autostart=False)
    corner.until(lambda: corner.state() == "unconfigured", "the node")
    os.kill(started.process.pid, signal.SIGINT)
    code, output = started.wait_end()
    assert code == 0
    assert "There is no parameter 'lable_rate_hz'; did you mean 'label_rate_hz'?" in output


def test_whole_numbers_are_taken_for_doubles_from_the_command_line_and_by_service(corner, node):
    from rcl_interfaces.msg import ParameterType
    from rcl_interfaces.srv import GetParameterTypes

    started = node("-p", "clip_s:=3", autostart=False)
    corner.until(lambda: corner.state() == "unconfigured", "the node")
    assert corner.parameter("clip_s") == 3.0
    assert corner.set_parameter("label_rate_hz", 4).successful
    assert corner.parameter("label_rate_hz") == 4.0
    request = GetParameterTypes.Request(names=["clip_s", "label_rate_hz"])
    types = corner.call(GetParameterTypes, "get_parameter_types", request)
    assert list(types.types) == [ParameterType.PARAMETER_DOUBLE] * 2
    refused = corner.set_parameter("clip_s", 1000)
    assert not refused.successful
    assert "clip_s" in refused.reason
    assert not corner.set_parameter("max_faces", 2.5).successful
    os.kill(started.process.pid, signal.SIGINT)
    assert started.wait_end()[0] == 0
