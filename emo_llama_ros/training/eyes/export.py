"""From the trained network to the file that the node runs."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from emo_llama_ros.faces import blendshapes
from emo_llama_ros.faces.emo_eyes import INPUTS, OUTPUTS
from emo_llama_ros.training.eyes.movements import MovementLayer
from emo_llama_ros.training.eyes.network import EmoEyes


class _Published(nn.Module):
    """The network with what movements add, and with the disagreement as a number in [0, 1]."""

    def __init__(self, network: EmoEyes, layer: MovementLayer) -> None:
        super().__init__()
        self.network = network
        self.layer = layer

    def forward(self, pictures: Tensor, movements: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        logits, disagreement, features, vector = self.network(pictures)
        return logits + self.layer(movements), torch.sigmoid(disagreement), features, vector


def export(network: EmoEyes, layer: MovementLayer, size: int, path: Path) -> None:
    """Write the network for pictures of `size` pixels as ONNX with float32 weights, batch norms folded in."""
    published = _Published(network, layer).eval().cpu()
    example = (torch.zeros(2, 1, size, size), torch.zeros(2, len(blendshapes.MOVEMENTS)))
    with warnings.catch_warnings():
        # torch's older exporter needs no further package, and this network nothing of the newer one.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            published,
            example,
            str(path),
            dynamo=False,
            opset_version=17,
            input_names=list(INPUTS),
            output_names=list(OUTPUTS),
            dynamic_axes={name: {0: "faces"} for name in (*INPUTS, *OUTPUTS)},
        )
