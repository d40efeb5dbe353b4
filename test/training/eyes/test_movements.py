"""Movements add to the picture's logits what they tell about the votes, and nothing where they tell nothing."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the 'model' extra")
pytest.importorskip("sklearn", reason="needs the 'train' extra")

from emo_llama_ros.faces.blendshapes import MOVEMENTS
from emo_llama_ros.labels import FERPLUS
from emo_llama_ros.training.eyes.movements import fit_movements, held_out_logits, no_movements

SMILE, HAPPINESS = MOVEMENTS.index("mouthSmile"), FERPLUS.labels.index("happiness")


@pytest.fixture(scope="module")
def faces():
    """400 faces whose votes follow the smile, which the picture's logits do not know of."""
    draw = np.random.default_rng(5)
    movements = draw.uniform(0, 1, (400, len(MOVEMENTS))).astype(np.float32)
    happy = movements[:, SMILE]
    shares = np.repeat((1 - happy[:, None]) / 7, 8, axis=1)
    shares[:, HAPPINESS] = happy
    return torch.zeros(400, 8), movements, shares.astype(np.float32)


def cross_entropy(logits, shares):
    return float(-(torch.from_numpy(shares) * logits.log_softmax(1)).sum(1).mean())


def test_what_a_movement_tells_is_learned_for_the_display_it_belongs_to(faces):
    layer = fit_movements(*faces, decay=1e-3)
    movement, display = divmod(int(layer.weights.argmax()), len(FERPLUS.labels))
    assert (movement, display) == (SMILE, HAPPINESS)


def test_a_held_out_face_is_told_by_a_layer_that_was_fitted_on_others(faces):
    logits, movements, shares = faces
    groups = np.arange(400, dtype=np.int32)
    honest = held_out_logits(logits, movements, shares, 1e-3, groups)
    assert cross_entropy(honest, shares) < cross_entropy(logits, shares) - 0.1

    copies = np.concatenate([movements, movements])
    noise = np.random.default_rng(1).dirichlet(np.ones(8), 400).astype(np.float32)
    twice = held_out_logits(torch.zeros(800, 8), copies, np.concatenate([noise] * 2), 1e-3, np.tile(groups, 2))
    assert cross_entropy(twice[:400], noise) > cross_entropy(logits, noise), "copies of a face are not divided"


def test_movements_that_tell_nothing_add_next_to_nothing(faces):
    logits, movements, shares = faces
    shuffled = np.random.default_rng(2).permutation(shares)
    told, untold = (
        float(fit_movements(logits, movements, votes, decay=0.3).weights.norm()) for votes in (shares, shuffled)
    )
    assert untold < 0.4 * told


def test_a_face_without_movements_gets_nothing_added(faces):
    layer = fit_movements(*faces, decay=1e-3)
    unknown = torch.full((1, len(MOVEMENTS)), float("nan"))
    assert not layer(unknown).any()
    assert not no_movements()(torch.rand(3, len(MOVEMENTS))).any()


def test_a_movement_beyond_all_others_counts_no_more_than_a_far_one(faces):
    layer = fit_movements(*faces, decay=1e-3)
    far = layer.mean + 3 * layer.deviation
    assert torch.allclose(layer(far[None]), layer(100 * far[None].abs() + 100), atol=1e-4)
