"""The engine whose model side is a process of its own, which may crash, hang or run out of memory alone."""

from __future__ import annotations

import contextlib
import mmap
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import psutil

import emo_llama_ros
from emo_llama_ros.backends.backend import ModelInfo
from emo_llama_ros.engine.api import EngineState, EngineStats, LiveStats, Question
from emo_llama_ros.engine.camera_side import CameraSide
from emo_llama_ros.engine.delivery import corrected
from emo_llama_ros.engine.outbox import Outbox
from emo_llama_ros.estimate import Estimate
from emo_llama_ros.frames import RawFrame
from emo_llama_ros.options import Options, check

OnEstimate = Callable[[Estimate], None]
_NO_LIVE_STATS = LiveStats(clips={}, people=0, latency_ms={}, last_bad_image="", busy_s=0.0)
_NO_PIXELS = np.empty(0, np.uint8)
_RESTARTS_WITHIN_S = 60.0
_POLL_S = 0.2
_PAGE = 1 << 20


class WorkerEngine:
    """The model side in a process of its own, watched over and restarted."""

    def __init__(
        self, options: Options, on_estimate: OnEstimate, command: Sequence[str] = ("-m", "emo_llama_ros.engine.worker")
    ) -> None:
        """Make an engine; `command` are Python's arguments that start the worker, a program that calls `worker.main`.

        With a program of your own, a backend that this package does not know can answer.
        """
        self._options = options
        self._options_lock = threading.Lock()
        """So that a worker gets each change of an option once: at its start or after."""
        self._command = tuple(command)
        self._camera_side = CameraSide(options, on_estimate)
        self._delivery, self._admission = self._camera_side.delivery, self._camera_side.admission
        self._live = _NO_LIVE_STATS
        self._lost: Counter[str] = Counter()
        """Clips of workers that have ended."""
        self._pixels_fd = os.memfd_create("emo_llama_pixels")
        self._pixels = _NO_PIXELS
        self._pipe: Connection | None = None
        self._outbox: Outbox | None = None
        self._pixels_lock = threading.Lock()
        """Held for no longer than it takes to copy an image."""
        self._process: subprocess.Popen[bytes] | None = None
        self._restarts: deque[float] = deque()
        self._restart_count = 0
        self._last_restart = ""
        self._killed_for = ""
        self._heard_ns = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._supervise, name="emo_llama worker watch", daemon=True)

    def start(self) -> None:
        self._delivery.on_state(EngineState.LOADING, "", None)
        self._thread.start()

    def submit(self, frame: RawFrame) -> None:
        now, jumped = self._camera_side.admit(frame)
        if jumped:
            self._send("flush")
        if now is not None:
            self._hand_over(now)

    def ask(
        self,
        question: Question,
        on_estimate: OnEstimate,
        on_text: Callable[[str], None],
        on_refused: Callable[[str], None],
    ) -> None:
        ticket = self._delivery.open_ticket(question, on_estimate, on_text, on_refused)
        if ticket is not None and not self._send("ask", question, ticket):
            self._delivery.on_refused("The model process takes no questions now; ask again when it is ready.", ticket)

    def flush(self) -> None:
        self._delivery.wipe(time.monotonic_ns())
        self._send("flush")

    def set_live_option(self, name: str, value: object) -> None:
        value = check(name, value)
        with self._options_lock:
            self._options = self._options.with_values({name: value})
            self._send("option", name, value)
        self._camera_side.set_option(name, value)
        if name == "enabled" and not value:
            with self._pixels_lock:
                self._pixels[:] = 0

    def stats(self) -> EngineStats:
        memory_mb = 0.0
        if self._process is not None:
            with contextlib.suppress(psutil.Error):
                memory_mb = psutil.Process(self._process.pid).memory_info().rss / 1e6
        return self._camera_side.stats(
            replace(self._live, clips=_added(self._live.clips, self._lost)),
            silent_s=(time.monotonic_ns() - self._heard_ns) / 1e9,
            worker_memory_mb=memory_mb,
            restarts=self._restart_count,
            last_restart=self._last_restart,
        )

    @property
    def model_info(self) -> ModelInfo | None:
        return self._delivery.info

    @property
    def worker_pid(self) -> int | None:
        """Process id of the worker; None when none runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def stop(self, timeout_s: float = 1.5) -> None:
        self._stopping.set()
        self._send("stop")
        if self._process is not None:
            try:
                self._process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._thread.is_alive():
            self._thread.join(2 * _POLL_S + 1)
        self._camera_side.close()
        self._live = replace(self._live, people=0, busy_s=0.0)
        with self._pixels_lock:
            if self._pixels_fd >= 0:
                os.close(self._pixels_fd)
                self._pixels_fd, self._pixels = -1, _NO_PIXELS

    # --- towards the worker ---

    def _send(self, *message: Any) -> bool:
        outbox = self._outbox
        return outbox is not None and outbox.put(*message)

    def _hand_over(self, frame: RawFrame | None) -> None:
        while frame is not None:
            if self._camera_side.is_bad(frame):
                frame = self._admission.done("bad_image")
                continue
            length = frame.data.size
            with self._pixels_lock:
                if self._pixels_fd < 0:  # stopped, and the frame is accounted for
                    return
                if length > self._pixels.size:
                    self._grow(length)
                self._pixels[:length] = frame.data
                if self._send("frame", replace(frame, data=_NO_PIXELS), length, self._pixels.size):
                    return
            frame = self._admission.done("not_ready")

    def _grow(self, length: int) -> None:
        size = -(-length // _PAGE) * _PAGE
        os.ftruncate(self._pixels_fd, size)
        self._pixels = np.frombuffer(mmap.mmap(self._pixels_fd, size), np.uint8)

    # --- the supervising thread ---

    def _supervise(self) -> None:
        while not self._stopping.is_set():
            try:
                self._spawn()
            except OSError as error:
                self._delivery.on_state(EngineState.FAILED, f"The model process could not be started: {error}.", None)
                return
            self._listen()
            if self._stopping.is_set():
                self._reap()
                return
            if not self._may_restart():
                return

    def _spawn(self) -> None:
        ours, theirs = socket.socketpair()
        # The worker finds the same package as we do, installed or not.
        path = [str(Path(emo_llama_ros.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
        command = [sys.executable, *self._command, str(theirs.fileno()), str(self._pixels_fd)]
        self._process = subprocess.Popen(
            command,
            pass_fds=(theirs.fileno(), self._pixels_fd),
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in path if p)},
            stdin=subprocess.DEVNULL,
        )
        theirs.close()
        self._heard_ns = time.monotonic_ns()
        self._pipe = Connection(ours.detach())
        outbox = Outbox(self._pipe)
        with self._options_lock:
            outbox.put("start", self._options)
            self._outbox = outbox
        if self._stopping.is_set():  # stop() came while there was no process yet that it could have ended
            self._process.kill()

    def _listen(self) -> None:
        pipe, outbox = self._pipe, self._outbox
        assert pipe is not None
        assert outbox is not None
        try:
            while True:
                if pipe.poll(_POLL_S):
                    self._hear(*pipe.recv())
                else:
                    self._check_alive()
        except (EOFError, OSError):
            pass
        self._outbox = self._pipe = None
        outbox.close(_POLL_S)
        pipe.close()

    def _hear(self, kind: str, *content: Any) -> None:
        self._heard_ns = time.monotonic_ns()
        if kind == "observed":
            fate, handover_ns = content
            self._camera_side.handover.add("receive_to_worker", handover_ns)
            if fate == "bad_image":
                self._camera_side.last_bad_image = ""
            self._hand_over(self._admission.done(fate))
        elif kind == "stats":
            (live,) = content
            # Deliveries and counters come through the same pipe, so these are not older than what was withheld.
            self._live = replace(live, clips=corrected(live.clips, self._delivery.withheld()))
            self._check_alive()
        else:
            getattr(self._delivery, f"on_{kind}")(*content)

    def _check_alive(self) -> None:
        assert self._process is not None
        silent_s = (time.monotonic_ns() - self._heard_ns) / 1e9
        stuck_s = max(silent_s, self._live.busy_s)
        if stuck_s > self._options.worker_timeout_s:
            self._killed_for = f"it did not answer for {stuck_s:.0f} s"
            self._live = replace(self._live, busy_s=0.0)
            self._process.kill()

    def _reap(self) -> None:
        assert self._process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_POLL_S)

    def _write_off(self) -> None:
        """Keep the counters of the worker that has ended; what it still had to do is lost."""
        clips = Counter(dict(self._live.clips))
        for prefix in ("", "reasoning_"):
            clips[prefix + "worker_lost"] += clips.pop(prefix + "waiting", 0) + clips.pop(prefix + "in_work", 0)
        clips["unanswered"] += clips.pop("asking", 0)
        self._lost.update(clips)
        self._live = _NO_LIVE_STATS
        self._delivery.forget_withheld()

    def _may_restart(self) -> bool:
        assert self._process is not None
        code = self._process.wait()
        self._admission.abandon("worker_lost")
        self._write_off()
        self._delivery.refuse_all("The model process ended before it could answer; ask again.")
        reason, self._killed_for = self._killed_for or _exit_words(code), ""
        now = time.monotonic()
        self._restarts.append(now)
        while self._restarts[0] < now - _RESTARTS_WITHIN_S:
            self._restarts.popleft()
        if len(self._restarts) > self._options.worker_max_restarts:
            ended = f"The model process ended {len(self._restarts)} times within a minute ({reason})"
            sentence = f"{ended}; deactivate and activate the node to try again."
            self._delivery.on_state(EngineState.FAILED, sentence, None)
            return False
        self._restart_count += 1
        self._last_restart = f"The model process ended ({reason}) and was restarted."
        self._delivery.on_state(EngineState.RESTARTING, self._last_restart, None)
        return True


def _added(clips: Mapping[str, int], more: Mapping[str, int]) -> dict[str, int]:
    total = Counter(dict(clips))
    total.update(more)
    return dict(total)


def _exit_words(code: int) -> str:
    if code == -9:
        return "killed, perhaps for lack of memory"
    return f"signal {-code}" if code < 0 else f"exit code {code}"
