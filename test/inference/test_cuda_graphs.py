import pytest
import torch

from emo_llama_ros.inference import label_trie
from emo_llama_ros.inference.clip_reader import ClipReader

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU: CUDA graphs are recorded on one"),
]


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_recorded_passes_give_what_the_plain_ones_give(quantization):
    import sys
    from pathlib import Path

    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
    from random_models import random_model
    from synthetic_clips import EOS, Film, make_prompt

    from emo_llama_ros.inference.performance import tune
    from emo_llama_ros.model.configuration import emo_llama_tiny

    device, dtype = torch.device("cuda:0"), torch.float32
    config = emo_llama_tiny()
    model = random_model(config, quantization, device, dtype)
    film = Film(config, 16, device, dtype)
    prompt, trie, _ = make_prompt(config, device)
    assert isinstance(trie, label_trie.LabelTrie)
    plain, recorded = ClipReader(model, trie), ClipReader(model, trie)
    choice = tune(recorded, "auto", prompt, 8, 40)
    assert "cannot be recorded" not in choice.reason
    for first in range(3):
        want = plain.score([film.clip(first)], [prompt])[0]
        got = recorded.score([film.clip(first)], [prompt])[0]
        torch.testing.assert_close(got.log_likelihoods, want.log_likelihoods, atol=1e-3, rtol=1e-4)
        more = (5, 6, EOS, 7)
        words = [list(r.generate(c, more, frozenset(), 24)) for r, c in ((plain, want), (recorded, got))]
        assert words[0] == words[1]
