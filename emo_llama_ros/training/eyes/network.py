"""emo-eyes as it is trained: a small residual network on one grey face.

The trunk has the layers of dlib's face recognition network up to its 128-channel stage (`dnn_face_recognition_ex.cpp`,
King 2017; a ResNet-29 with half the filters), so that its public-domain weights can be a start; see `pretrained`.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from emo_llama_ros.labels import FERPLUS

STAGES = ((32, 3, False), (64, 4, True), (128, 3, True))
"""Channels, residual blocks, and whether the first block halves the picture, of each stage."""
FEATURES = STAGES[-1][0]
_STEM_CHANNELS = 32
_DISAGREEMENT_START = 0.3  # about the mean over FER+


class ResidualBlock(nn.Module):
    """Two 3 × 3 convolutions beside a way around them; the way around a halving one is averaged and zero-padded."""

    def __init__(self, inputs: int, outputs: int, halve: bool) -> None:
        super().__init__()
        self.halve = halve
        self.widen = outputs - inputs
        self.conv1 = nn.Conv2d(inputs, outputs, 3, 2 if halve else 1, 0 if halve else 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, outputs, H', W')."""
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        if self.halve:
            x = F.avg_pool2d(x, 2, 2)
        if self.widen:
            x = F.pad(x, (0, 0, 0, 0, 0, self.widen))
        return F.relu(x + y)


class EmoEyes(nn.Module):
    """Logits of eight displays, expected disagreement, feature map and vector of grey face pictures."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, _STEM_CHANNELS, 7, 2, 0, bias=False)
        self.stem_norm = nn.BatchNorm2d(_STEM_CHANNELS)
        blocks, width = [], _STEM_CHANNELS
        for channels, count, halve in STAGES:
            for number in range(count):
                blocks.append(ResidualBlock(width, channels, halve and number == 0))
                width = channels
        self.blocks = nn.Sequential(*blocks)
        self.dropout = nn.Dropout(dropout)
        self.displays = nn.Linear(width, len(FERPLUS.labels))
        self.disagreement = nn.Linear(width, 1)
        nn.init.zeros_(self.disagreement.weight)
        nn.init.constant_(self.disagreement.bias, math.log(_DISAGREEMENT_START / (1 - _DISAGREEMENT_START)))

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return what the network sees in pictures (N, 1, S, S) float32, each of mean 0 and deviation about 1.

        Logits (N, 8) in the order of `labels.FERPLUS`; disagreement (N,) before the sigmoid; feature map
        (N, 128, h, w); its mean over space (N, 128).
        """
        x = F.max_pool2d(F.relu(self.stem_norm(self.stem(pictures))), 3, 2)
        features = self.blocks(x)
        vector = features.mean((2, 3))
        used = self.dropout(vector)
        return self.displays(used), self.disagreement(used).squeeze(1), features, vector


def picture_size_fits(size: int) -> bool:
    """Return whether both ways of every halving block give one size for pictures of `size` pixels."""
    side = ((size - 7) // 2 + 1 - 3) // 2 + 1
    for _, _, halve in STAGES:
        if halve:
            if side < 3 or (side - 3) // 2 + 1 != side // 2:
                return False
            side //= 2
    return True


@torch.no_grad()
def set_norms(network: EmoEyes, scales: list[tuple[Tensor, Tensor]], pictures: Tensor) -> None:
    """Turn per-channel scales and shifts into batch norms that give the same output for `pictures` (N, 1, S, S).

    The trunk's published layers scale and shift by constants; batch norms that start at the statistics of the new
    pictures keep what the trunk computes and train like any other.
    """
    handles = []
    for norm, (scale, shift) in zip(batch_norms(network), scales, strict=True):

        def adopt(module: nn.Module, inputs: tuple[Tensor], scale: Tensor = scale, shift: Tensor = shift) -> None:
            assert isinstance(module, nn.BatchNorm2d)
            mean, variance = inputs[0].mean((0, 2, 3)), inputs[0].var((0, 2, 3), unbiased=False)
            module.running_mean, module.running_var = mean, variance
            module.weight.copy_(scale * torch.sqrt(variance + module.eps))
            module.bias.copy_(shift + scale * mean)

        handles.append(norm.register_forward_pre_hook(adopt))
    network.eval()
    network(pictures)
    for handle in handles:
        handle.remove()


def convolutions(network: EmoEyes) -> list[nn.Conv2d]:
    """Return the trunk's convolutions, from the picture on."""
    return [module for module in network.modules() if isinstance(module, nn.Conv2d)]


def batch_norms(network: EmoEyes) -> list[nn.BatchNorm2d]:
    """Return the trunk's batch norms in the order of their convolutions."""
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
