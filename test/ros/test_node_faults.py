"""Orders and settings that nobody planned for."""

import contextlib
import threading
import time

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emo_llama_ros.checks.preflight import check_ready
from emo_llama_ros.errors import MissingDependency
from emo_llama_ros.options import Options, specs

pytestmark = pytest.mark.usefixtures("ros")

TRANSITIONS = ("configure", "activate", "deactivate", "cleanup", "shutdown")
NEXT = {
    ("unconfigured", "configure"): "inactive",
    ("inactive", "activate"): "active",
    ("active", "deactivate"): "inactive",
    ("inactive", "cleanup"): "unconfigured",
    ("unconfigured", "shutdown"): "finalized",
    ("inactive", "shutdown"): "finalized",
    ("active", "shutdown"): "finalized",
}
SWITCHES = [
    (spec.name, value)
    for spec in specs().values()
    for value in (spec.choices or ((True, False) if spec.type is bool else ()))
    if value != spec.default
]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(TRANSITIONS), max_size=10))
def test_any_order_of_transitions_leaves_the_node_in_the_state_it_should_have(ros, scripted, order):
    from emo_llama_ros.ros.node import EmoLlamaNode

    scripted.made.clear()
    node = EmoLlamaNode(scripted, namespace="/orders", use_global_arguments=False)
    finished = []
    node.on_finished = lambda: finished.append(True)
    state = "unconfigured"
    try:
        for transition in order:
            with contextlib.suppress(Exception):  # rclpy raises for a shutdown that is not possible
                getattr(node, f"trigger_{transition}")()
            state = NEXT.get((state, transition), state)
            assert node._state_machine.current_state[1] == state
            assert (node._emotion is not None) == (state in ("inactive", "active"))
            assert (node._camera is not None) == (state == "active")
            assert node._engine is None or state in ("inactive", "active")
        assert bool(finished) == (state == "finalized")
    finally:
        node.destroy_node()
    assert all(engine.stopped.is_set() for engine in scripted.made), "no engine is left behind"


@pytest.mark.parametrize(("name", "value"), SWITCHES, ids=[f"{name}={value}" for name, value in SWITCHES])
def test_no_switch_breaks_the_callback(corner, scripted, estimate, name, value):
    extra = {"medical_or_safety_reason": "test"} if name == "deployment_context" else {}
    diagnostics = corner.diagnostics()
    corner.emo_llama_node(scripted, **{name: value}, **extra)
    configured = corner.change_state("configure")
    try:
        check_ready(Options(**{name: value}, **extra))
    except MissingDependency:  # what this machine lacks is refused, and the node is where it was
        assert not configured
        assert corner.state() == "unconfigured"
        return
    assert configured
    assert corner.change_state("activate")
    (engine,) = scripted.made
    compressed = name == "image_transport"
    camera = corner.camera("camera/image_raw" + ("/compressed" if compressed else ""), compressed=compressed)

    def arrived():
        if compressed:
            from sensor_msgs.msg import CompressedImage

            camera.publish(CompressedImage(format="jpeg"))
        else:
            camera.publish(corner.image())
        return len(engine.frames) > 2

    corner.until(arrived, "frames")
    engine.on_estimate(estimate())
    assert corner.state() == "active"
    assert diagnostics("model") is None or diagnostics("model")[0] == b"\x00"


def test_a_burst_from_four_cameras_leaves_memory_flat_and_services_alive(corner, fetched_networks):
    """Ten times the usual rate into nodes whose worker cannot follow: the newest wins, the rest is counted."""
    node = corner.emo_llama_node(analysis_rate_hz=60.0)
    diagnostics = corner.diagnostics()
    corner.change_state("configure")
    corner.change_state("activate")
    corner.until(lambda: (s := diagnostics("model")) and s[2]["model state"] == "ready", "the model")
    cameras = [corner.camera() for _ in range(4)]
    over = threading.Event()

    def flood(camera):
        image = corner.image(width=640, height=480)
        while not over.is_set():
            image.header.stamp = corner.helper.get_clock().now().to_msg()
            camera.publish(image)
            time.sleep(1 / 300)

    threads = [threading.Thread(target=flood, args=(camera,)) for camera in cameras]
    for thread in threads:
        thread.start()
    try:
        corner.until(lambda: node._engine.stats().received > 100, "the flood")
        before = psutil.Process().memory_info().rss
        corner.until(lambda: node._engine.stats().received > 600, "more of the flood")
        grown_mb = (psutil.Process().memory_info().rss - before) / 1e6
        engine = node._engine
        success = corner.change_state("deactivate")
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert success
    assert grown_mb < 100
    corner.until(lambda: engine.stats().state.value == "stopped", "the engine to stop")
    stats = engine.stats()
    assert stats.received == stats.used + stats.skipped + sum(stats.drops.values()), "every frame is accounted for"
