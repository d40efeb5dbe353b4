"""Camera frames of a crowd: the faces of the sample media, side by side in one picture."""

from __future__ import annotations

import math
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

from emo_llama_ros.faces.embedded import EmbeddedAnalyzer
from emo_llama_ros.frames import RgbImage
from emo_llama_ros.install.fetch import media_file
from emo_llama_ros.options import Options

PICTURES = ("0-f1-su-ph.jpg", "0-f15-hao-ph.jpg", "15-f13-anc-ph.jpg", "single_face.jpg", "multi_face.jpg")
WIDTH, HEIGHT = 640, 480
LOOP = 60
_MARGIN = 0.6
_SWAY_PX, _SWAY_FRAMES = 4, 30


@cache
def portraits() -> tuple[RgbImage, ...]:
    """Return a square picture (H, H, 3) of each person in the sample media; raise MissingModel without the media."""
    analyzer, found = EmbeddedAnalyzer(Options()), []
    for name in PICTURES:
        rgb = cv2.cvtColor(cv2.imread(str(media_file(name))), cv2.COLOR_BGR2RGB)
        for face in analyzer.analyze(rgb):
            side = (1 + 2 * _MARGIN) * max(face.box.width, face.box.height)
            x, y = face.box.x + face.box.width / 2, face.box.y + face.box.height / 2
            found.append(cv2.getRectSubPix(rgb, (int(side), int(side)), (x, y)))
    return tuple(found)


def frames(people: int, first: int = 0) -> list[npt.NDArray[np.uint8]]:
    """Return LOOP rgb8 messages (H * W * 3,) of 640 x 480 with `people` swaying faces, beginning with person `first`.

    There are only so many people in the sample media; the first ones come again when they run out.
    """
    if people == 0:
        return [np.full(HEIGHT * WIDTH * 3, 90, np.uint8)] * LOOP
    columns = math.ceil(math.sqrt(people * WIDTH / HEIGHT))
    side = min(WIDTH // columns, HEIGHT // math.ceil(people / columns))
    known = portraits()
    tiles = [cv2.resize(known[(first + n) % len(known)], (side, side)) for n in range(people)]
    pictures = []
    for frame in range(LOOP):
        picture = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
        for n, tile in enumerate(tiles):
            phase = 2 * math.pi * (frame / _SWAY_FRAMES + n / people)
            shift = round(_SWAY_PX * math.sin(phase)), round(_SWAY_PX * math.cos(phase))
            x, y = n % columns * side, n // columns * side
            picture[y : y + side, x : x + side] = np.roll(tile, shift, axis=(0, 1))
        pictures.append(picture.reshape(-1))
    return pictures
