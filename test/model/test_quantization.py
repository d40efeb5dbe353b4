"""Quantized layers compute what their weights say, survive saving, moving and training, and name what they refuse."""

import copy
import logging
import subprocess
import sys

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from emo_llama_ros.errors import BadCheckpoint, BadParameter, EmoError
from emo_llama_ros.model import bnb_linear, quantization
from emo_llama_ros.model.quantization import (
    as_method,
    check_entries,
    entry_names,
    quantizable_linears,
    quantize_weight,
    replace_linears,
    self_test,
    weight_bytes,
)

CPU = torch.device("cpu")


def tiny_llm(**sizes):
    torch.manual_seed(0)
    defaults = {
        "vocab_size": 64,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    return LlamaForCausalLM(LlamaConfig(**(defaults | sizes))).eval()


def quantized(llm, method, dtype=torch.float32):
    """Quantize a copy of `llm` the way the loader does."""
    llm = copy.deepcopy(llm).to(dtype)
    weights = {name: linear.weight.data for name, linear in quantizable_linears(llm)}
    for name in replace_linears(llm, method, dtype):
        llm.get_submodule(name).install(quantize_weight(weights[name], method, dtype), CPU)
    return llm.eval()


@torch.inference_mode()
def logits(llm):
    return llm(torch.arange(12)[None]).logits.float()


@pytest.mark.parametrize("method", ["nf4", "int8"])
def test_only_the_seven_linears_of_each_layer_are_quantized(method):
    llm = quantized(tiny_llm(), method)
    kinds = {name: type(module).__name__ for name, module in llm.named_modules() if not list(module.children())}
    changed = {name for name, kind in kinds.items() if kind in ("Nf4Linear", "Int8Linear")}
    assert len(changed) == 7 * 2
    assert kinds["lm_head"] == "Linear"
    assert kinds["model.embed_tokens"] == "Embedding"
    assert {name.rpartition(".")[2] for name in changed} == set(quantization.LINEARS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("method", ["nf4", "int8"])
def test_a_quantized_layer_computes_with_the_weight_it_stands_for(method, dtype):
    linear = torch.nn.Linear(128, 96, bias=False)
    llm_layer = (
        bnb_linear.Nf4Linear(128, 96, False, dtype) if method == "nf4" else bnb_linear.Int8Linear(128, 96, False)
    )
    llm_layer.install(quantize_weight(linear.weight.data, method, dtype), CPU)
    x = torch.randn(5, 128).to(dtype)
    with torch.inference_mode():
        got = llm_layer.eval()(x)
    expected = x.float() @ bnb_linear.dequantized(llm_layer).T
    assert got.dtype == dtype
    assert (got.float() - expected).norm() / expected.norm() < 0.015
    weight_error = (bnb_linear.dequantized(llm_layer) - linear.weight.data).norm() / linear.weight.data.norm()
    assert weight_error < (0.12 if method == "nf4" else 0.01)


@pytest.mark.parametrize("method", ["nf4", "int8"])
def test_a_state_dict_taken_after_running_is_the_one_taken_before(method):
    llm = quantized(tiny_llm(), method)
    before = {name: tensor.clone() for name, tensor in llm.state_dict().items()}
    first = logits(llm)
    after = llm.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert torch.equal(logits(llm), first)


@pytest.mark.skipif(not bnb_linear.has_packed_cpu_path(), reason="needs a CPU with AVX512-BF16")
def test_stock_bitsandbytes_still_loses_the_exact_weight_after_running():
    """The reason for our own layer; when this fails, it can be dropped."""
    import bitsandbytes as bnb

    entries = quantize_weight(torch.randn(64, 64), "nf4", torch.float32)
    stock = bnb.nn.Linear4bit(64, 64, bias=False, quant_type="nf4", compute_dtype=torch.float32)
    statistics = {name.removeprefix("weight."): t for name, t in entries.items() if name != "weight"}
    stock.weight = bnb.nn.Params4bit.from_prequantized(entries["weight"], statistics, device="cpu", module=stock)
    with torch.inference_mode():
        stock.eval()(torch.randn(1, 64))
    after = stock.state_dict()
    assert not all(torch.equal(after[name], entries[name]) for name in entries)


def test_moving_a_quantized_layer_after_running_keeps_its_weight():
    layer = bnb_linear.Nf4Linear(64, 64, False, torch.float32)
    layer.install(quantize_weight(torch.randn(64, 64), "nf4", torch.float32), CPU)
    exact = bnb_linear.dequantized(layer)
    with torch.inference_mode():
        layer.eval()(torch.randn(1, 64))
    moved = layer.to(CPU)
    assert moved.weight.quant_state.nested  # the exact form again, which every device can read
    assert torch.equal(bnb_linear.dequantized(moved), exact)


def test_lora_trains_on_nf4_also_after_an_evaluation_in_between():
    """Evaluating packs the weight on some CPUs; packed weights have no gradient."""
    peft = pytest.importorskip("peft")
    llm = quantized(tiny_llm(), "nf4")
    config = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    model = peft.get_peft_model(llm, config)
    layer = model.base_model.model.model.layers[0].self_attn.q_proj
    assert type(layer).__module__.endswith("lora.bnb")
    ids = torch.arange(8)[None]

    def gradients():
        model.train()
        model.zero_grad()
        model(ids, labels=ids).loss.backward()
        return [p.grad.clone() for p in model.parameters() if p.requires_grad]

    before = gradients()
    model.eval()
    logits(model)
    after = gradients()
    assert before
    assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True))
    assert any(grad.abs().max() > 0 for grad in before)


