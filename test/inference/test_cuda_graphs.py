from __future__ import annotations

import dataclasses
import sys

import pytest
import torch

from emo_llama_ros.inference.clip_reader import ClipReader
from emo_llama_ros.inference.cuda_graphs import RecordedPasses
from emo_llama_ros.inference.decoding import EXTENT, CapturedDecoder, read_token
from emo_llama_ros.inference.performance import tune

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU: CUDA graphs are recorded on one"),
]
DEVICE, MORE = torch.device("cuda:0"), (5, 6, 2, 7)


@pytest.fixture(params=["none", "nf4"])
def scene(request, repository):
    """A tiny model, a film of one face, a prompt, and the labels."""
    sys.path.insert(0, str(repository / "benchmarks"))
    from random_models import random_model
    from synthetic_clips import Film, make_prompt

    from emo_llama_ros.model.configuration import emo_llama_tiny

    config = emo_llama_tiny()
    prompt, trie, _ = make_prompt(config, DEVICE)
    return (
        random_model(config, request.param, DEVICE, torch.float32),
        Film(config, 16, DEVICE, torch.float32),
        prompt,
        trie,
    )


def without_a_face(clip, frame):
    """Return the clip as if no face had been found in one of its frames."""

    def priors(wanted):
        known = clip.face_priors(wanted)
        return dataclasses.replace(known, valid=torch.tensor([i != frame for i in wanted]))

    return dataclasses.replace(clip, face_priors=priors)


def test_recorded_passes_give_what_the_plain_ones_give(scene):
    model, film, prompt, trie = scene
    plain, recorded = ClipReader(model, trie), ClipReader(model, trie)
    choice = tune(recorded, "auto", prompt, 8, 40)
    assert "cannot be recorded" not in choice.reason
    clips = [film.clip(0), film.clip(1), film.clip(3), without_a_face(film.clip(5), 7), film.clip(6)]
    for clip in clips:
        want = plain.score([clip], [prompt])[0]
        got = recorded.score([clip], [prompt])[0]
        torch.testing.assert_close(got.log_likelihoods, want.log_likelihoods, atol=1e-3, rtol=1e-4)
        words = [list(r.generate(c, MORE, frozenset(), 24)) for r, c in ((plain, want), (recorded, got))]
        assert words[0] == words[1]


@torch.inference_mode()
def test_every_recorded_step_of_decoding_gives_the_plain_logits(scene):
    model, _, _, trie = scene
    runner = ClipReader(model, trie).runner
    cache = runner.new_cache(1, 2 * EXTENT)
    decoder = CapturedDecoder(runner, cache)
    begin = EXTENT - 20  # so that the steps cross from one recording to the next
    logits = runner.extend(torch.randn(1, begin, model.config.llm.hidden_size, device=DEVICE), cache, 0)
    tokens, plain = [], []
    for step in range(40):
        tokens.append(int(logits.argmax()))
        logits = read_token(runner, cache, logits.argmax(), begin + step)
        plain.append(logits.clone())
    for step, (token, want) in enumerate(zip(tokens, plain, strict=True)):
        torch.testing.assert_close(decoder.read(token, begin + step)[0], want, atol=1e-3, rtol=1e-4)


@torch.inference_mode()
def test_inputs_of_another_shape_run_plainly():
    runs = []

    def double(x):
        runs.append(x.shape[0])
        return x * 2

    passes = RecordedPasses(double, [(torch.zeros(n, 3, device=DEVICE),) for n in (1, 2)])
    runs.clear()
    for count in (1, 2, 3):
        x = torch.randn(count, 3, device=DEVICE)
        torch.testing.assert_close(passes(x), 2 * x)
    assert runs == [3], "the others are replayed, not run"
