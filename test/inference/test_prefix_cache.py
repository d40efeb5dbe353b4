import pytest
import torch

from emo_llama_ros.inference.prefix_cache import PrefixCache

HEAD = (1, 20, 21, 22, 23)


@pytest.fixture(autouse=True)
def inference_mode():
    with torch.inference_mode():
        yield


@pytest.fixture
def prefilled(monkeypatch):
    """The heads that were computed, in order."""
    heads, prefill = [], PrefixCache._prefill
    monkeypatch.setattr(PrefixCache, "_prefill", lambda self, key: heads.append(key) or prefill(self, key))
    return heads


def test_logits_after_a_cached_head_equal_those_of_the_whole_prompt(tiny_llama, runner, prefilled):
    prefixes, cache = PrefixCache(runner), runner.new_cache(1, 64)
    for seed in range(3):
        tail = torch.randn(1, 9, 128, generator=torch.Generator().manual_seed(seed))
        prefix = prefixes.place(HEAD, cache)
        got = runner.extend(tail, cache, prefix)
        whole = torch.cat([runner.embed(torch.tensor([HEAD])), tail], 1)
        torch.testing.assert_close(got, tiny_llama(inputs_embeds=whole).logits[0, -1], atol=1e-5, rtol=1e-5)
    assert prefilled == [HEAD]


def test_every_row_of_a_batch_begins_with_the_head(runner, prefilled):
    prefixes, many, one = PrefixCache(runner), runner.new_cache(3, 16), runner.new_cache(1, 16)
    prefixes.place(HEAD, many)
    prefixes.place(HEAD, one)
    for row in range(3):
        assert torch.equal(many.keys[:, row, :, :5], one.keys[:, 0, :, :5])
    assert prefilled == [HEAD]


def test_another_head_takes_the_place_of_the_first(runner, prefilled):
    prefixes, cache = PrefixCache(runner, max_prefixes=2), runner.new_cache(1, 16)
    prefixes.place(HEAD, cache)
    first = cache.keys.clone()
    assert prefixes.place((1, 30, 31), cache) == 3
    prefixes.place((1, 40), cache)
    prefixes.place(HEAD, cache)  # pushed out by the two others, so prefilled again
    assert torch.equal(cache.keys[..., :5, :], first[..., :5, :])
    assert prefilled == [HEAD, (1, 30, 31), (1, 40), HEAD]
