"""Square pictures of a face: upright ones for the networks, the margin crop for the language model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from emo_llama_ros.faces.face import Box, FloatArray
from emo_llama_ros.frames import RgbImage

CROP_SIZE = 224
CROP_MARGIN = 0.25
PADDING_RGB = (122, 116, 104)
"""The mean colour of the CLIP normalisation, with which LLaMA-VID pads pictures to a square."""

_PADDING = np.full((CROP_SIZE, CROP_SIZE, 3), PADDING_RGB, np.uint8)
EVEN_MEAN, EVEN_CONTRAST = 118.0, 48.0
"""Median mean and standard deviation of the grey values of the faces in the sample media."""

LEFT_EYE, RIGHT_EYE = 33, 263
"""Outer eye corners of the face mesh, on the image's left and right."""
NASION, NOSE_BASE = 168, 2
EYE_CORNERS_TO_CENTRES = 1.41
"""Distance of the outer eye corners over that of the eyes' centres, in `pose.TEMPLATE`."""


@dataclass(frozen=True, slots=True)
class Roi:
    """A turned square in pixels of the full image: centre, side, and angle in radians, positive is clockwise."""

    x: float
    y: float
    side: float
    angle: float = 0.0

    def matrix(self, size: int) -> npt.NDArray[np.float64]:
        """Return the (2, 3) affine map from the image to an upright square picture of `size` pixels.

        Whole numbers are pixel centres, as in cv2.warpAffine.
        """
        cos, sin, zoom = np.cos(self.angle), np.sin(self.angle), size / max(self.side, 1.0)
        turn = zoom * np.array([[cos, sin], [-sin, cos]])
        shift = (size - 1) / 2 - turn @ np.array([self.x, self.y])
        return np.column_stack([turn, shift])


def cut(image: npt.NDArray[np.uint8], roi: Roi, size: int, repeat_edge: bool = False) -> npt.NDArray[np.uint8]:
    """Return the upright picture (size, size[, C]) of what `roi` holds.

    Where it reaches over the image's border it is black, or repeats the border's pixels.
    """
    import cv2

    # Bilinear sampling skips pixels when it shrinks by more than two, so large faces are sampled finer and averaged.
    fine = size * max(1, min(8, int(roi.side / size)))
    border = cv2.BORDER_REPLICATE if repeat_edge else cv2.BORDER_CONSTANT
    picture: Any = cv2.warpAffine(image, roi.matrix(fine), (fine, fine), flags=cv2.INTER_LINEAR, borderMode=border)
    return picture if fine == size else cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)


def even_light(grey: npt.NDArray[np.uint8]) -> FloatArray:
    """Return a grey face picture with the mean and contrast of a well-lit one, float32 in [0, 255].

    Without it a face in half light reads as fear or sadness: at a fifth of the light 12 % of the labels on the sample
    media change, with it none.
    """
    values = grey.astype(np.float32)
    return np.clip((values - values.mean()) * (EVEN_CONTRAST / max(float(values.std()), 1.0)) + EVEN_MEAN, 0, 255)


def angle_between(left: FloatArray, right: FloatArray) -> float:
    """Return the clockwise angle in radians of the line from `left` to `right`, (x, y[, z]) in pixels."""
    return float(np.arctan2(right[1] - left[1], right[0] - left[0]))


@dataclass(frozen=True, slots=True)
class FaceAxes:
    """Where a face is, how large and how turned, unmoved by what mouth and brows do."""

    x: float
    y: float
    """Midpoint of the eyes in pixels of the full image."""
    unit: float
    """Distance of the outer eye corners in 3-D, in pixels."""
    angle: float
    """Radians from the image's x axis to the line through the eyes, clockwise."""

    def roi(self, scale: float, drop: float) -> Roi:
        """Return the upright square of `scale` units per side whose centre lies `drop` units below the eyes."""
        down = drop * self.unit
        return Roi(
            self.x - float(np.sin(self.angle)) * down,
            self.y + float(np.cos(self.angle)) * down,
            scale * self.unit,
            self.angle,
        )


def mesh_axes(mesh: FloatArray) -> FaceAxes:
    """Return the axes of a face mesh (478, 3).

    The unit is the distance of the outer eye corners in 3-D, which head turns leave alone, or 1.7 times the nose length
    where depth fails.
    """
    left, right = mesh[LEFT_EYE], mesh[RIGHT_EYE]
    unit = max(float(np.linalg.norm(right - left)), 1.7 * float(np.linalg.norm(mesh[NASION] - mesh[NOSE_BASE])))
    x, y = ((left[:2] + right[:2]) / 2).tolist()
    return FaceAxes(x, y, unit, angle_between(left, right))


def eye_axes(left_eye: FloatArray, right_eye: FloatArray) -> FaceAxes:
    """Return the axes of a face of which only the centres of the eyes are known, (2,) pixels, image left first."""
    x, y = ((left_eye + right_eye) / 2).tolist()
    unit = float(np.linalg.norm(right_eye - left_eye)) * EYE_CORNERS_TO_CENTRES
    return FaceAxes(x, y, unit, angle_between(left_eye, right_eye))


def face_roi(mesh: FloatArray, scale: float, drop: float) -> Roi:
    """Return the upright square of `scale` units around a face mesh, `drop` units below its eyes; see `FaceAxes`."""
    return mesh_axes(mesh).roi(scale, drop)


def margin_crop(rgb: RgbImage, box: Box) -> RgbImage:
    """Return `box` with CROP_MARGIN on each side as (224, 224, 3), padded to a square with PADDING_RGB.

    What lies beyond the image's border is padding too.
    """
    import cv2

    height, width = rgb.shape[:2]
    wide, high = box.width * (1 + 2 * CROP_MARGIN), box.height * (1 + 2 * CROP_MARGIN)
    x, y = box.x + box.width / 2, box.y + box.height / 2
    side = max(wide, high, 2.0)
    x0, x1 = (int(np.clip(round(v), 0, width)) for v in (x - wide / 2, x + wide / 2))
    y0, y1 = (int(np.clip(round(v), 0, height)) for v in (y - high / 2, y + high / 2))
    crop = _PADDING.copy()
    zoom = CROP_SIZE / side
    left, right = (_place(v, x - side / 2, zoom) for v in (x0, x1))
    top, bottom = (_place(v, y - side / 2, zoom) for v in (y0, y1))
    if right > left and bottom > top:
        how = cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC
        crop[top:bottom, left:right] = cv2.resize(rgb[y0:y1, x0:x1], (right - left, bottom - top), interpolation=how)
    return crop


def _place(pixel: int, origin: float, zoom: float) -> int:
    return int(np.clip(round((pixel - origin) * zoom), 0, CROP_SIZE))
