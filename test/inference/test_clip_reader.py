from __future__ import annotations

import dataclasses

import pytest
import torch

from emo_llama_ros.inference import label_trie
from emo_llama_ros.inference.clip_reader import ClipReader, Prompt
from emo_llama_ros.inference.frame_encoder import ClipFrames, VisualPrompt
from emo_llama_ros.model.configuration import emo_llama_tiny
from emo_llama_ros.model.face_mining import FacePriors
from emo_llama_ros.model.merging import IMAGE_TOKEN
from emo_llama_ros.model.modeling import ClipInputs, EmoLlama

EOS = 2
LABELS = [[11], [13, 14], [13, 15, 16], [17]]
MORE = (13, 14, EOS, 40, 41, 42)


def tiny_model(scope="frame", vision=True):
    torch.manual_seed(0)
    config = emo_llama_tiny(vision=vision)
    model = EmoLlama(dataclasses.replace(config, face=dataclasses.replace(config.face, scope=scope)))
    for parameter in model.language_model.parameters():
        if parameter.ndim == 2:
            parameter.data *= 6  # so that context decides, not the last token
    return model


@pytest.fixture(scope="module", params=["frame", "clip", "faces only"])
def model(request):
    return tiny_model("frame", vision=False) if request.param == "faces only" else tiny_model(request.param)


@pytest.fixture(scope="module")
def film():
    """Twelve frames of one face; on two of them it was not found."""
    torch.manual_seed(5)
    valid = torch.ones(12, dtype=torch.bool)
    valid[[1, 6]] = False
    return torch.randn(12, 3, 56, 56), torch.randn(12, 16, 5, 5), torch.randn(12, 68, 2), torch.randn(12, 7), valid


def priors(model, film, frames):
    _, maps, landmarks, evidence, valid = film
    frames = list(frames)
    embedding = maps if model.config.face.embedding_is_map else maps.mean((2, 3))
    return FacePriors(valid[frames], embedding[frames], landmarks[frames], evidence[frames])


def clip(model, film, frames, face_id="a", log=None):
    frames = list(frames)

    def pixels(numbers):
        if log is not None:
            log.extend(frames[i] for i in numbers)
        return film[0][[frames[i] for i in numbers]]

    return ClipFrames(
        face_id,
        tuple(100 * f for f in frames),
        pixels if model.config.vision else None,
        lambda numbers: priors(model, film, [frames[i] for i in numbers]),
    )


def prompt(tail=(30, 31, 32), words=(5, 6, 7)):
    ids = torch.tensor([words])
    return Prompt((1, 20, 21, 22), tail, VisualPrompt(ids, torch.ones_like(ids), str(words)))


def reader(model, **options):
    return ClipReader(model, label_trie.build(LABELS, EOS), **options)


@torch.no_grad()
def plain_logits(model, film, frames, asked, more):
    """The model's own forward over the whole sequence: nothing cached, nothing shared."""
    features = model.encode_frames(film[0][list(frames)]) if model.config.vision else None
    inputs = ClipInputs(asked.visual.prompt_ids, asked.visual.prompt_mask, features, priors(model, film, frames))
    ids = torch.tensor([[*asked.head_ids, IMAGE_TOKEN, *asked.tail_ids, *more]])
    return model(ids, [inputs]).logits[0, -1 - len(more) :]


def plain_scores(model, film, frames, asked):
    scores = []
    for label in LABELS:
        log_p = plain_logits(model, film, frames, asked, [*label, EOS])[:-1].log_softmax(-1)
        scores.append(sum(log_p[i, t] for i, t in enumerate([*label, EOS])))
    return torch.stack(scores)


def test_scores_equal_the_plain_model_per_label(model, film):
    reading = reader(model).score([clip(model, film, range(8))], [prompt()])[0]
    want = plain_scores(model, film, range(8), prompt())
    torch.testing.assert_close(reading.log_likelihoods, want, atol=1e-4, rtol=1e-5)
    assert want.std() > 0.1


def test_sliding_clips_score_as_if_nothing_were_cached(model, film):
    sliding = reader(model)
    for first in range(4):
        frames = range(first, first + 8)
        got = sliding.score([clip(model, film, frames)], [prompt()])[0]
        fresh = reader(model).score([clip(model, film, frames)], [prompt()])[0]
        torch.testing.assert_close(got.log_likelihoods, fresh.log_likelihoods, atol=1e-5, rtol=1e-5)


def test_each_frame_is_encoded_once():
    model = tiny_model()
    pixels = torch.randn(12, 3, 56, 56)
    film = pixels, torch.randn(12, 16, 5, 5), torch.randn(12, 68, 2), torch.randn(12, 7), torch.ones(12).bool()
    log: list[int] = []
    tokenized: list[int] = []
    model.token_generation.register_forward_pre_hook(lambda _, given: tokenized.append(len(given[0])))
    sliding = reader(model)
    for first in range(4):
        sliding.score([clip(model, film, range(first, first + 8), log=log)], [prompt()])
    assert log == list(range(11))
    assert tokenized == [8, 1, 1, 1], "and becomes tokens once"
    sliding.score([clip(model, film, range(8), log=log)], [prompt(words=(5, 6, 8))])
    assert log == list(range(11)), "another prompt needs no new features"
    assert tokenized[4:] == [8], "but other tokens"
    sliding.forget("a")
    sliding.score([clip(model, film, range(2), log=log)], [prompt()])
    assert log[11:] == [0, 1]


