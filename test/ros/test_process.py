"""The node as its own process, with the real worker and the real networks: signals, deaths, exit codes."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

pytestmark = pytest.mark.usefixtures("ros", "fetched_networks")

END_S = 2.0


class NodeProcess:
    def __init__(self, corner, repository, *arguments, autostart=True):
        command = [sys.executable, "-m", "emo_llama_ros.ros.process", *(["--autostart"] if autostart else [])]
        self.corner = corner
        self.process = subprocess.Popen(
            [*command, "--ros-args", "-r", f"__ns:={corner.namespace}", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(repository), os.environ.get("PYTHONPATH", "")])},
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

        return self.corner.until(ready, "the model to be ready", 30.0)[0]

    def wait_end(self, seconds=10.0):
        """Return (exit code, seconds it took, output)."""
        started = time.monotonic()
        output, _ = self.process.communicate(timeout=seconds)
        return self.process.returncode, time.monotonic() - started, output

    def close(self):
        for process in [self.process, *self.workers()]:
            with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
                process.kill()
        with contextlib.suppress(ValueError):  # read to the end before
            print(self.process.communicate()[0])


@pytest.fixture
def node(corner, repository):
    made = []

    def start(*arguments, **keywords):
        made.append(NodeProcess(corner, repository, *arguments, **keywords))
        return made[-1]

    yield start
    for process in made:
        process.close()


def gone(worker):
    return not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE


def end(node, worker, deliver):
    deliver()
    code, took, output = node.wait_end()
    assert code == 0, output
    assert took < END_S, output
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
        code, took, output = started.wait_end()
        assert (code, took < END_S, gone(worker)) == (0, True, True), output
    else:
        end(started, worker, deliver)


def test_a_signal_while_the_model_loads_ends_it_too(corner, node):
    started = node()
    corner.until(started.workers, "the worker", 20.0)
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
    started = node("-p", "worker_timeout_s:=1.0")
    diagnostics = corner.diagnostics()
    worker = started.wait_ready(diagnostics)
    worker.suspend()
    success, took = corner.change_state("deactivate")
    assert success
    assert took < 0.7, "a hung worker takes 1.5 s to be given up"
    corner.until(lambda: gone(worker), "the hung worker's end", 5.0)
    assert corner.change_state("activate")[0]
    worker = started.wait_ready(diagnostics, instead_of=worker)
    worker.suspend()
    corner.until(lambda: diagnostics("model")[2]["worker restarts"] == "1", "the watchdog", 10.0)
    corner.until(lambda: gone(worker), "the hung worker's end")
    started.wait_ready(diagnostics, instead_of=worker)


def test_a_worker_that_dies_again_and_again_makes_the_node_inactive(corner, node):
    started = node("-p", "worker_max_restarts:=0")
    diagnostics = corner.diagnostics()
    worker = started.wait_ready(diagnostics)
    worker.kill()
    status = corner.until(lambda: (s := diagnostics("model")) and s[0] == b"\x02" and s, "the error")
    assert "activate the node to try again" in status[1]
    corner.until(lambda: corner.state() == "inactive", "the node to go inactive")
    assert corner.change_state("activate")[0]
    started.wait_ready(diagnostics, instead_of=worker)


def test_no_worker_outlives_a_killed_node(corner, node):
    started = node()
    worker = started.wait_ready(corner.diagnostics())
    started.process.kill()
    corner.until(lambda: gone(worker), "the orphan's end", 5.0)


def test_deactivate_frees_the_models_memory_and_activate_brings_it_back(corner, node):
    started = node()
    diagnostics = corner.diagnostics()
    worker = started.wait_ready(diagnostics)
    assert float(corner.until(lambda: diagnostics("model")[2], "memory")["worker memory MB"]) > 20
    assert corner.change_state("deactivate")[0]
    corner.until(lambda: gone(worker), "the worker's memory to be freed", 3.0)
    assert corner.change_state("activate")[0]
    started.wait_ready(diagnostics, instead_of=worker)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("clip_s:=2", ["clip_s"]),
        ("clip_s:=1000.0", ["clip_s"]),
        ("deployment_context:=workplace", ["medical_or_safety_reason"]),
        ("models_folder:=/nowhere", ["emo_llama fetch"]),
        ("backend:=crystal_ball", ["backend", "expression"]),
    ],
)
def test_what_cannot_run_ends_with_a_sentence_and_code_1(node, setting, words):
    code, _, output = node("-p", setting).wait_end(20.0)
    assert code == 1
    assert "Traceback" not in output
    for word in words:
        assert word in output


def test_a_misspelt_parameter_is_warned_of(corner, node):
    started = node("-p", "lable_rate_hz:=5.0", autostart=False)
    corner.until(lambda: corner.state() == "unconfigured", "the node", 20.0)
    os.kill(started.process.pid, signal.SIGINT)
    code, _, output = started.wait_end()
    assert code == 0
    assert "There is no parameter 'lable_rate_hz'" in output