@pytest.mark.parametrize(
    ("sizes", "name"), [({"intermediate_size": 160}, "down_proj"), ({"intermediate_size": 112}, "gate_proj")]
)
def test_a_shape_that_nf4_kernels_cannot_take_is_refused_by_name(sizes, name):
    with pytest.raises(BadCheckpoint, match=rf"{name}.*quantization:=int8"):
        replace_linears(tiny_llm(**sizes), "nf4", torch.float32)


def test_int8_takes_shapes_that_nf4_cannot():
    llm = tiny_llm(intermediate_size=100)
    assert (logits(quantized(llm, "int8")) - logits(llm)).norm() / logits(llm).norm() < 0.05


def test_an_unknown_method_is_refused():
    with pytest.raises(BadParameter, match="none, nf4, int8"):
        as_method("gptq")


@pytest.mark.parametrize("method", ["nf4", "int8"])
def test_entry_names_are_those_that_bitsandbytes_writes(method):
    llm = quantized(tiny_llm(num_hidden_layers=1), method)
    prefix = "model.layers.0.mlp.up_proj."
    saved = {name.removeprefix(prefix) for name in llm.state_dict() if name.startswith(prefix)}
    assert saved == set(entry_names(method))


@pytest.mark.parametrize("method", ["nf4", "int8"])
def test_the_predicted_size_is_the_real_size(method):
    entries = quantize_weight(torch.randn(512, 1024), method, torch.bfloat16)
    real = sum(t.numel() * t.element_size() for t in entries.values())
    assert weight_bytes(512, 1024, method, 2) == pytest.approx(real, rel=0.01)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_nf4_in_slices_is_bit_by_bit_what_bitsandbytes_makes(monkeypatch, dtype):
    monkeypatch.setattr(bnb_linear, "_SLICE_WEIGHTS", 10_000)
    weight = torch.randn(320, 192).to(dtype)
    data, state = bnb_linear.bnb_functional.quantize_4bit(
        weight, blocksize=64, compress_statistics=True, quant_type="nf4"
    )
    entries = quantize_weight(weight, "nf4", dtype)
    expected = {"weight": data, **{f"weight.{name}": t for name, t in state.as_dict(packed=True).items()}}
    assert entries.keys() == expected.keys()
    assert all(torch.equal(entries[name], expected[name]) for name in expected)


