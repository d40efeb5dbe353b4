"""Turn the head in a picture: the face's mesh is rotated in 3-D, and the picture is carried along with it.

After Zhu et al., "Face Alignment Across Large Poses: A 3D Solution", CVPR 2016 (face profiling): beyond the mesh the
depth of the face's outline goes on and sinks to that of the head's axis, and towards the border the picture stays where
it is. What a rotation hides is hidden by depth; skin that it brings to light is drawn out of what was seen beside it.
"""

from __future__ import annotations

import cv2
import numpy as np
from scipy.interpolate import LinearNDInterpolator
from scipy.ndimage import distance_transform_edt

from emo_llama_ros.faces.face import FloatArray
from emo_llama_ros.frames import RgbImage

TEMPLES = (127, 356, 234, 454)
"""Their middle is the axis about which the head turns."""
MESH = 468
FINE = 2
"""Samples along each side of a pixel: gaps between samples that land apart are filled from beside them."""
REACH = 0.45
"""From this distance beyond the outline, in widths of the face, the picture does not move."""


def turned(rgb: RgbImage, landmarks: FloatArray, yaw: float, pitch: float) -> tuple[RgbImage, FloatArray]:
    """Return the picture (H, W, 3) and landmarks (478, 3) with the head turned by so many degrees, see `HeadPose`.

    The camera looks from afar (orthographic), which is what the landmarks' depth presupposes.
    """
    rotation = _rotation(yaw, pitch)
    axis = landmarks[list(TEMPLES)].mean(0).astype(np.float64)
    moved = (landmarks - axis) @ rotation.T + axis
    height, width = rgb.shape[:2]
    steps = (np.arange(FINE) + 0.5) / FINE - 0.5
    y, x = np.meshgrid(
        (np.arange(height)[:, None] + steps).ravel(), (np.arange(width)[:, None] + steps).ravel(), indexing="ij"
    )
    depth, held = _depth(x, y, landmarks, float(axis[2]))
    surface = np.stack([x, y, depth], axis=-1)
    goes = (surface - axis) @ rotation.T + axis
    goes[..., :2] = held[..., None] * surface[..., :2] + (1 - held[..., None]) * goes[..., :2]
    source = _seen(goes.reshape(-1, 3), np.stack([x.ravel(), y.ravel()], axis=-1), (height, width))
    picture = cv2.remap(rgb, source[..., 0], source[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(picture, np.uint8), moved.astype(np.float32)


def _rotation(yaw: float, pitch: float) -> np.ndarray:
    """Return the rotation (3, 3) by `pitch` about x, then by `yaw` about y; x right, y down, z away from the camera."""
    a, b = np.radians(yaw), np.radians(pitch)
    about_x = np.array([[1, 0, 0], [0, np.cos(b), np.sin(b)], [0, -np.sin(b), np.cos(b)]])
    about_y = np.array([[np.cos(a), 0, -np.sin(a)], [0, 1, 0], [np.sin(a), 0, np.cos(a)]])
    return np.asarray(about_y @ about_x)


def _depth(x: np.ndarray, y: np.ndarray, landmarks: FloatArray, axis: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the depth at every sample, and how far it is held where it is: 0 on the face, 1 from REACH beyond it."""
    mesh = landmarks[:MESH].astype(np.float64)
    depth = LinearNDInterpolator(mesh[:, :2], mesh[:, 2])(x, y)
    outside = np.isnan(depth)
    apart, nearest = distance_transform_edt(outside, return_indices=True)
    share = np.clip(apart / FINE / (REACH * np.ptp(mesh[:, 0])), 0, 1)
    outline = depth[nearest[0], nearest[1]]
    return (1 - share) * outline + share * np.maximum(outline, axis), share


def _seen(goes: np.ndarray, comes: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return for each pixel where in the source it comes from (H, W, 2) float32: the nearest of what lands on it."""
    height, width = shape
    column, row = np.rint(goes[:, 0]).astype(int), np.rint(goes[:, 1]).astype(int)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    farthest_first = np.flatnonzero(inside)[np.argsort(-goes[inside, 2], kind="stable")]
    source = np.full((height, width, 2), np.nan, np.float32)
    # Of several writes to one place the last stays.
    source[row[farthest_first], column[farthest_first]] = comes[farthest_first]
    empty = np.isnan(source[..., 0])
    nearest = distance_transform_edt(empty, return_distances=False, return_indices=True)
    return np.asarray(source[nearest[0], nearest[1]], np.float32)
