import pytest

from emo_llama_ros.errors import BadParameter
from emo_llama_ros.labels import RAF_DB, canonical, label_set


@pytest.mark.parametrize(
    ("word", "label"),
    [("Joy.", "happiness"), (" happy ", "happiness"), ("Angry!", "anger"), ("scared", "fear"), ("calm", "neutral")],
)
def test_synonyms_in_any_spelling_mean_their_label(word, label):
    assert canonical(word) == label
    assert RAF_DB.labels[RAF_DB.index(word)] == label


def test_a_word_outside_the_set_is_an_error_not_a_guess():
    with pytest.raises(KeyError):
        RAF_DB.index("contempt")
    with pytest.raises(KeyError):
        RAF_DB.index("banana")


def test_the_common_order_is_that_of_raf_db():
    assert RAF_DB.labels == ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")


@pytest.mark.parametrize(
    ("name", "size"),
    [("raf-db", 7), ("affectnet", 8), ("affectnet-7", 7), ("ferplus", 8), ("dfew", 7), ("ferv39k", 7), ("mafw", 11)],
)
def test_every_dataset_has_its_number_of_distinct_canonical_labels(name, size):
    labels = label_set(name).labels
    assert len(set(labels)) == size
    assert all(canonical(label) == label for label in labels)


def test_an_unknown_label_set_is_named_with_the_known_ones():
    with pytest.raises(BadParameter, match="raf-db"):
        label_set("nothing")
