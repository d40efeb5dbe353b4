import io

import numpy as np
import pytest
import sentencepiece
import tokenizers

from emo_llama_ros import prompts
from emo_llama_ros.errors import MissingModel
from emo_llama_ros.labels import RAF_DB
from emo_llama_ros.model.processing import (
    CLIP_MEAN,
    CLIP_STD,
    PAD_COLOR,
    JsonTokenizer,
    QFormerTokenizer,
    SentencePieceTokenizer,
    load_text_tokenizer,
    preprocess_clip,
    preprocess_frame,
    tokenize_conversation,
    tokenize_prompt,
)

SENTENCES = [prompts.render([prompts.label_turn(RAF_DB, video=True)]).replace("<image>", ""), *RAF_DB.labels]


@pytest.fixture(scope="module")
def sentencepiece_folder(tmp_path_factory):
    """A tiny LLaMA-like SentencePiece model: BPE with byte fallback, ids 0, 1, 2 for <unk>, <s>, </s>."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([text.replace("\n", " ") for text in SENTENCES] * 20),
        model_writer=model,
        model_type="bpe",
        vocab_size=400,
        byte_fallback=True,
        add_dummy_prefix=True,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        minloglevel=2,
    )
    folder = tmp_path_factory.mktemp("sentencepiece")
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    return folder


@pytest.fixture(scope="module")
def json_folder(tmp_path_factory):
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<unk>", "<s>", "</s>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    folder = tmp_path_factory.mktemp("json")
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(params=["sentencepiece", "json"])
def tokenizer(request, sentencepiece_folder, json_folder):
    return load_text_tokenizer(sentencepiece_folder if request.param == "sentencepiece" else json_folder)


@pytest.fixture
def bert(tmp_path):
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "what", "face", "?", "a", "##b", "\u2028"]
    (tmp_path / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    return QFormerTokenizer(tmp_path / "vocab.txt", max_tokens=6)


def normalized(color):
    return (np.array(color, np.float32) / 255 - CLIP_MEAN) / CLIP_STD


def test_an_image_is_padded_to_a_square_and_a_video_frame_is_cut():
    wide = np.zeros((40, 80, 3), np.uint8)
    wide[:, :20] = wide[:, 60:] = 255
    image, frame = (preprocess_frame(wide, 20, pad=pad) for pad in (True, False))
    assert image.shape == frame.shape == (3, 20, 20)
    assert image.dtype == np.float32
    np.testing.assert_allclose(image[:, 0, 10], normalized(PAD_COLOR), atol=1e-6)
    np.testing.assert_allclose(image[:, 10, 1], normalized((255, 255, 255)), atol=1e-6)
    np.testing.assert_allclose(frame[:, 10, 5], normalized((0, 0, 0)), atol=1e-6)


def test_a_face_crop_of_the_right_size_only_changes_its_scale():
    crop = np.random.default_rng(0).integers(0, 256, (224, 224, 3), np.uint8)
    expected = ((crop / 255 - CLIP_MEAN) / CLIP_STD).transpose(2, 0, 1)
    np.testing.assert_allclose(preprocess_frame(crop, 224, pad=True), expected, atol=1e-6)


def test_frames_of_a_clip_are_stacked_in_order():
    frames = [np.full((30, 30, 3), value, np.uint8) for value in (0, 128, 255)]
    clip = preprocess_clip(frames, 28, pad=False)
    assert clip.shape == (3, 3, 28, 28)
    assert clip.mean(dim=(1, 2, 3)).diff().min() > 0


@pytest.mark.parametrize("bad", [np.zeros((4, 4, 3), np.float32), np.zeros((4, 4), np.uint8)])
def test_only_rgb_bytes_are_frames(bad):
    with pytest.raises(ValueError, match="uint8"):
        preprocess_frame(bad, 28, pad=True)


def test_prompts_are_lower_cased_framed_and_padded_to_the_longest(bert):
    ids, mask = bert(["What FACE?", "face"])
    assert ids.tolist() == [[2, 5, 6, 7, 3], [2, 6, 3, 0, 0]]
    assert mask.tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]


def test_a_long_prompt_loses_its_beginning(bert):
    assert bert(["face face face what what ?"]).ids.tolist() == [[2, 6, 5, 5, 7, 3]]


def test_the_vocabulary_ends_with_dec_and_keeps_odd_pieces(bert):
    assert len(bert) == 12
    assert bert(["ab"]).ids.tolist() == [[2, 8, 9, 3]]


def test_a_missing_vocabulary_says_what_to_put_where(tmp_path):
    with pytest.raises(MissingModel, match=r"bert-base-uncased's vocab.txt"):
        QFormerTokenizer(tmp_path / "bert_vocab.txt")


def test_a_prompt_begins_with_bos_and_has_one_marker_per_image(tokenizer):
    ids = tokenize_prompt("see <image>\nwhat <image>", tokenizer)
    assert ids[0] == tokenizer.bos_id
    assert ids.count(-200) == 2
    assert ids.count(tokenizer.bos_id) == 1
    assert ids[-1] == -200


def test_sentencepiece_begins_each_piece_with_a_word_start(sentencepiece_folder):
    tokenizer = SentencePieceTokenizer(sentencepiece_folder / "tokenizer.model")
    after = tokenize_prompt("see <image>\nwhat", tokenizer)
    space, newline = tokenizer.encode("\n")  # as in LLaMA, where they are 29871 and 13
    assert after[after.index(-200) + 1 :][:2] == [space, newline]
    assert tokenizer.encode("joy</s>USER") == [*tokenizer.encode("joy"), 2, *tokenizer.encode("USER")]


def test_decoding_gives_the_words_without_special_tokens(tokenizer):
    ids = [tokenizer.bos_id, *tokenizer.encode("happiness"), tokenizer.eos_id]
    assert tokenizer.decode(ids).strip() == "happiness"


def test_the_loss_is_on_the_answers_and_their_end(tokenizer):
    turns = [prompts.label_turn(RAF_DB, video=True, answer="fear"), prompts.reasoning_turn("The brows are raised.")]
    ids, labels = tokenize_conversation(turns, tokenizer)
    assert len(ids) == len(labels)
    learned = [label for label in labels if label != -100]
    assert [label for label, token in zip(labels, ids, strict=True) if label not in (-100, token)] == []
    assert learned.count(tokenizer.eos_id) == 2
    assert labels[-1] == tokenizer.eos_id
    first, second, rest = _split(learned, tokenizer.eos_id)
    assert tokenizer.decode(first).strip() == "fear"
    assert tokenizer.decode(second).strip() == "The brows are raised."
    assert rest == []


def test_an_open_question_has_no_labels(tokenizer):
    ids, labels = tokenize_conversation([prompts.label_turn(RAF_DB, video=False)], tokenizer)
    assert set(labels) == {-100}
    assert ids == tokenize_prompt(prompts.render([prompts.label_turn(RAF_DB, video=False)]), tokenizer)


def test_a_folder_without_a_tokenizer_is_named(tmp_path):
    with pytest.raises(MissingModel, match=str(tmp_path)):
        load_text_tokenizer(tmp_path)


def test_a_tokenizer_without_special_tokens_is_refused(tmp_path):
    tokenizers.Tokenizer(tokenizers.models.BPE()).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(MissingModel, match="<s> and </s>"):
        JsonTokenizer(tmp_path / "tokenizer.json")


def _split(ids, end):
    parts = [[]]
    for i in ids:
        if i == end:
            parts.append([])
        else:
            parts[-1].append(i)
    return parts
