import pytest
import torch

from emo_llama_ros.model.merging import merge

EMBEDDING = torch.nn.Embedding.from_pretrained(torch.arange(20.0).unsqueeze(1).expand(-1, 3).clone())


def rows(*values):
    """Visual rows that are told apart from text by their value."""
    return torch.tensor(values, dtype=torch.float32).unsqueeze(1).expand(-1, 3)


def values(batch):
    return batch.inputs_embeds[..., 0].int().tolist()


def test_each_image_token_is_replaced_by_its_block():
    batch = merge(EMBEDDING, torch.tensor([[1, -200, 5, -200, 6]]), [[rows(101, 102), rows(103)]])
    assert values(batch) == [[1, 101, 102, 5, 103, 6]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 3, 4, 5]]
    assert batch.attention_mask.all()
    assert batch.labels is None


def test_an_empty_block_leaves_no_trace():
    assert values(merge(EMBEDDING, torch.tensor([[1, -200, 5]]), [[rows()[:0].reshape(0, 3)]])) == [[1, 5]]


def test_shorter_samples_are_padded_on_the_right_with_zeros():
    batch = merge(EMBEDDING, [torch.tensor([1, -200]), torch.tensor([7])], [[rows(101, 102)], []])
    assert values(batch) == [[1, 101, 102], [7, 0, 0]]
    assert batch.attention_mask.tolist() == [[True, True, True], [True, False, False]]


def test_labels_of_visual_rows_and_padding_are_ignored():
    labels = [torch.tensor([-100, 11, 5]), torch.tensor([7])]
    batch = merge(EMBEDDING, [torch.tensor([1, -200, 5]), torch.tensor([7])], [[rows(101, 102)], []], labels=labels)
    assert batch.labels.tolist() == [[-100, -100, -100, 5], [7, -100, -100, -100]]


def test_padding_that_the_ids_bring_along_is_masked():
    ids, mask = torch.tensor([[1, -200, 0], [1, 2, 3]]), torch.tensor([[1, 1, 0], [1, 1, 1]])
    batch = merge(EMBEDDING, ids, [[rows(101, 102)], []], mask)
    assert batch.attention_mask.tolist() == [[True, True, True, False], [True, True, True, False]]


def test_padding_on_the_left_is_refused():
    with pytest.raises(ValueError, match="right"):
        merge(EMBEDDING, torch.tensor([[0, 1]]), [[]], torch.tensor([[0, 1]]))


@pytest.mark.parametrize("blocks", [[[]], [[rows(1), rows(2)]]])
def test_every_image_token_needs_one_block(blocks):
    with pytest.raises(ValueError, match="Sample 0 has 1 <image>"):
        merge(EMBEDDING, torch.tensor([[1, -200]]), blocks)


def test_each_sample_needs_its_blocks_and_labels():
    with pytest.raises(ValueError, match="1 samples but visual blocks for 2"):
        merge(EMBEDDING, torch.tensor([[1]]), [[], []])
    with pytest.raises(ValueError, match="2 token ids but 1 labels"):
        merge(EMBEDDING, torch.tensor([[1, 2]]), [[]], labels=[torch.tensor([1])])


def test_visual_rows_take_the_dtype_of_the_text():
    batch = merge(EMBEDDING, torch.tensor([[1, -200]]), [[rows(7).bfloat16()]])
    assert batch.inputs_embeds.dtype == torch.float32
