"""Pictures change as they would before a robot's camera, and only by chance that can be repeated."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the 'model' extra")

from emo_llama_ros.faces.alignment import Roi, cut
from emo_llama_ros.faces.emo_eyes import FRAME, normalized
from emo_llama_ros.training.eyes.augment import Augmentation, augmented, plain
from emo_llama_ros.training.eyes.made_up import made_up_faces

SIZE = 67


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.from_numpy(made_up_faces(16, seed=3).images)


def test_a_plain_picture_has_mean_0_and_deviation_just_under_1(images):
    pictures = plain(images, SIZE)
    assert pictures.shape == (16, 1, SIZE, SIZE)
    assert pictures.mean((1, 2, 3)).abs().max() < 1e-4
    assert ((pictures.std((1, 2, 3)) > 0.8) & (pictures.std((1, 2, 3)) < 1)).all()


def test_training_sees_what_the_node_sees(images):
    middle = Roi(23.5, 23.5, 48 * FRAME)
    for image, picture in zip(images.numpy(), plain(images, SIZE).numpy(), strict=True):
        assert np.abs(normalized(cut(image, middle, SIZE, repeat_edge=True)) - picture[0]).max() < 0.1


def test_the_mirrored_picture_is_the_picture_mirrored(images):
    assert torch.allclose(plain(images, SIZE, mirrored=True), plain(images, SIZE).flip(-1), atol=1e-4)


def test_augmentation_repeats_with_its_seed_and_differs_without(images):
    torch.manual_seed(1)
    first = augmented(images, SIZE, Augmentation())
    second = augmented(images, SIZE, Augmentation())
    torch.manual_seed(1)
    assert torch.equal(first, augmented(images, SIZE, Augmentation()))
    assert not torch.allclose(first, second, atol=0.1)
    assert bool(torch.isfinite(first).all())


def test_without_any_change_augmentation_gives_the_plain_picture_or_its_mirror(images):
    still = Augmentation(
        rotation_deg=0, zoom=(FRAME, FRAME), aspect=0, shear=0, shift=0, coarse_share=0, gamma=0, side_light_share=0,
        noise=0, hidden_share=0,
    )  # fmt: skip
    upright = plain(images, SIZE)
    for picture, expected in zip(augmented(images, SIZE, still), upright, strict=True):
        assert min((picture - expected).abs().max(), (picture - expected.flip(-1)).abs().max()) < 0.05


def test_a_hidden_part_is_one_grey(images):
    hiding = Augmentation(noise=30.0, hidden_share=1.0, hidden=(0.3, 0.3))
    for picture in augmented(images, SIZE, hiding):
        values, counts = picture.unique(return_counts=True)
        assert int(counts.max()) >= int(SIZE * 0.3) ** 2
        assert len(values) > 500
