"""How far a face's parts have moved, from its landmarks: the 52 scores of MediaPipe's blendshape network.

The scores carry the names of Apple's ARKit. They are of the face as it is, not relative to the person: a resting face
scores up to a third on some of them (`eyeSquint`, `browInnerUp`), so all that is read off them is a difference to the
person's own neutral face. Source: MediaPipe's model card "Blendshape V2"; an MLP-Mixer on landmarks (Tolstikhin et al.,
2021).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from emo_llama_ros.faces.face import FloatArray
from emo_llama_ros.faces.litert import LiteRtNetwork

NETWORK_FILE = "face_blendshapes.tflite"
# fmt: off
INPUT_POINTS: tuple[int, ...] = (
    0, 1, 4, 5, 6, 7, 8, 10, 13, 14, 17, 21, 33, 37, 39, 40, 46, 52, 53, 54, 55, 58, 61, 63, 65, 66, 67, 70, 78, 80,
    81, 82, 84, 87, 88, 91, 93, 95, 103, 105, 107, 109, 127, 132, 133, 136, 144, 145, 146, 148, 149, 150, 152, 153,
    154, 155, 157, 158, 159, 160, 161, 162, 163, 168, 172, 173, 176, 178, 181, 185, 191, 195, 197, 234, 246, 249, 251,
    263, 267, 269, 270, 276, 282, 283, 284, 285, 288, 291, 293, 295, 296, 297, 300, 308, 310, 311, 312, 314, 317, 318,
    321, 323, 324, 332, 334, 336, 338, 356, 361, 362, 365, 373, 374, 375, 377, 378, 379, 380, 381, 382, 384, 385, 386,
    387, 388, 389, 390, 397, 398, 400, 402, 405, 409, 415, 454, 466, 468, 469, 470, 471, 472, 473, 474, 475, 476, 477,
)
"""Landmarks that the network reads, in its order."""
OUTPUTS: tuple[str, ...] = (
    "_neutral", "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight", "cheekPuff",
    "cheekSquintLeft", "cheekSquintRight", "eyeBlinkLeft", "eyeBlinkRight", "eyeLookDownLeft", "eyeLookDownRight",
    "eyeLookInLeft", "eyeLookInRight", "eyeLookOutLeft", "eyeLookOutRight", "eyeLookUpLeft", "eyeLookUpRight",
    "eyeSquintLeft", "eyeSquintRight", "eyeWideLeft", "eyeWideRight", "jawForward", "jawLeft", "jawOpen", "jawRight",
    "mouthClose", "mouthDimpleLeft", "mouthDimpleRight", "mouthFrownLeft", "mouthFrownRight", "mouthFunnel",
    "mouthLeft", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthPressLeft", "mouthPressRight", "mouthPucker",
    "mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "mouthSmileLeft",
    "mouthSmileRight", "mouthStretchLeft", "mouthStretchRight", "mouthUpperUpLeft", "mouthUpperUpRight",
    "noseSneerLeft", "noseSneerRight",
)
"""The network's scores, in its order."""
# fmt: on


SCORES: tuple[str, ...] = (
    "browInnerUp",
    "browOuterUp",
    "browDown",
    "eyeWide",
    "eyeSquint",
    "eyeBlink",
    "mouthSmile",
    "mouthLowerDown",
    "mouthStretch",
    "jawOpen",
)
"""The scores that action units are read off; left and right are averaged. Of the others, `noseSneer`, `cheekSquint`,
`cheekPuff` and `jawForward` are 0 on every face that was tried."""


class Blendshapes:
    """Scores a face's movements from its landmarks."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        self._network = LiteRtNetwork(path, threads)

    def raw(self, landmarks: FloatArray) -> FloatArray:
        """Return all scores (52,) float32 in [0, 1], named by `OUTPUTS`, of landmarks (478, 3) in pixels."""
        return self._network(np.ascontiguousarray(landmarks[None, list(INPUT_POINTS), :2]))[0]

    def movements(self, landmarks: FloatArray) -> FloatArray:
        """Return all scores with left and right averaged, (32,) float32 in [0, 1], named by `MOVEMENTS`.

        `landmarks` (478, 3) are in pixels; place and size of the face do not matter.
        """
        return self.raw(landmarks) @ _SIDES_AVERAGED

    def scores(self, landmarks: FloatArray) -> dict[str, float]:
        """Return the scores of `SCORES` by name, of landmarks (478, 3) in pixels."""
        return scores_of(self.movements(landmarks))


def scores_of(movements: FloatArray) -> dict[str, float]:
    """Return the scores of `SCORES`, in [0, 1], by name, of movements (32,)."""
    return {name: float(movements[MOVEMENTS.index(name)]) for name in SCORES}


_WITHOUT_SIDE = [output.removesuffix("Left").removesuffix("Right") for output in OUTPUTS]
MOVEMENTS: tuple[str, ...] = tuple(dict.fromkeys(_WITHOUT_SIDE))
"""What a face's parts do, on whichever side: the names of `OUTPUTS` with left and right as one.

The first, `_neutral`, is no movement: it stands for the face at rest. It keeps its place, so that what reads
these 32 gets all that the network says.
"""
_SIDES_AVERAGED = np.array(
    [[(name == movement) / _WITHOUT_SIDE.count(movement) for movement in MOVEMENTS] for name in _WITHOUT_SIDE],
    np.float32,
)  # (52, 32)
