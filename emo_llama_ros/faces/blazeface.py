"""BlazeFace: find faces and six points of each.

Sources: Bazarevsky et al., "BlazeFace: Sub-millisecond Neural Face Detection on Mobile GPUs", 2019 (anchors, §3.2;
blending instead of suppression, §3.4); the anchor and decoding options that MediaPipe publishes for its back-camera
variant (`mediapipe/graphs/face_detection`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from emo_llama_ros.faces.face import Box, FloatArray
from emo_llama_ros.faces.litert import LiteRtNetwork
from emo_llama_ros.frames import RgbImage
from emo_llama_ros.images.bounds import LONGEST_SHAPE

FAR_NETWORK_FILE = "face_detection_back.tflite"
NEAR_NETWORK_FILE = "face_detection_front.tflite"
ANCHORS_PER_CELL = {16: 2, 8: 6}
"""Cells along one side of the network's input → anchors in each cell; all have the input's own size."""
NEAR_FILL = 0.7
"""Share of the near network's input that the image fills. The black border around it makes room for faces that reach
up to the image's border or beyond: neither network knows a face that is larger than its input."""
MIN_SCORE = 0.5
SAME_FACE_OVERLAP = 0.3
"""Intersection over union from which two finds are one face."""
TILED_FROM_PX = 1300
"""Images with a longer side are also searched in square tiles: in one piece, faces under 50 pixels would be
missed there."""
TILE_OVERLAP = 0.2
MAX_TILES = 8
"""Longer strips than that many squares get longer tiles, so no image costs more than nine searches of the far
network and one of the near."""


@dataclass(frozen=True, slots=True)
class Detection:
    """A found face: box and points in pixels of the full image."""

    box: Box
    """Square, from the middle of the forehead to the chin."""
    score: float
    """In [0, 1]."""
    points: FloatArray
    """(6, 2) float32: the eye on the image's left, the other eye, nose tip, mouth, ear on the left, other ear."""


@dataclass(frozen=True, slots=True)
class _Finds:
    """Candidates before blending, in pixels of the full image."""

    scores: FloatArray  # (N,)
    boxes: FloatArray  # (N, 2, 2): top-left and bottom-right corner
    points: FloatArray  # (N, 6, 2)


class BlazeFace:
    """Find every face in an image, from about 24 pixels' width in VGA (`benchmarks/faces.py --quality` prints it) to
    faces that reach over the image's border.

    Two of MediaPipe's networks share the work. `far`, for the back camera (256 × 256), looks for small and middle
    faces; its short- and full-range variants cost less, but miss faces under 60 and 45 pixels. `near`, for the front
    camera (128 × 128, a fifth of the cost), looks at the whole image made small for faces that fill it.
    """

    def __init__(self, far: Path, near: Path, threads: int = 1) -> None:
        self._far = _Searcher(far, threads, fill=1.0)
        self._near = _Searcher(near, threads, fill=NEAR_FILL)

    def detect(self, rgb: RgbImage) -> list[Detection]:
        """Return the faces of an RGB uint8 image (H, W, 3), best score first, each once."""
        short, long = sorted(rgb.shape[:2])
        # In an image longer than that no face fits into the short side.
        tiled = TILED_FROM_PX < long <= LONGEST_SHAPE * short
        # Shrinking is the dearer part for large images, so it starts from halves that all searches share.
        zoom = 1
        while min(rgb.shape[:2]) >= 4 * zoom * self._far.size:
            zoom *= 2
        small = _shrunk(rgb, zoom)
        places = [(small, 0, 0), *(_tiles(small) if tiled else [])]
        finds = [self._near.search(small, 0, 0, zoom), *(self._far.search(tile, x, y, zoom) for tile, x, y in places)]
        return _blend(
            _Finds(
                np.concatenate([f.scores for f in finds]),
                np.concatenate([f.boxes for f in finds]),
                np.concatenate([f.points for f in finds]),
            )
        )


