import torch
from torch.testing import assert_close

from emo_llama_ros.model.vision import resize_position_embedding


def smooth_table(side):
    """A position table that is linear over the image, so that any resolution can be computed directly."""
    centres = (torch.arange(side) + 0.5) / side
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    return torch.cat((torch.full((1, 1, 2), 9.0), torch.stack((y, x), -1).reshape(1, -1, 2)), dim=1)


def test_a_table_for_224_px_becomes_one_for_336_px():
    resized = resize_position_embedding(smooth_table(16), 24 * 24)
    assert resized.shape == (1, 577, 2)
    assert_close(resized[:, 0], torch.full((1, 2), 9.0))
    inner = torch.zeros(24, 24, dtype=torch.bool)
    inner[3:-3, 3:-3] = True
    difference = (resized - smooth_table(24))[0, 1:].reshape(24, 24, 2)
    # Bicubic interpolation (a = -0.75) bends a straight line by 0.3 %; half a patch of displacement would be 2 %.
    assert difference[inner].abs().max() < 4e-3


def test_a_table_that_fits_is_left_alone():
    table = smooth_table(4)
    assert resize_position_embedding(table, 16) is table
