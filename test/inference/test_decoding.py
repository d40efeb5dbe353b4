from __future__ import annotations

import pytest
import torch

from emo_llama_ros.inference.decoding import greedy_tokens, read_until, stream_text


class Bytes:
    """A tokenizer whose tokens are bytes, and whose words begin with a space that the first one loses."""

    def decode(self, ids):
        return bytes(ids).decode("utf-8", errors="replace").removeprefix(" ")


class Words:
    """Tokens whose text depends on their neighbours, as SentencePiece's spaces do."""

    def decode(self, ids):
        return " ".join(f"w{i}" for i in ids)


@pytest.mark.parametrize("text", ["plain words", " a smile: 😀 and naïve brows", "ends in half", ""])
def test_pieces_join_to_the_text_and_hold_no_half_characters(text):
    tokens = list(text.encode())
    pieces = list(stream_text(tokens, Bytes()))
    assert "".join(pieces) == Bytes().decode(tokens)
    assert not any("\ufffd" in piece for piece in pieces)


def test_what_is_cut_off_inside_a_character_still_comes_out():
    assert "".join(stream_text("é".encode()[:1], Bytes())) == "\ufffd"


def test_each_token_brings_its_piece_at_once():
    pieces = stream_text(iter([1, 2, 3]), Words())
    assert [next(pieces), next(pieces), next(pieces)] == ["w1", " w2", " w3"]


def test_the_end_token_is_not_read():
    assert list(read_until([5, 6, 2, 7], frozenset({2}), 10)) == [5, 6]


def test_an_answer_has_a_longest_length():
    pulled = []
    assert list(read_until((pulled.append(i) or i for i in range(9)), frozenset(), 4)) == [0, 1, 2, 3]
    assert len(pulled) == 4, "no token is computed that is not wanted"
    assert list(read_until([1], frozenset(), 0)) == []


def test_a_cancel_before_the_first_token_reads_nothing():
    pulled = []
    assert list(read_until((pulled.append(i) or i for i in range(9)), frozenset(), 4, lambda: True)) == []
    assert not pulled


@torch.inference_mode()
def test_greedy_tokens_are_those_of_generate(tiny_llama, runner):
    ids = torch.randint(3, 300, (1, 11), generator=torch.Generator().manual_seed(2))
    want = tiny_llama.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=20, min_new_tokens=20, do_sample=False
    )[0, 11:]
    cache = runner.new_cache(1, 64)
    logits = runner.extend(runner.embed(ids), cache, 0)
    got = []
    for token in greedy_tokens(runner, cache, logits, 11):
        got.append(token)
        if len(got) == 20:
            break
    # min_new_tokens forbids the end token, so only compare up to where it would have come.
    stop = got.index(2) if 2 in got else 20
    assert stop > 0
    assert got[:stop] == want[:stop].tolist()


@torch.inference_mode()
def test_a_full_cache_ends_the_tokens(runner):
    cache = runner.new_cache(1, 8)
    logits = runner.extend(torch.randn(1, 6, 128), cache, 0)
    assert len(list(greedy_tokens(runner, cache, logits, 6))) == 3
