"""A private corner of the ROS graph for each test: own domain per process, own namespace per test."""

import contextlib
import itertools
import os
import threading
import time

import pytest
from patience import PATIENCE_S

# Read when the first participant is made. Other test runs on this machine, and robots beside it, stay unheard.
os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 100)
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
# Humble knows only this one, and Jazzy warns of it in every process.
os.environ.pop("ROS_LOCALHOST_ONLY", None)
if os.environ.get("ROS_DISTRO") == "humble":
    os.environ["ROS_LOCALHOST_ONLY"] = "1"

_names = itertools.count()


@pytest.fixture(scope="session")
def until():
    """Wait for `condition()` to become true and return its value; fail in the end, saying `what` was awaited."""

    def wait(condition, what):
        deadline = time.monotonic() + PATIENCE_S
        while not (value := condition()):
            assert time.monotonic() < deadline, f"waited {PATIENCE_S:g} s in vain for {what}"
            time.sleep(0.005)
        return value

    return wait


@pytest.fixture(scope="session")
def ros():
    """rclpy, initialised once; skips where ROS 2 or the generated messages are missing."""
    rclpy = pytest.importorskip("rclpy", reason="needs ROS 2 (rclpy)")
    pytest.importorskip("emo_llama_ros.msg", reason="needs the generated messages: pip install or colcon build")
    from emo_llama_ros.ros.transport import use_shipped_profile

    use_shipped_profile()
    rclpy.init()
    yield rclpy
    rclpy.try_shutdown()


class Corner:
    """A namespace with one helper node; everything in it spins in threads of its own."""

    def __init__(self, rclpy, until):
        self.rclpy = rclpy
        self.until = until
        self.namespace = f"/t{os.getpid()}_{next(_names)}"
        self._spinning = []
        self._clients = {}
        self._nodes = []
        self.helper = rclpy.create_node("helper", namespace=self.namespace, use_global_arguments=False)
        self.spin(self.helper)

    def spin(self, node):
        from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor

        executor = SingleThreadedExecutor()
        executor.add_node(node)

        def run():
            with contextlib.suppress(ExternalShutdownException):
                executor.spin()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        self._spinning.append((node, executor, thread))

    def stop(self, node):
        for entry in [e for e in self._spinning if e[0] is node]:
            _, executor, thread = entry
            executor.shutdown(timeout_sec=PATIENCE_S)
            thread.join(PATIENCE_S)
            assert not thread.is_alive()
            node.destroy_node()
            self._spinning.remove(entry)

    def close(self):
        for node, *_ in reversed(list(self._spinning)):
            self.stop(node)

    # --- the node under test ---

    def emo_llama_node(self, make_engine=None, clock=None, **values):
        """Start an unconfigured emo_llama_node with these parameters.

        Unless they name a backend, a real engine runs the light one: these tests are about the node.
        """
        from rclpy.parameter import Parameter

        from emo_llama_ros.engine.make import make_engine as real
        from emo_llama_ros.ros.node import EmoLlamaNode

        if make_engine is None:
            values.setdefault("backend", "expression")
        node = EmoLlamaNode(
            make_engine or real,
            namespace=self.namespace,
            use_global_arguments=False,
            parameter_overrides=[Parameter(name, value=value) for name, value in values.items()],
        )
        self.spin(node)
        self._nodes.append(node)
        return node

    # --- talking to it, as everybody else would ---

    def name(self, relative):
        return f"{self.namespace}/{relative}"

    def call(self, service_type, service, request):
        """Call a service of the node under test; return its response."""
        if service not in self._clients:
            name = self.name(f"emo_llama_node/{service}")
            client = self._clients[service] = self.helper.create_client(service_type, name)
            assert client.wait_for_service(timeout_sec=PATIENCE_S), f"no service {service}"
            self.wait_matched(name)
        future = self._clients[service].call_async(request)
        self.until(future.done, f"the answer of {service}")
        return future.result()

    def wait_matched(self, service_name):
        """Wait until nodes under test in this process see a client: before that, Fast DDS may drop their answers."""
        for node in self._nodes:
            if hasattr(node, "count_clients"):
                self.until(lambda node=node: node.count_clients(service_name), f"a match on {service_name}")

    def change_state(self, transition):
        """Ask for a lifecycle transition by name; return whether it succeeded."""
        from lifecycle_msgs.msg import Transition
        from lifecycle_msgs.srv import ChangeState

        number = getattr(Transition, f"TRANSITION_{transition.upper()}")
        return self.call(ChangeState, "change_state", ChangeState.Request(transition=Transition(id=number))).success

    def state(self):
        from lifecycle_msgs.srv import GetState

        return self.call(GetState, "get_state", GetState.Request()).current_state.label

    def set_parameter(self, name, value):
        """Set one parameter over its service; return the SetParametersResult."""
        from rcl_interfaces.srv import SetParameters
        from rclpy.parameter import Parameter

        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        return self.call(SetParameters, "set_parameters", request).results[0]

    def parameter(self, name):
        from rcl_interfaces.srv import GetParameters
        from rclpy.parameter import parameter_value_to_python

        response = self.call(GetParameters, "get_parameters", GetParameters.Request(names=[name]))
        return parameter_value_to_python(response.values[0])

    def hear(self, message_type, topic, qos=10):
        """Subscribe and return the list that fills."""
        heard = []
        topic = topic if topic.startswith("/") else self.name(topic)
        self.helper.create_subscription(message_type, topic, heard.append, qos)
        return heard

    def diagnostics(self):
        """Return a function that gives the newest status whose name ends so, as (level, message, values)."""
        from diagnostic_msgs.msg import DiagnosticArray

        newest = {}

        def take(message):
            for status in message.status:
                if status.name.startswith(self.namespace):
                    values = {pair.key: pair.value for pair in status.values}
                    newest[status.name.rsplit(": ", 1)[1]] = (status.level, status.message, values)

        self.helper.create_subscription(DiagnosticArray, "/diagnostics", take, 10)
        return newest.get

    def camera(self, topic="camera/image_raw", reliable=True, compressed=False, depth=5):
        from rclpy.qos import QoSProfile, ReliabilityPolicy
        from sensor_msgs.msg import CompressedImage, Image

        reliability = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
        return self.helper.create_publisher(
            CompressedImage if compressed else Image,
            self.name(topic),
            QoSProfile(depth=depth, reliability=reliability),
        )

    def image(self, stamp_ns=None, width=64, height=48, encoding="rgb8", value=0):
        """Return a flat grey image; stamped now unless told otherwise."""
        import array

        from sensor_msgs.msg import Image

        from emo_llama_ros.ros.conversion import time_message

        channels = 1 if encoding == "mono8" else 3
        message = Image(width=width, height=height, encoding=encoding, step=width * channels)
        message.data = array.array("B", bytes([value]) * (width * height * channels))
        now = self.helper.get_clock().now().nanoseconds
        message.header.stamp = time_message(now if stamp_ns is None else stamp_ns)
        message.header.frame_id = "camera_optical_frame"
        return message


