"""The tokenizer of a language model that talks about faces only."""

import pytest

from emo_llama_ros.inference.decoding import stream_text
from emo_llama_ros.model.processing import load_text_tokenizer
from emo_llama_ros.training.synthetic import tokenizer

SAID = "The lips have been clearly parted (AU25) for the last 1.2 s; read as fear 87%, AU4 07%."


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.train([f"USER: Why? ASSISTANT: {SAID}</s>"] * 20, folder, 512, 128)
    return load_text_tokenizer(folder)


def test_action_units_times_and_percentages_are_one_token_wherever_they_stand(trained):
    pieces = [trained.decode([i]) for i in trained.encode(SAID)]
    for figure in ("AU25", "AU4", "1.2", "87%", "07%"):
        assert figure in pieces


@pytest.mark.parametrize("text", [SAID, "Is it naïve? 12.5 AU7", "AU12 and x2", "tab\tand 😀"])
def test_any_text_comes_back(trained, text):
    assert trained.decode(trained.encode(text)) == text


def test_an_answer_begins_with_its_first_word(trained):
    ids = trained.encode(f" {SAID}")
    assert trained.decode(ids) == SAID
    assert "".join(stream_text(ids, trained)) == SAID
