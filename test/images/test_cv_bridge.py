"""cv_bridge is used where it gives the same pixels, and never where it fails."""

import importlib.util
from dataclasses import replace

import numpy as np
import pytest

from emo_llama_ros.errors import BadImage, MissingDependency
from emo_llama_ros.frames import RawFrame
from emo_llama_ros.images import cv_bridge as cv_bridge_converter
from emo_llama_ros.images.converter import make_converter
from emo_llama_ros.images.decode import decode
from emo_llama_ros.images.layouts import LAYOUTS
from emo_llama_ros.options import Options

LIMIT = 50.0


@pytest.fixture(scope="module")
def converter():
    if importlib.util.find_spec("cv_bridge") is None:
        pytest.skip("cv_bridge is not installed (it comes with ROS 2 from apt, not with the wheels)")
    try:
        return make_converter(Options(image_converter="cv_bridge"))
    except MissingDependency as error:
        pytest.skip(str(error))


def test_cv_bridge_and_the_builtin_converter_give_the_same_pixels(converter):
    assert converter.name == "cv_bridge"
    for encoding in LAYOUTS:
        frame = cv_bridge_converter.test_pattern(encoding)
        for case in (frame, replace(frame, is_bigendian=True), padded(frame)):
            expected = decode(case, LIMIT)
            assert np.array_equal(converter.decode(case).rgb, expected.rgb), encoding


def test_cv_bridge_refuses_what_the_builtin_converter_refuses(converter):
    with pytest.raises(BadImage, match="step is 5"):
        converter.decode(RawFrame(0, "", np.zeros(12, np.uint8), "bgr8", 2, 2, 5))


def padded(frame):
    rows = np.pad(frame.data.reshape(-1, frame.step), ((0, 0), (0, 2)))
    return replace(frame, data=rows.ravel(), step=frame.step + 2)


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Install a cv_bridge whose module has the given source; this one stands for a broken installation."""

    def install(source):
        (tmp_path / "cv_bridge.py").write_text(source)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")

    return install


BROKEN = {
    "raise ImportError('numpy.core.multiarray failed to import')": "cannot be imported: numpy.core.multiarray failed",
    "raise SystemError('initialization raised unreported exception')": "cannot be imported: initialization raised",
    "import sys; sys.exit('no OpenCV')": "cannot be imported: no OpenCV",
    "class CvBridge:\n    def __init__(self): raise AttributeError('_ARRAY_API not found')": "imported: _ARRAY_API not",
    "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)": "died of signal 11; NumPy",
    "import os; os._exit(3)": "fails its self-test",
    "class CvBridge:\n    def imgmsg_to_cv2(self, message, desired_encoding):\n"
    "        return message.data.reshape(12, 16, -1)[:, :, :3]": "gives wrong pixels for bgr8",
    "import time; time.sleep(60)": "gave no answer",
}


@pytest.mark.parametrize(("source", "reason"), BROKEN.items(), ids=list(BROKEN.values()))
def test_a_broken_cv_bridge_is_reported_and_replaced(installed, monkeypatch, source, reason):
    if reason == "gave no answer":
        monkeypatch.setattr(cv_bridge_converter, "SELF_TEST_TIMEOUT_S", 1.0)
    installed(source)
    with pytest.raises(MissingDependency, match=reason):
        make_converter(Options(image_converter="cv_bridge"))
    chosen = make_converter(Options())
    assert chosen.name == "builtin"
    assert reason in chosen.reason
    assert chosen.convert is decode
