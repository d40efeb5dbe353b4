"""The same promises on a GPU: kernels that compute, weights that survive moving, a load that fits its prediction."""

import pytest
import torch

from emo_llama_ros.model import bnb_linear
from emo_llama_ros.model.loading import load_model, save_model
from emo_llama_ros.model.memory import free_memory, release_memory
from emo_llama_ros.model.quantization import quantize_weight, self_test

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
]

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("method", ["nf4", "int8"])
def test_the_kernels_compute(method, dtype):
    self_test(GPU, method, dtype)


@pytest.mark.parametrize("method", ["nf4", "int8"])
@torch.inference_mode()
def test_a_layer_that_ran_on_the_cpu_computes_the_same_on_the_gpu(method):
    layer = (
        bnb_linear.Nf4Linear(128, 96, False, torch.float16)
        if method == "nf4"
        else bnb_linear.Int8Linear(128, 96, False)
    )
    layer.install(quantize_weight(torch.randn(96, 128), method, torch.float16), CPU)
    x = torch.randn(5, 128, dtype=torch.float16)
    expected = layer.eval()(x).float()
    exact = bnb_linear.dequantized(layer)
    layer = layer.to(GPU)
    assert torch.equal(bnb_linear.dequantized(layer).cpu(), exact)
    got = layer(x.to(GPU)).float().cpu()
    assert (got - expected).norm() / expected.norm() < 0.015


@pytest.mark.parametrize("method", ["none", "nf4", "int8"])
@torch.inference_mode()
def test_a_model_loaded_on_the_gpu_is_the_one_loaded_on_the_cpu(tiny_checkpoints, tmp_path, method):
    on_gpu, report = load_model(tiny_checkpoints.ours(quantization=method), device="cuda", dtype="float16")
    on_cpu, _ = load_model(tiny_checkpoints.ours(quantization=method), device="cpu", dtype="float32")
    assert report.placement.device.type == "cuda"
    assert {tensor.device.type for tensor in (*on_gpu.parameters(), *on_gpu.buffers())} == {"cuda"}
    ids = torch.arange(3, 20)[None]
    expected = on_cpu.language_model(ids).logits
    got = on_gpu.language_model(ids.to(GPU)).logits.float().cpu()
    assert (got - expected).norm() / expected.norm() < 0.03
    save_model(on_gpu, tmp_path / "from_gpu")
    again, _ = load_model(tmp_path / "from_gpu", device="cuda", dtype="float16")
    assert torch.equal(again.language_model(ids.to(GPU)).logits, on_gpu.language_model(ids.to(GPU)).logits)


@pytest.mark.parametrize("method", ["nf4", "int8"])
def test_quantizing_on_the_gpu_gives_the_weights_of_the_cpu(method):
    weight = torch.randn(256, 512)
    a, b = (quantize_weight(weight.to(device), method, torch.float16) for device in (CPU, GPU))
    assert a.keys() == b.keys()
    for name in a:
        if a[name].dtype in (torch.uint8, torch.int8) and "quant_state" not in name:
            # The mean scale is summed in another order, which turns the rounding of a few scales.
            assert (a[name] != b[name].cpu()).float().mean() < 0.01, name


def test_released_memory_counts_as_free():
    release_memory()
    before = free_memory(GPU).free
    block = torch.empty(200_000_000, dtype=torch.uint8, device=GPU)
    assert free_memory(GPU).free < before - 100_000_000
    del block
    assert free_memory(GPU).free >= before - 50_000_000
    release_memory()