def test_another_person_or_prompt_is_never_served_from_the_cache(model, film):
    shared = reader(model)
    shared.score([clip(model, film, range(8))], [prompt()])
    backwards = (film[0].flip(0), *(part.flip(0) for part in film[1:]))
    got = shared.score([clip(model, backwards, range(8), face_id="b")], [prompt()])[0]
    want = plain_scores(model, backwards, range(8), prompt())
    torch.testing.assert_close(got.log_likelihoods, want, atol=1e-4, rtol=1e-5)
    asked = prompt(words=(8, 9))
    got = shared.score([clip(model, film, range(8))], [asked])[0]
    torch.testing.assert_close(got.log_likelihoods, plain_scores(model, film, range(8), asked), atol=1e-4, rtol=1e-5)


def test_a_batch_of_people_scores_each_as_alone(model, film):
    spans, asked = [range(8), range(3, 6), range(2, 9), range(9), range(1)], [prompt()] * 5
    asked[2] = prompt(tail=(30, 33, 34, 31, 32))
    batch = reader(model, max_rows=4).score([clip(model, film, s, f"p{i}") for i, s in enumerate(spans)], asked)
    for reading, span, one in zip(batch, spans, asked, strict=True):
        alone = reader(model).score([clip(model, film, span)], [one])[0]
        torch.testing.assert_close(reading.log_likelihoods, alone.log_likelihoods, atol=1e-4, rtol=1e-5)


def greedy(model, film, frames, asked, more, count):
    ids = list(more)
    for _ in range(count):
        ids.append(int(plain_logits(model, film, frames, asked, ids)[-1].argmax()))
    return ids[len(more) :]


def test_words_go_on_from_the_label_as_the_plain_model_would(model, film):
    one = reader(model)
    reading = one.score([clip(model, film, range(8))], [prompt()])[0]
    got = list(one.generate(reading, MORE, frozenset(), 12))
    assert got == greedy(model, film, range(8), prompt(), MORE, 12)


def test_words_of_each_of_a_batch_and_after_another_label(model, film):
    one = reader(model)
    spans = [range(8), range(3, 6)]
    readings = one.score([clip(model, film, s, f"p{i}") for i, s in enumerate(spans)], [prompt()] * 2)
    first = list(one.generate(readings[1], MORE, frozenset(), 8))
    one.score([clip(model, film, range(4, 12), f"p{i}") for i in range(2)], [prompt()] * 2)  # takes the label cache
    second = list(one.generate(readings[0], MORE, frozenset(), 8))
    assert first == greedy(model, film, spans[1], prompt(), MORE, 8)
    assert second == greedy(model, film, spans[0], prompt(), MORE, 8)


def test_a_label_between_two_words_does_not_disturb_them(model, film):
    one = reader(model)
    reading = one.score([clip(model, film, range(8))], [prompt()])[0]
    words = one.generate(reading, MORE, frozenset(), 8)
    got = [next(words) for _ in range(3)]
    one.score([clip(model, film, range(3, 11))], [prompt()])
    assert got + list(words) == greedy(model, film, range(8), prompt(), MORE, 8)


def test_two_answers_at_once_are_refused(model, film):
    one = reader(model)
    reading = one.score([clip(model, film, range(8))], [prompt()])[0]
    words = one.generate(reading, MORE, frozenset(), 8)
    next(words)
    next(one.generate(reading, MORE, frozenset(), 8))
    with pytest.raises(RuntimeError, match="one"):
        next(words)


def test_a_cancel_is_obeyed_within_one_token(model, film):
    one = reader(model)
    reading = one.score([clip(model, film, range(8))], [prompt()])[0]
    got: list[int] = []
    for token in one.generate(reading, MORE, frozenset(), 50, lambda: len(got) == 4):
        got.append(token)
    assert len(got) == 4


def test_a_question_is_read_without_scoring_labels(model, film):
    one = reader(model)
    asked = prompt(tail=(50, 51))
    reading = one.read(clip(model, film, range(8)), asked)
    assert list(one.generate(reading, (), frozenset(), 6)) == greedy(model, film, range(8), asked, (), 6)


def test_a_released_reader_starts_again(model, film):
    one = reader(model)
    before = one.score([clip(model, film, range(8))], [prompt()])[0]
    one.release()
    assert list(one.generate(before, MORE, frozenset(), 4)) == greedy(model, film, range(8), prompt(), MORE, 4)
    after = one.score([clip(model, film, range(8))], [prompt()])[0]
    torch.testing.assert_close(before.log_likelihoods, after.log_likelihoods)
