"""emo_llama_node: camera images in, EmotionEstimate messages out, with a managed (lifecycle) node around the engine.

configure   checks the options and starts to load the model behind; ~/model_info follows when it is ready. What can be
            found wrong then refuses, in one sentence, and leaves the node as it was
activate    subscribes to the camera (and loads the model again when deactivate has freed it)
deactivate  unsubscribes, and frees the model's memory behind
cleanup     removes the topics; parameters may be changed again

Loading and stopping take seconds, so both happen in a thread, one after the other, and every lifecycle service answers
at once. The executor is single-threaded: all callbacks here run in one thread, but for `_on_estimate`.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import wraps
from typing import Any

import psutil
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType, JumpThreshold
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile

from emo_llama_ros.checks.preflight import check_ready
from emo_llama_ros.engine.api import Engine, EngineState
from emo_llama_ros.engine.latencies import Latencies
from emo_llama_ros.engine.make import make_engine
from emo_llama_ros.errors import EmoError
from emo_llama_ros.estimate import Estimate
from emo_llama_ros.frames import RawFrame
from emo_llama_ros.msg import EmotionEstimate, ModelInfo
from emo_llama_ros.options import Options, unknown_option
from emo_llama_ros.ros import diagnostics, parameters
from emo_llama_ros.ros.ask import AskServer
from emo_llama_ros.ros.camera import WINDOW_S, Camera, camera_topic, image_topics
from emo_llama_ros.ros.conversion import estimate_message, model_info_message
from emo_llama_ros.ros.executor import CallbackErrors, answer_always
from emo_llama_ros.ros.launch_arguments import NODE_NAME
from emo_llama_ros.ros.overlay import Overlay
from emo_llama_ros.ros.verdicts import Announcer, EngineWindow, Recent

MakeEngine = Callable[[Options, Callable[[Estimate], None]], Engine]

_WATCH_S = 0.2
_REPORT_S = 1.0
_EMOTION_QOS = QoSProfile(depth=10)
_LATCHED_QOS = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
# Fast playback moves /clock in coarse steps. Holes in the stamps of the frames themselves are the engine's business.
_FORWARD_JUMP_GAPS = 5.0

# What these have begun they take back; the others only take away, and go on as far as they can.
_REVERSIBLE = ("on_configure", "on_activate")
_ERROR = TransitionCallbackReturn.ERROR
Transition = Callable[["EmoLlamaNode", LifecycleState], TransitionCallbackReturn]


def _explained(transition: Transition) -> Transition:
    """Turn what a transition raises into one log line and FAILURE, which leaves the node in the state it was in.

    rclpy turns every exception of a transition into ERROR without a word.
    """

    @wraps(transition)
    def run(node: EmoLlamaNode, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return transition(node, state)
        except EmoError as error:
            node.refuse(str(error))
            return TransitionCallbackReturn.FAILURE
        except Exception as error:
            node.refuse(f"Unexpected {type(error).__name__}: {' '.join(str(error).split())}")
            node.get_logger().debug(traceback.format_exc())
            return TransitionCallbackReturn.FAILURE if transition.__name__ in _REVERSIBLE else _ERROR

    return run


class EmoLlamaNode(LifecycleNode):
    """Subscribes to one camera and publishes what the people in view display."""

    def __init__(self, make_engine: MakeEngine = make_engine, **node_arguments: Any) -> None:
        """Make an unconfigured node.

        `on_finished` is called once, from the executor, when the node has been shut down by its lifecycle.
        Raises BadParameter when a given parameter has the wrong type or is out of range.
        """
        super().__init__(NODE_NAME, start_parameter_services=False, **node_arguments)
        self.on_finished: Callable[[], None] = lambda: None
        self._make_engine = make_engine
        self._options = Options()
        self._configured = False
        self._active = False
        self._camera: Camera | None = None
        self._overlay: Overlay | None = None
        self._emotion: Any = None
        self._model_info: Any = None
        self._jumps: Any = None
        self._failure = ""
        self._clock_jumps = 0
        self._published = 0
        self._latencies = Latencies()
        self._window = EngineWindow(WINDOW_S)
        self._announcer = Announcer(self.get_logger())
        self._observing_announced = False
        self.callback_errors = CallbackErrors(self)
        self._process = psutil.Process()

        self._engine: Engine | None = None
        self._start_failure = ""
        self._engine_announced = False
        self._session = 0
        """Counts engines, so that a late estimate of an engine that has been stopped is recognized."""
        self._gate = threading.Lock()
        """Held while publishing and while `_active` or `_session` change: nothing is published after deactivate."""
        self._engine_work = ThreadPoolExecutor(1, "emo_llama engine")
        self._ask: AskServer | None = None

        parameters.declare(self)
        self._parameter_services = parameters.CarefulParameterService(self)
        self.add_on_set_parameters_callback(self._on_parameters)
        for name in parameters.unknown(parameters.overrides(self)):
            self.get_logger().warning(f"{unknown_option(name)} The given value is ignored.")

        # Timers follow the steady clock: with use_sim_time the node's clock stands still while a bag is paused.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self.create_timer(_REPORT_S, self._report, clock=steady)
        self.create_timer(_WATCH_S, self._watch, clock=steady)
        self._ask = AskServer(self, lambda: self._engine if self._active and self._options.enabled else None)
        answer_always(self, self.callback_errors)

    # --- lifecycle ---

    @_explained
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._options = options = parameters.read(self)
        check_ready(options)
        camera_topic(self, options)
        self._failure = ""
        self._configured = True
        try:
            self._make_topics(options)
            self._start_engine()
        except Exception:
            self._release()
            raise
        return super().on_configure(state)

    def _make_topics(self, options: Options) -> None:
        self._emotion = self.create_publisher(EmotionEstimate, "emotion", _EMOTION_QOS)
        self._model_info = self.create_publisher(ModelInfo, "~/model_info", _LATCHED_QOS)
        self._overlay = Overlay(self, options.max_image_megapixels, options.overlay, options.enabled)
        self._jumps = self.get_clock().create_jump_callback(
            JumpThreshold(
                min_forward=Duration(seconds=_FORWARD_JUMP_GAPS * options.max_gap_s),
                min_backward=Duration(nanoseconds=-1),
                on_clock_change=True,
            ),
            post_callback=self._on_clock_jump,
        )

    @_explained
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        camera = Camera(self, self._options, self._on_frame)
        try:
            if self._engine is None:
                self._start_engine()
        except Exception:
            camera.close()
            raise
        self._camera = camera
        self._observing_announced = False
        with self._gate:
            self._active = True
        self._announce()
        return super().on_activate(state)

    @_explained
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._leave_active("The node was deactivated.")
        return super().on_deactivate(state)

    @_explained
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._release()
        return super().on_cleanup(state)

    @_explained
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._release()
        self.on_finished()
        return super().on_shutdown(state)

    @_explained
    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._release()
        return super().on_error(state)

    def refuse(self, reason: str) -> None:
        """Log why a transition was refused and keep the reason for /diagnostics."""
        self._failure = reason
        self.get_logger().error(reason)

    def destroy_node(self) -> None:
        """Stop the engine, wait for it (at most about 2 s), and remove the node from the graph."""
        self._release()
        self._engine_work.shutdown(wait=True)
        if self._ask is not None:
            self._ask.close()
            self._ask = None
        super().destroy_node()

    def _leave_active(self, reason: str) -> None:
        with self._gate:
            self._active = False
        if self._camera is not None:
            self._camera.close()
            self._camera = None
        if self._ask is not None:
            self._ask.abort_all(reason)
        self._stop_engine()

    def _release(self) -> None:
        """Give back everything that configure and activate have made; harmless in any state."""
        self._leave_active("The node was shut down.")
        if not self._configured:
            return
        self._configured = False
        if self._jumps is not None:
            self._jumps.unregister()
        if self._overlay is not None:
            self._overlay.close()
        for publisher in (self._emotion, self._model_info):
            if publisher is not None:
                self.destroy_publisher(publisher)
        self._jumps = self._overlay = self._emotion = self._model_info = None

    # --- the engine ---

    def _start_engine(self) -> None:
        with self._gate:
            self._session += 1
            session = self._session
        self._failure = ""
        self._engine_announced = False
        self._window.clear()
        self._engine = engine = self._make_engine(self._options, lambda estimate: self._on_estimate(session, estimate))
        self.get_logger().info(f"Loading the model: backend {self._options.backend}.")
        self._engine_work.submit(self._run_start, engine, session)

    def _run_start(self, engine: Engine, session: int) -> None:
        """Start an engine, in the engine's thread; what it raises is its failure."""
        try:
            engine.start()
        except Exception as error:
            sentence = str(error) if isinstance(error, EmoError) else f"The model side could not be started: {error!r}."
            with self._gate:
                if session == self._session:
                    self._start_failure = sentence

    def _stop_engine(self) -> None:
        if self._engine is None:
            return
        with self._gate:
            self._session += 1
            self._start_failure = ""
        self._engine_work.submit(self._engine.stop)
        self._engine = None

    def _watch(self) -> None:
        if self._camera is not None:
            self._camera.follow_publishers()
        self._announce()

    def _announce(self) -> None:
        """Say once that the model is ready, and after that once that the node observes."""
        info = self._engine.model_info if self._engine is not None else None
        if info is None:
            self._engine_announced = self._observing_announced = False
            return
        if not self._engine_announced:
            self._engine_announced = True
            self._model_info.publish(model_info_message(info, self.get_clock().now().nanoseconds))
            self.get_logger().info(f"Model ready: {info.model} on {info.device}.")
        if self._camera is not None and not self._observing_announced:
            self._observing_announced = True
            self.get_logger().info(
                f"Observing displayed expressions on {self._camera.topic} ({self._options.image_transport})."
                if self._options.enabled
                else f"Ready, but enabled is false: every frame on {self._camera.topic} is dropped undecoded."
            )

    def _on_frame(self, frame: RawFrame) -> None:
        if self._engine is not None:
            self._engine.submit(frame)
        if self._overlay is not None:
            self._overlay.keep(frame)

    def _on_estimate(self, session: int, estimate: Estimate) -> None:
        """Publish an estimate. Called from a thread of the engine."""
        arrived_ns = time.monotonic_ns()
        age_ns = self.get_clock().now().nanoseconds - estimate.stamp_ns
        message = estimate_message(estimate, age_ns)
        with self._gate:
            if not self._active or session != self._session:
                return
            self._emotion.publish(message)
            self._published += 1
            if self._overlay is not None:
                self._overlay.note(estimate)
        self._latencies.add("age", age_ns)
        self._latencies.add("publish", time.monotonic_ns() - arrived_ns)

    def _on_clock_jump(self, _jump: Any) -> None:
        self._clock_jumps += 1
        if self._engine is not None:
            self._engine.flush()

    # --- parameters ---

    def _on_parameters(self, changed: list[Parameter]) -> SetParametersResult:
        reason = parameters.refusal(changed, self._configured)
        if reason:
            return SetParametersResult(successful=False, reason=reason)
        if self._configured:
            for parameter in changed:
                self._change_live(parameter.name, parameter.value)
        return SetParametersResult(successful=True)

    def _change_live(self, name: str, value: Any) -> None:
        if name not in parameters.specs():
            return
        self._options = self._options.with_values({name: value})
        # The overlay first: it is shut before the engine, which may be slow, is told.
        if self._overlay is not None and name == "enabled":
            self._overlay.switch(allowed=value)
        elif self._overlay is not None and name == "overlay":
            self._overlay.switch(wanted=value)
        if self._engine is not None:
            self._engine.set_live_option(name, value)
        if name == "enabled":
            self._observing_announced = False

    # --- diagnostics ---

    def _report(self) -> None:
        stats = self._engine.stats() if self._engine is not None else None
        failure = self._start_failure or (stats.message if stats and stats.state is EngineState.FAILED else "")
        if failure:
            self._give_up(failure)
            stats = None
        recent = self._window.add(stats, time.monotonic()) if stats is not None else Recent()
        percentiles = self._latencies.percentiles_ms()
        node = diagnostics.NodeReport(
            lifecycle_state=self._state_machine.current_state[1],
            published=self._published,
            age_ms=percentiles.get("age", (0.0, 0.0)),
            publish_ms=percentiles.get("publish", (0.0, 0.0)),
            clock_jumps=self._clock_jumps,
            memory_mb=self._process.memory_info().rss / 1e6,
            failure=self._failure,
            callback_errors=self.callback_errors.within(WINDOW_S),
            last_callback_error=self.callback_errors.last,
        )
        camera = self._camera.report() if self._camera is not None else None
        elsewhere = (
            image_topics(self) if camera is not None and camera.silent_s > self._options.camera_timeout_s else {}
        )
        judged = {
            "camera": diagnostics.judge_camera(camera, self._options, elsewhere),
            "model": diagnostics.judge_model(stats, recent, node, self._options),
            "estimates": diagnostics.judge_estimates(stats, recent, node, self._options),
            "privacy": diagnostics.judge_privacy(self._options),
            "node": diagnostics.judge_node(node),
        }
        name = self.get_fully_qualified_name()
        message = DiagnosticArray()
        message.header.stamp = self.get_clock().now().to_msg()
        message.status = [diagnostics.status_message(f"{name}: {part}", found) for part, found in judged.items()]
        self._diagnostics.publish(message)
        for part, found in judged.items():
            if found.verdict.cause not in (self._failure or None, "callback"):  # those two have been logged already
                self._announcer.tell(part, found.verdict)
            else:
                self._announcer.told(part, found.verdict)

    def _give_up(self, reason: str) -> None:
        """The engine has failed for good: free it, and go inactive so that activate means another try."""
        if self._active:
            self.trigger_deactivate()
        self._stop_engine()
        self.refuse(reason)
