"""cv_bridge as image converter, where it is installed and gives the right pixels.

cv_bridge is compiled against one NumPy and one OpenCV; under another NumPy it fails at import, or kills the process.
So its self-test runs in a process of its own first, and it gets only those encodings that it converts as the built-in
converter does.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np

from emo_llama_ros.errors import BadImage, MissingDependency
from emo_llama_ros.frames import Frame, RawFrame, RgbImage
from emo_llama_ros.images.decode import Decode, decode
from emo_llama_ros.images.layouts import LAYOUTS, checked_layout
from emo_llama_ros.images.samples import SampleRange

SELF_TEST_TIMEOUT_S = 20.0
_TEST_MEGAPIXELS = 1.0

ToRgb = Callable[[RawFrame], RgbImage]


def load_cv_bridge() -> tuple[Decode, str]:
    """Return a `decode` that uses cv_bridge, and for what; raise MissingDependency with one sentence why it cannot."""
    if importlib.util.find_spec("cv_bridge") is None:
        raise MissingDependency("cv_bridge is not installed.")
    encodings = _self_test_apart()
    to_rgb = _load()

    def decode_with_cv_bridge(frame: RawFrame, max_megapixels: float, sample_range: SampleRange | None = None) -> Frame:
        if frame.compressed or frame.encoding not in encodings:
            return decode(frame, max_megapixels, sample_range)
        layout = checked_layout(frame, int(max_megapixels * 1e6))
        # Some releases of cv_bridge ignore padding, others cut rows into whole pixels. All scale 16-bit samples by
        # their full range, and swap bytes with a NumPy call that NumPy 2 no longer has.
        if frame.step != frame.width * layout.channels * layout.depth or layout.depth == 2:
            return decode(frame, max_megapixels, sample_range)
        try:
            return Frame(frame.stamp_ns, frame.frame_id, to_rgb(frame))
        except Exception as error:  # whatever compiled code raises: the next frame must be served
            raise BadImage(f"cv_bridge cannot convert a {frame.encoding} image: {_first_line(error)}.") from None

    names = ", ".join(sorted(encodings))
    return (
        decode_with_cv_bridge,
        f"cv_bridge passed its self-test and converts {names}; the built-in converter does the rest.",
    )


def healthy_encodings(to_rgb: ToRgb) -> list[str]:
    """Return the encodings that `to_rgb` converts to the same pixels as the built-in converter."""
    healthy = []
    for encoding in (name for name, layout in LAYOUTS.items() if layout.depth == 1):
        frame = test_pattern(encoding)
        try:
            same = np.array_equal(to_rgb(frame), decode(frame, _TEST_MEGAPIXELS).rgb)
        except Exception:  # an encoding that this cv_bridge does not know
            same = False
        if same:
            healthy.append(encoding)
    return healthy


def test_pattern(encoding: str) -> RawFrame:
    """Return an image of 16×12 whose samples all differ from their neighbours."""
    layout = LAYOUTS[encoding]
    step = 16 * layout.channels * layout.depth
    size = step * layout.rows(12)
    data = (np.arange(size, dtype=np.uint32) * 37 % 251).astype(np.uint8)
    return RawFrame(0, "camera", data, encoding, 16, 12, step)


def _load() -> ToRgb:
    try:
        from cv_bridge import CvBridge

        bridge = CvBridge()
    except (Exception, SystemExit) as error:  # compiled modules raise more than ImportError here
        raise MissingDependency(f"cv_bridge is installed but cannot be imported: {_first_line(error)}.") from None

    def to_rgb(frame: RawFrame) -> RgbImage:
        message = SimpleNamespace(
            encoding=frame.encoding,
            width=frame.width,
            height=frame.height,
            step=frame.step,
            is_bigendian=frame.is_bigendian,
            data=np.ascontiguousarray(frame.data),
        )
        return bridge.imgmsg_to_cv2(message, desired_encoding="rgb8")

    return to_rgb


def _self_test_apart() -> list[str]:
    """Run `healthy_encodings` in a process of its own, which may die."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", __name__], capture_output=True, text=True, timeout=SELF_TEST_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        raise MissingDependency(f"cv_bridge gave no answer to its self-test in {SELF_TEST_TIMEOUT_S:g} s.") from None
    encodings = [name for name in done.stdout.split() if name in LAYOUTS]  # modules may print on being imported
    if done.returncode < 0:
        raise MissingDependency(
            f"cv_bridge is installed but its self-test died of signal {-done.returncode}; NumPy {np.__version__} is "
            "probably not the one that it was built for."
        )
    if done.returncode:
        raise MissingDependency((done.stderr.strip().splitlines() or ["cv_bridge fails its self-test."])[-1])
    if "bgr8" not in encodings:
        raise MissingDependency("cv_bridge is installed but gives wrong pixels for bgr8.")
    return encodings


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


if __name__ == "__main__":
    try:
        print(*healthy_encodings(_load()))
    except MissingDependency as error:
        sys.exit(str(error))
