"""emo-eyes, the facial analysis network of this package: what a face shows, and how far people would disagree about it.

One grey, upright picture of the face goes in, as it is and mirrored, and how its parts have moved, where that is known.
The network was trained on the votes of ten people a face (`training.eyes`), so a probability is the share of people who
would choose that display. Its file and all that was measured when it was made lie in FOLDER, and are checked before
use.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from emo_llama_ros.checksums import file_sha256
from emo_llama_ros.errors import MissingModel
from emo_llama_ros.faces import blendshapes
from emo_llama_ros.faces.alignment import FaceAxes, cut
from emo_llama_ros.faces.expression import Reading
from emo_llama_ros.faces.face import FloatArray
from emo_llama_ros.faces.onnx_network import open_session
from emo_llama_ros.frames import RgbImage
from emo_llama_ros.labels import FERPLUS, RAF_DB

FOLDER = Path(__file__).parent / "networks" / "emo_eyes"
INPUTS = ("pictures", "movements")
"""(N, 1, S, S), normalized, and (N, 32) in the order of blendshapes.MOVEMENTS, NaN where a face's are not known."""
OUTPUTS = ("logits", "disagreement", "features", "vector")
"""(N, 8) in the order of labels.FERPLUS; (N,) in [0, 1]; (N, 128, h, w); (N, 128), the features' mean over space."""
FORMAT = "emo_llama_ros/eyes/2"
NETWORK_FILE = "eyes.onnx"
MANIFEST = "manifest.json"
CHECKSUMS = "checksums.json"
TRAINING_LOG = "training_log.jsonl"

EMBEDDING_SIZE = 128
FER_SCALE, FER_DROP = 1.89, 0.20
"""The square that FER2013's pictures show, see `FaceAxes.roi`: medians over the landmarks of FER's own faces."""
FRAME = 0.92
"""Share of a FER picture's side that the network sees."""
LEAST_DEVIATION = 4.0
"""Added to a picture's deviation in grey values, so that the noise of a blank picture does not become a face."""
_SEVEN = [FERPLUS.labels.index(label) for label in RAF_DB.labels]
_CONTEMPT = FERPLUS.labels.index("contempt")
_UNKNOWN = np.full(len(blendshapes.MOVEMENTS), np.nan, np.float32)


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a trained network says of itself."""

    size: int
    """Pixels per side of the pictures that it sees."""
    prior: FloatArray
    """(8,): frequency of the displays in training, order of labels.FERPLUS."""
    operating_point: float
    """Exponent of the prior that was chosen when it was trained."""
    temperatures: tuple[tuple[float, float], ...]
    """(exponent, temperature) of every measured operating point, exponents rising."""
    measured: str
    """Accuracy of the chosen point, and on what, in a few words."""

    def temperature(self, exponent: float) -> float:
        """Return the temperature that was fitted on votes, interpolated between points."""
        exponents, temperatures = zip(*self.temperatures, strict=True)
        return float(np.interp(exponent, exponents, temperatures))


class EmoEyes:
    """Reads a face with emo-eyes.

    `operating_point` is the exponent of the displays' frequency that is added to the logits, None takes the one chosen
    in training: 1 follows the frequency in everyday pictures and is right most often, 0 takes every display for equally
    likely and finds the rare ones. The probabilities are calibrated on votes at each. `threads` is onnxruntime's.

    Raises MissingDependency without onnxruntime, and MissingModel when the folder's files are absent or damaged. Not
    thread-safe: use one object per thread.
    """

    name = "emo-eyes"

    def __init__(self, folder: Path = FOLDER, operating_point: float | None = None, threads: int = 1) -> None:
        self.manifest = read_manifest(folder)
        self._session = open_session(folder / NETWORK_FILE, threads)
        point = self.manifest.operating_point if operating_point is None else operating_point
        self._shift = np.log(self.manifest.prior) * point
        self._temperature = self.manifest.temperature(point)

    def read(
        self, rgb: RgbImage, grey: npt.NDArray[np.uint8], axes: FaceAxes, movements: FloatArray | None = None
    ) -> Reading:
        """Return the mean reading of the face and its mirror image; see `ExpressionReader`."""
        roi = axes.roi(FER_SCALE * FRAME, FER_DROP)
        return self.read_picture(cut(grey, roi, self.manifest.size, repeat_edge=True), movements)

    def read_picture(self, picture: npt.NDArray[np.uint8], movements: FloatArray | None = None) -> Reading:
        """Return the reading of an upright grey picture (S, S) uint8, framed as FER2013's are but for their edge."""
        upright = normalized(picture)
        views = np.stack([upright, upright[:, ::-1]])[:, None]
        moved = _UNKNOWN if movements is None else movements.astype(np.float32)
        logits, disagreement, features, vector = self._session.run(
            list(OUTPUTS), dict(zip(INPUTS, (views, np.stack([moved, moved])), strict=True))
        )
        displays = softmax((logits.mean(0) + self._shift) / self._temperature)
        seven = displays[_SEVEN]
        return Reading(
            (seven / seven.sum()).astype(np.float32),
            vector.mean(0),
            contempt=float(displays[_CONTEMPT]),
            disagreement=float(disagreement.mean()),
            # Seen from the viewer's side, like the picture; the mirrored features are turned back.
            features=(features[0] + features[1, :, :, ::-1]) / 2,
        )


def normalized(picture: npt.NDArray[np.uint8]) -> FloatArray:
    """Return a grey picture (S, S) with mean 0 and deviation just under 1, as the network was trained."""
    values = picture.astype(np.float32)
    return (values - values.mean()) / (values.std(ddof=1) + np.float32(LEAST_DEVIATION))


def read_manifest(folder: Path) -> Manifest:
    """Return what the network in `folder` says of itself; raise MissingModel when files are absent or damaged."""
    advice = "install emo_llama_ros again, or train it with `emo_llama train config/train/eyes.yaml`"
    try:
        sums: dict[str, str] = json.loads((folder / CHECKSUMS).read_text(encoding="utf-8"))
        for name, digest in sums.items():
            if file_sha256(folder / name) != digest:
                raise MissingModel(f"{folder / name} is damaged (its SHA-256 differs); {advice}.")
        raw: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if raw["format"] != FORMAT or tuple(raw["labels"]) != FERPLUS.labels:
            raise MissingModel(f"{folder} holds a network of another format ({raw['format']}); {advice}.")
        points = raw["points"]
        chosen = next(point for point in points if point["exponent"] == raw["operating_point"])
        return Manifest(
            int(raw["size"]),
            np.array(raw["prior"], np.float32),
            float(raw["operating_point"]),
            tuple((float(point["exponent"]), float(point["temperature"])) for point in points),
            f"accuracy {chosen['accuracy']:.3f}, UAR {chosen['uar']:.3f} on {raw['measured_on']}",
        )
    except OSError as error:
        raise MissingModel(f"emo-eyes is not in {folder} ({error.strerror}); {advice}.") from None
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration):
        raise MissingModel(f"The files of emo-eyes in {folder} are damaged; {advice}.") from None
