import pytest

from emo_llama_ros.inference import label_trie

FEAR, SAD, SADNESS, SURPRISE = [11], [20, 21], [20, 21, 22], [30, 31]


def test_shared_prefixes_become_one_node():
    trie = label_trie.build([SAD, [20, 23]], terminator=2)
    assert trie.tokens == (20, 21, 23)
    assert trie.parents == (-1, 0, 0)
    assert trie.depths == (0, 1, 1)


def test_chains_name_the_node_that_predicts_each_token():
    trie = label_trie.build([FEAR, SADNESS], terminator=2)
    assert trie.chains[0] == ((-1, 11), (0, 2))
    assert trie.chains[1] == ((-1, 20), (1, 21), (2, 22), (3, 2))
    assert trie.lengths == (2, 4)


def test_a_node_sees_itself_and_its_ancestors_only():
    trie = label_trie.build([SADNESS, SURPRISE], terminator=2)
    expected = [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 1, 1]]
    assert trie.visible.astype(int).tolist() == expected


def test_without_a_terminator_last_tokens_are_not_read():
    trie = label_trie.build([FEAR, SURPRISE])
    assert trie.tokens == (30,)
    assert trie.chains == (((-1, 11),), ((-1, 30), (0, 31)))


def test_a_label_that_starts_another_needs_the_terminator():
    label_trie.build([SAD, SADNESS], terminator=2)
    with pytest.raises(ValueError, match="told apart"):
        label_trie.build([SAD, SADNESS])


@pytest.mark.parametrize("labels", [[], [[]], [[5], [5]]])
def test_empty_and_equal_labels_are_refused(labels):
    with pytest.raises(ValueError, match="abel "):
        label_trie.build(labels, terminator=2)
