"""How far the eyes are open, from the eye network.

The face mesh hardly moves at a blink; MediaPipe's iris network, which looks at each eye alone, follows it. Source:
Ablavatski et al., "Real-time Pupil Tracking from Monocular Video for Digital Puppetry", 2020; region of interest as
MediaPipe publishes it in `mediapipe/modules/iris_landmark`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from emo_llama_ros.faces.alignment import Roi, angle_between, cut
from emo_llama_ros.faces.face import FloatArray
from emo_llama_ros.faces.litert import LiteRtNetwork
from emo_llama_ros.frames import RgbImage

NETWORK_FILE = "iris_landmark.tflite"
ROI_SCALE = 2.3
_CORNERS = ((33, 133), (263, 362))
"""Outer and inner corner of each eye in the face mesh, image left first."""
_OUTLINE_POINTS = 71
_UPPER_LID, _LOWER_LID = [11, 12, 13], [3, 4, 5]
"""Middle of the lids in the network's outline of an eye."""


class Eyes:
    """Measures the opening of a person's eyes."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        self._network = LiteRtNetwork(path, threads)
        self._size = self._network.input_shape[1]

    def opening(self, rgb: RgbImage, mesh: FloatArray) -> float:
        """Return the height of the gap between the lids, relative to the eye's width in 3-D, mean of both eyes.

        On the sample media: 0.3 to 0.4 open, under 0.1 closed (it may fall a little below 0).
        """
        return float(np.mean([self._gap(rgb, mesh, *corners, mirror=n == 1) for n, corners in enumerate(_CORNERS)]))

    def _gap(self, rgb: RgbImage, mesh: FloatArray, outer: int, inner: int, mirror: bool) -> float:
        left, right = (mesh[inner], mesh[outer]) if mirror else (mesh[outer], mesh[inner])
        x, y = ((left + right) / 2)[:2].tolist()
        roi = Roi(x, y, max(ROI_SCALE * float(np.linalg.norm((right - left)[:2])), 1.0), angle_between(left, right))
        picture = cut(rgb, roi, self._size)
        if mirror:  # the network knows the eye on the image's left
            picture = picture[:, ::-1]
        outline = self._network(picture[None].astype(np.float32) / np.float32(255))[0].reshape(_OUTLINE_POINTS, 3)
        gap = float(outline[_LOWER_LID, 1].mean() - outline[_UPPER_LID, 1].mean()) * roi.side / self._size
        return gap / max(float(np.linalg.norm(right - left)), 1.0)
