"""The public-domain trunk is read as dlib writes it, and the network then computes what dlib's layers compute."""

import struct

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the 'model' extra")
import torch.nn.functional as F

from emo_llama_ros.errors import BadCheckpoint
from emo_llama_ros.training.eyes.network import EmoEyes, convolutions
from emo_llama_ros.training.eyes.pretrained import GREY_DEVIATION, parameter_tensors, start_from_trunk


def written(values: np.ndarray) -> bytes:
    """Return a flat tensor as `dlib::serialize` writes it."""

    def number(value: int) -> bytes:
        length = (value.bit_length() + 7) // 8
        return bytes([length]) + value.to_bytes(length, "little")

    header = b"".join(number(value) for value in (2, len(values), 1, 1, 1))
    return header + struct.pack(f"<{len(values)}f", *values)


@pytest.fixture(scope="module")
def layers() -> list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Kernel, bias, scale and shift of each layer, with three colours in the first."""
    random = np.random.default_rng(5)
    made = []
    for number, convolution in enumerate(convolutions(EmoEyes())):
        outputs, inputs, height, width = convolution.weight.shape
        shape = (outputs, 3 if number == 0 else inputs, height, width)
        kernel = random.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
        made.append((kernel, *(random.normal(m, 0.1, outputs) for m in (0, 1, 0))))
    return [tuple(part.astype(np.float32) for part in layer) for layer in made]


@pytest.fixture
def trunk(layers, tmp_path):
    path = tmp_path / "trunk.dat"
    name = b"\x01\x01\x01\x0dloss_metric_2\x03\x0a\xd7\xa3\x81\x1c\x01\x02\x01\x02\x01\x02\x01\x02\x01"
    data = [name]
    for kernel, bias, scale, shift in layers:
        data += [written(np.concatenate([kernel.ravel(), bias])), b"\x01\x01\x05con_4\x01\x07"]
        data += [written(np.concatenate([scale, shift])), b"\x01\x02\x01\x03"]
    path.write_bytes(b"".join(data))
    return path


def reference(layers, grey: torch.Tensor) -> torch.Tensor:
    """Compute dlib's layers on a grey picture, (N, 1, S, S) around 0 in grey values over 256, in all three colours."""
    remaining = iter([tuple(torch.from_numpy(part) for part in layer) for layer in layers])

    def layer(x, stride, padding):
        kernel, bias, scale, shift = next(remaining)
        x = F.conv2d(x, kernel, bias, stride, padding)
        return x * scale.view(1, -1, 1, 1) + shift.view(1, -1, 1, 1)

    x = F.max_pool2d(F.relu(layer(grey.expand(-1, 3, -1, -1), 2, 0)), 3, 2)
    for width, blocks in ((32, 3), (64, 4), (128, 3)):
        for number in range(blocks):
            halve = width > 32 and number == 0
            y = layer(F.relu(layer(x, 2 if halve else 1, 0 if halve else 1)), 1, 1)
            around = F.avg_pool2d(x, 2, 2) if halve else x
            x = F.relu(y + F.pad(around, (0, 0, 0, 0, 0, width - around.shape[1])))
    return x


def test_the_network_computes_what_dlibs_layers_compute(layers, trunk):
    pictures = torch.randn(4, 1, 67, 67)
    network = EmoEyes()
    start_from_trunk(network, trunk, pictures)
    with torch.no_grad():
        _, _, features, _ = network.eval()(pictures)
    assert torch.allclose(features, reference(layers, pictures * (GREY_DEVIATION / 256)), atol=2e-3, rtol=1e-3)


def test_only_parameter_tensors_are_read(layers, trunk):
    tensors = parameter_tensors(trunk.read_bytes())
    assert [t.size for t in tensors[:2]] == [layers[0][0].size + 32, 64]
    assert len(tensors) == 2 * len(layers)


def test_a_file_that_ends_early_is_refused_with_the_layer_named(trunk):
    trunk.write_bytes(trunk.read_bytes()[:200_000])
    with pytest.raises(BadCheckpoint, match="ends before layer"):
        start_from_trunk(EmoEyes(), trunk, torch.randn(2, 1, 67, 67))


def test_another_network_is_refused(trunk):
    trunk.write_bytes(written(np.ones(500, np.float32)) + trunk.read_bytes())
    with pytest.raises(BadCheckpoint, match="layer 1 has another size"):
        start_from_trunk(EmoEyes(), trunk, torch.randn(2, 1, 67, 67))