def test_entries_of_another_shape_are_refused_by_name():
    entries = quantize_weight(torch.randn(64, 128), "nf4", torch.float32)
    check_entries("up_proj", entries, "nf4", (64, 128))
    with pytest.raises(BadCheckpoint, match=r"up_proj\.weight has shape"):
        check_entries("up_proj", entries, "nf4", (128, 128))
    del entries["weight.nested_absmax"]
    with pytest.raises(BadCheckpoint, match=r"lacks up_proj\.weight\.nested_absmax"):
        check_entries("up_proj", entries, "nf4", (64, 128))


@pytest.mark.parametrize("method", ["none", "nf4", "int8"])
def test_the_self_test_passes_where_the_kernels_work(method):
    self_test(CPU, method, torch.bfloat16)


@pytest.mark.parametrize("method", ["nf4", "int8"])
def test_the_self_test_explains_a_missing_kernel(monkeypatch, method):
    def fail(*_):
        raise RuntimeError("Error named symbol not found at line 449\nin file ops.cu")

    monkeypatch.setattr(quantization, "quantize_weight", fail)
    with pytest.raises(EmoError, match=rf"{method} kernel.*named symbol not found at line 449\).*quantization:="):
        self_test(CPU, method, torch.bfloat16)
    assert "COMPUTE_CAPABILITY=87" in quantization._no_kernel(torch.device("cuda"), method, "x")


@pytest.mark.parametrize("wrong", [0.0, float("nan"), 1.2])
def test_the_self_test_notices_a_kernel_that_computes_something_else(monkeypatch, wrong):
    right = bnb_linear.Nf4Linear.forward
    monkeypatch.setattr(bnb_linear.Nf4Linear, "forward", lambda self, x: right(self, x) * wrong)
    with pytest.raises(EmoError, match="its result is off"):
        self_test(CPU, "nf4", torch.float32)


def test_int8_does_not_log_a_notice_with_every_call(caplog):
    layer = bnb_linear.Int8Linear(64, 64, False)
    layer.install(quantize_weight(torch.randn(64, 64), "int8", torch.bfloat16), CPU)
    with caplog.at_level(logging.WARNING), torch.inference_mode():
        layer.eval()(torch.randn(2, 64, dtype=torch.bfloat16))
    assert not caplog.records


def test_importing_bitsandbytes_fetches_no_kernel_from_the_hub(tmp_path):
    fake = tmp_path / "kernels.py"
    fake.write_text("def get_kernel(*args, **kwargs):\n    print('FETCHED')\n    raise RuntimeError('no network')\n")
    code = (
        "import emo_llama_ros.model.bnb_linear, sys\n"
        "print('hidden' if 'kernels' not in sys.modules else 'left over')\n"
        "import kernels; print(kernels.__file__)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment_with(tmp_path)
    )
    assert "FETCHED" not in result.stdout
    assert "kernels-community" not in result.stderr
    assert result.stdout.splitlines() == ["hidden", str(fake)]


def environment_with(folder):
    import os
    from pathlib import Path

    root = Path(__file__).parents[2]
    return {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{root}"}


def test_whoever_imports_bitsandbytes_first_it_stays_offline_and_quiet(tmp_path):
    (tmp_path / "kernels.py").write_text(
        "import os\ndef get_kernel(*args, **kwargs):\n"
        "    from huggingface_hub import constants\n"
        "    print('offline:', constants.HF_HUB_OFFLINE)\n"
        "    raise OSError\n"
    )
    code = "import emo_llama_ros.model, bitsandbytes"
    environment = environment_with(tmp_path)
    environment.pop("HF_HUB_OFFLINE", None)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert result.stdout in ("", "offline: True\n")  # CPUs without AVX512-BF16 ask for no kernel
    assert "kernels" not in result.stderr
