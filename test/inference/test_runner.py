import pytest
import torch

from emo_llama_ros.inference.runner import LlamaRunner


def random_llama(**changes):
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(3)
    settings = {
        "hidden_size": 128,
        "intermediate_size": 192,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "vocab_size": 100,
        "max_position_embeddings": 256,
        "initializer_range": 0.1,
        "pad_token_id": 0,
    }
    return LlamaForCausalLM(LlamaConfig(**{**settings, **changes})).eval()


@torch.inference_mode()
def difference(llm, dtype=torch.float32):
    embeds = torch.randn(1, 20, 128, dtype=dtype)
    want = llm(inputs_embeds=embeds).logits[0, -1].float()
    runner = LlamaRunner(llm)
    cache = runner.new_cache(1, 64)
    runner.extend(embeds[:, :9], cache, 0)
    runner.extend(embeds[:, 9:13], cache, 9)
    runner.extend(torch.randn(1, 5, 128, dtype=dtype), cache, 13)  # overwritten by what follows
    got = runner.extend(embeds[:, 13:], cache, 13).float()
    fused = llm(inputs_embeds=embeds).logits[0, -1].float()
    assert (fused - want).abs().max() < 1e-5 if dtype == torch.float32 else True
    return ((got - want).norm() / want.norm()).item()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_key_value_heads": 2},
        {"num_key_value_heads": 1, "head_dim": 16},
        {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}},
        {"attention_bias": True},
    ],
    ids=["llama", "grouped", "own head size", "linear rope", "bias"],
)
def test_chunked_passes_equal_transformers(changes):
    assert difference(random_llama(**changes)) < 1e-5


def test_bfloat16_stays_within_its_rounding():
    assert difference(random_llama().bfloat16(), torch.bfloat16) < 2e-2


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_quantized_layers_give_what_their_modules_give(kind):
    bnb = pytest.importorskip("bitsandbytes")
    llm = random_llama().bfloat16() if kind == "nf4" else random_llama().half()
    for module in list(llm.model.modules()):
        for name, child in list(module.named_children()):
            if type(child) is not torch.nn.Linear:
                continue
            if kind == "nf4":
                new = bnb.nn.Linear4bit(
                    child.in_features, child.out_features, False, torch.bfloat16, True, "nf4", device="meta"
                )
                new.weight = bnb.nn.Params4bit(child.weight.data, False, quant_type="nf4", module=new)
            else:
                new = bnb.nn.Linear8bitLt(child.in_features, child.out_features, False, has_fp16_weights=False)
                new.weight = bnb.nn.Int8Params(child.weight.data, requires_grad=False, has_fp16_weights=False)
            setattr(module, name, new.to("cpu").eval())
    assert difference(llm, llm.dtype) < 2e-2


def test_fused_nf4_matrices_give_what_their_parts_give():
    bnb = pytest.importorskip("bitsandbytes")
    from emo_llama_ros.inference.fused_linear import _fuse_nf4
    from emo_llama_ros.model.bnb_linear import Nf4Linear, quantize_nf4

    torch.manual_seed(0)
    layers, weights = [], []
    for rows in (256, 64, 128):  # grouped heads: parts of unequal size
        entries = quantize_nf4(torch.randn(rows, 512), torch.float32)
        layer = Nf4Linear(512, rows, bias=False, compute_dtype=torch.float32)
        layer.install(entries, torch.device("cpu"))
        weights.append(bnb.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state))
        layers.append(layer.eval())
    x = torch.randn(1, 5, 512)
    want = torch.cat([x @ weight.T for weight in weights], -1)
    with torch.inference_mode():
        got = _fuse_nf4(layers)(x)
        parts = [bnb.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state) for layer in layers]
    torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-5)
    for part, weight in zip(parts, weights, strict=True):
        torch.testing.assert_close(part, weight, atol=1e-6, rtol=0)
