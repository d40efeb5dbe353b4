import sys
from pathlib import Path

import pytest
import torch

from emo_llama_ros.model.face_mining import FacePriors
from emo_llama_ros.model.merging import IGNORED_LABEL
from emo_llama_ros.training import batched_clips
from emo_llama_ros.training.collate import Tunable, score

sys.path.insert(0, str(Path(__file__).parent))
from tuning_fixtures import make_items, make_tiny


@pytest.fixture(scope="module", params=["7b-like", "faces only"])
def tiny(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizers")
    if request.param == "7b-like":
        return make_tiny(folder)
    return make_tiny(folder, vision=False, scope="clip")


def test_the_loss_is_on_answers_and_their_ends_only(tiny):
    item = make_items(tiny.config, 3)[1]
    batch = tiny.collate([item])
    wanted = batch["labels"][0]
    said = tiny.text_tokenizer.decode(wanted[wanted != IGNORED_LABEL].tolist())
    assert said.split() == " ".join(turn.answer for turn in item.turns).split()
    assert (wanted == tiny.text_tokenizer.eos_id).sum() == len(item.turns)


def test_images_and_videos_in_one_batch_equal_each_alone(tiny):
    items, model = make_items(tiny.config, 6), Tunable(tiny.model())
    with torch.no_grad():
        together = model(**tiny.collate(items))
        alone = [model(**tiny.collate([item])) for item in items]
    tokens = torch.stack([one["counts"][0, 1] for one in alone])
    mean = (torch.stack([one["loss"] for one in alone]) * tokens).sum() / tokens.sum()
    torch.testing.assert_close(together["loss"], mean, atol=1e-5, rtol=1e-5)
    assert torch.equal(together["counts"], torch.cat([one["counts"] for one in alone]))


def test_the_batched_pass_equals_the_models_own(tmp_path):
    tiny = make_tiny(tmp_path, vision=False, scope="clip")
    model, batch = tiny.model(), tiny.collate(make_items(tiny.config, 6))
    labels = batch.pop("labels")
    with torch.no_grad():
        logits, wanted = batched_clips.run(model, labels, batch)
        batch["visible"] = [False]
        own = Tunable(model)(labels, **batch)
    assert batched_clips.applies(model, {**batch, "visible": [True]})
    fast = score(logits, wanted)
    torch.testing.assert_close(fast["loss"], own["loss"], atol=1e-5, rtol=1e-5)
    assert torch.equal(fast["counts"], own["counts"])


def test_gradients_of_both_passes_agree(tmp_path):
    tiny = make_tiny(tmp_path, vision=False, scope="clip")
    gradients = []
    for visible in (True, False):
        model, batch = tiny.model(), tiny.collate(make_items(tiny.config, 4))
        batch["visible"] = [visible]
        Tunable(model)(**batch)["loss"].backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], atol=1e-5, rtol=1e-3)


def test_face_priors_travel_as_plain_tensors(tiny):
    batch = tiny.collate(make_items(tiny.config, 2))
    assert FacePriors(**batch["face_priors"]).valid.tolist() == [True, False, True, True]