@pytest.fixture
def corner(ros, until):
    corner = Corner(ros, until)
    yield corner
    corner.close()


class ScriptedEngine:
    """An engine that does what a test tells it: for hangs, crashes and orders of events that no real model shows."""

    def __init__(self, options, on_estimate):
        from emo_llama_ros.engine.api import EngineState

        self.options = options
        self.on_estimate = on_estimate
        self.state = EngineState.STOPPED
        self.message = ""
        self.model_info = None
        self.frames = []
        self.questions = []
        self.flushes = 0
        self.live = {}
        self.may_start, self.may_stop = threading.Event(), threading.Event()
        self.may_start.set()
        self.may_stop.set()
        self.stopped = threading.Event()

    def start(self):
        from emo_llama_ros.backends.backend import ModelInfo
        from emo_llama_ros.engine.api import EngineState
        from emo_llama_ros.labels import RAF_DB

        assert self.may_start.wait(PATIENCE_S)
        self.state = EngineState.READY
        self.model_info = ModelInfo("scripted", "scripted", RAF_DB)

    def submit(self, frame):
        self.frames.append(frame)

    def ask(self, question, on_estimate, on_text, on_refused):
        self.questions.append((question, on_estimate, on_text, on_refused))

    def flush(self):
        self.flushes += 1

    def set_live_option(self, name, value):
        self.live[name] = value

    def stats(self):
        from emo_llama_ros.engine.api import EngineStats

        return EngineStats(state=self.state, message=self.message, received=len(self.frames), used=len(self.frames))

    def stop(self, timeout_s=1.5):
        from emo_llama_ros.engine.api import EngineState

        assert self.may_stop.wait(PATIENCE_S)
        self.state = EngineState.STOPPED
        self.stopped.set()


@pytest.fixture
def scripted(monkeypatch):
    """A make_engine whose engines are kept in `scripted.made`; no model file is looked for."""
    for look in ("check_files", "check_networks"):
        monkeypatch.setattr(f"emo_llama_ros.checks.preflight.{look}", lambda options: None)

    def make(options, on_estimate):
        engine = ScriptedEngine(options, on_estimate)
        for name, value in make.settings.items():
            setattr(engine, name, value)
        make.made.append(engine)
        return engine

    make.made = []
    make.settings = {}
    return make


@pytest.fixture(scope="session")
def estimate():
    """Make an Estimate with sensible values, changed by keywords."""
    from emo_llama_ros.estimate import Estimate, Stage, Status

    def make(**changes):
        values = {
            "stamp_ns": 1_700_000_000_123_456_789,
            "frame_id": "camera_optical_frame",
            "estimate_id": "a-1",
            "stage": Stage.FINAL,
            "status": Status.OK,
            "clip_start_ns": 1_700_000_000_000_000_000,
            "frame_count": 8,
            "model": "scripted",
            "face_id": "a",
        }
        return Estimate(**{**values, **changes})

    return make


@pytest.fixture(scope="session")
def fetched_networks():
    """Skips unless the embedded networks lie in the user's cache."""
    from emo_llama_ros.checks.preflight import check_networks
    from emo_llama_ros.errors import MissingModel
    from emo_llama_ros.options import Options

    try:
        check_networks(Options())
    except MissingModel as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def sample_video(fetched_networks):
    """Return the path of a sample video; skips unless it has been fetched."""
    from emo_llama_ros.errors import MissingModel
    from emo_llama_ros.install.fetch import media_file

    def path(name):
        try:
            return media_file(name)
        except MissingModel as error:
            pytest.skip(str(error))

    return path