class _Searcher:
    """One detection network, which sees an image or a tile so that it fills a share of the input's side."""

    def __init__(self, path: Path, threads: int, fill: float) -> None:
        self._network = LiteRtNetwork(path, threads)
        self.size = self._network.input_shape[1]
        self._fill = fill
        self._anchors = _anchor_centres(self.size)

    def search(self, rgb: RgbImage, x: int, y: int, shrunk: int) -> _Finds:
        """Return the candidates in an image or tile with the top-left pixel (x, y), shrunk by a whole number."""
        import cv2

        height, width = rgb.shape[:2]
        zoom = self._fill * self.size / max(height, width)
        w, h = max(1, round(width * zoom)), max(1, round(height * zoom))
        left, top = (self.size - w) // 2, (self.size - h) // 2
        square = np.zeros((self.size, self.size, 3), np.uint8)
        square[top : top + h, left : left + w] = cv2.resize(
            rgb, (w, h), interpolation=cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR
        )
        values = square[None].astype(np.float32) / np.float32(127.5) - np.float32(1)  # (1, S, S, 3)
        offsets, logits = self._network(values)  # (A, 16), (A, 1)
        scores = 1 / (1 + np.exp(-np.clip(logits[:, 0], -80, 80)))
        found = scores >= MIN_SCORE
        pairs = offsets[found].reshape(-1, 8, 2)  # centre and six points from the anchor, size in between
        anchors = self._anchors[found][:, None]
        half = pairs[:, 1:2] / 2
        centres = pairs[:, 0:1] + anchors
        corners = np.concatenate([centres - half, centres + half], 1)
        shift, origin = np.array([left, top]), np.array([x, y]) * shrunk
        to_image = np.array([width / w, height / h]) * shrunk
        return _Finds(
            scores[found].astype(np.float32),
            ((corners - shift) * to_image + origin).astype(np.float32),
            ((pairs[:, 2:] + anchors - shift) * to_image + origin).astype(np.float32),
        )


def _shrunk(rgb: RgbImage, zoom: int) -> RgbImage:
    import cv2

    if zoom == 1:
        return rgb
    height, width = rgb.shape[:2]
    return np.asarray(cv2.resize(rgb, (width // zoom, height // zoom), interpolation=cv2.INTER_AREA), np.uint8)


def _anchor_centres(size: int) -> FloatArray:
    """Return the centres (A, 2) of all anchors in pixels of the input, in the order of the network's outputs."""
    centres: list[npt.NDArray[np.float64]] = []
    for cells, count in ANCHORS_PER_CELL.items():
        y, x = (np.mgrid[0:cells, 0:cells] + 0.5) * (size / cells)
        centres.append(np.repeat(np.stack([x.ravel(), y.ravel()], 1), count, 0))
    return np.concatenate(centres).astype(np.float32)


def _tiles(rgb: RgbImage) -> list[tuple[RgbImage, int, int]]:
    """Return overlapping tiles that cover the image, each with its top-left pixel (x, y).

    They are squares of its short side; in strips that need more than MAX_TILES of these, longer pieces.
    """
    height, width = rgb.shape[:2]
    side, length = min(height, width), max(height, width)
    count = int(np.clip(np.ceil((length / side - TILE_OVERLAP) / (1 - TILE_OVERLAP)), 1, MAX_TILES))
    step = max(side, int(np.ceil(length / (count - (count - 1) * TILE_OVERLAP))))
    starts = np.linspace(0, length - step, count).astype(int)
    if width >= height:
        return [(rgb[:, s : s + step], int(s), 0) for s in starts]
    return [(rgb[s : s + step], 0, int(s)) for s in starts]


def _blend(finds: _Finds) -> list[Detection]:
    """Return one detection for each group of overlapping candidates: their mean, weighted by score."""
    order = np.argsort(-finds.scores, kind="stable")
    low, high = finds.boxes[:, 0], finds.boxes[:, 1]
    area = np.prod(high - low, axis=1)
    faces = []
    while len(order):
        best = order[0]
        common = np.minimum(high[best], high[order]) - np.maximum(low[best], low[order])
        shared = np.prod(np.clip(common, 0, None), axis=1)
        same = shared > SAME_FACE_OVERLAP * (area[best] + area[order] - shared)
        same[0] = True
        group = order[same]
        weights = finds.scores[group] / finds.scores[group].sum()
        (x0, y0), (x1, y1) = np.einsum("n,nij->ij", weights, finds.boxes[group]).tolist()
        points = np.einsum("n,nij->ij", weights, finds.points[group]).astype(np.float32)
        faces.append(Detection(Box(x0, y0, x1 - x0, y1 - y0), float(finds.scores[best]), points))
        order = order[~same]
    return faces
