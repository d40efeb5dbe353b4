"""From FER's 48-pixel pictures to what emo-eyes sees: framed, lit and damaged as a robot's camera would do it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from emo_llama_ros.faces.emo_eyes import FRAME, LEAST_DEVIATION


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How far pictures are changed at random. Shares are of pictures, deviations of a normal distribution."""

    rotation_deg: float = 8.5
    zoom: tuple[float, float] = (0.78, 1.08)
    """Seen share of the picture's side, log-uniform."""
    aspect: float = 0.04
    shear: float = 0.04
    shift: float = 0.1
    """Largest shift in half sides, uniform."""
    coarse_share: float = 0.15
    coarse: tuple[float, float] = (0.35, 0.7)
    """Pixels per side that are left of a coarse picture, uniform: a far face, or one out of focus."""
    gamma: float = 0.25
    """Deviation of the logarithm of the exponent."""
    side_light_share: float = 0.4
    side_light: float = 0.6
    noise: float = 8.0
    """Largest deviation in grey values, uniform."""
    hidden_share: float = 0.3
    hidden: tuple[float, float] = (0.12, 0.35)
    """Sides of the hidden rectangle relative to the picture."""


def normalized(pictures: Tensor) -> Tensor:
    """Return grey pictures (N, 1, S, S) in [0, 255] with mean 0 and deviation just under 1 each."""
    mean = pictures.mean((1, 2, 3), keepdim=True)
    return (pictures - mean) / (pictures.std((1, 2, 3), keepdim=True) + LEAST_DEVIATION)


def plain(images: Tensor, size: int, mirrored: bool = False) -> Tensor:
    """Return FER pictures (N, 48, 48) uint8 as the network sees them without augmentation, (N, 1, `size`, `size`)."""
    view = torch.tensor([[-FRAME if mirrored else FRAME, 0, 0], [0, FRAME, 0]], device=images.device)
    return normalized(_seen(images.unsqueeze(1).float(), view.expand(len(images), 2, 3), size))


def augmented(images: Tensor, size: int, how: Augmentation) -> Tensor:
    """Return FER pictures (N, 48, 48) uint8 changed at random, as the network sees them, (N, 1, `size`, `size`)."""
    pictures = _seen(_coarse(images.unsqueeze(1).float(), how), _random_views(len(images), how, images.device), size)
    return _hidden(normalized(_lit(pictures, how)), how)


def _seen(pictures: Tensor, views: Tensor, size: int) -> Tensor:
    grid = F.affine_grid(views, [len(pictures), 1, size, size], align_corners=False)
    return F.grid_sample(pictures, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _random_views(count: int, how: Augmentation, device: torch.device) -> Tensor:
    def uniform(low: float, high: float) -> Tensor:
        return torch.empty(count, device=device).uniform_(low, high)

    def normal(deviation: float) -> Tensor:
        return torch.randn(count, device=device) * deviation

    angle = normal(math.radians(how.rotation_deg))
    zoom = torch.exp(uniform(math.log(how.zoom[0]), math.log(how.zoom[1])))
    aspect, shear = torch.exp(normal(how.aspect)), normal(how.shear)
    mirror = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    cos, sin = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    x = torch.stack([cos * mirror * aspect, shear - sin, uniform(-how.shift, how.shift)], 1)
    y = torch.stack([sin * mirror * aspect, cos / aspect, uniform(-how.shift, how.shift)], 1)
    return torch.stack([x, y], 1)


def _coarse(pictures: Tensor, how: Augmentation) -> Tensor:
    chosen = torch.rand(len(pictures), device=pictures.device) < how.coarse_share
    if not bool(chosen.any()):
        return pictures
    side = pictures.shape[-1]
    low, high = how.coarse
    left = max(2, round(side * (low + (high - low) * float(torch.rand(())))))
    small = F.interpolate(pictures[chosen], size=left, mode="bilinear", antialias=True)
    pictures = pictures.clone()
    pictures[chosen] = F.interpolate(small, size=side, mode="bilinear")
    return pictures


def _lit(pictures: Tensor, how: Augmentation) -> Tensor:
    """Return pictures under another exposure, with light from one side, and with sensor noise."""
    count, device = len(pictures), pictures.device

    def each(values: Tensor) -> Tensor:
        return values.to(device).view(count, 1, 1, 1)

    exponent = each(torch.exp(torch.randn(count) * how.gamma))
    pictures = 255 * (pictures.clamp(1, 255) / 255) ** exponent
    angle = each(torch.rand(count) * 2 * math.pi)
    strength = each(torch.rand(count) * how.side_light * (torch.rand(count) < how.side_light_share))
    across = torch.linspace(-1, 1, pictures.shape[-1], device=device)
    ramp = torch.cos(angle) * across.view(1, 1, 1, -1) + torch.sin(angle) * across.view(1, 1, -1, 1)
    noise = torch.randn_like(pictures) * each(torch.rand(count) * how.noise)
    return (pictures * (1 + strength * ramp) + noise).clamp(0, 255)


def _hidden(pictures: Tensor, how: Augmentation) -> Tensor:
    """Return normalized pictures of which some have a rectangle of one grey."""
    side = pictures.shape[-1]
    low, high = how.hidden
    for number in torch.nonzero(torch.rand(len(pictures)) < how.hidden_share).flatten().tolist():
        height, width = (int(side * (low + (high - low) * v)) for v in torch.rand(2).tolist())
        top, left = (int(v * (side - part)) for v, part in zip(torch.rand(2).tolist(), (height, width), strict=True))
        pictures[number, :, top : top + height, left : left + width] = torch.randn(()) * 0.7
    return pictures
