import json
import math

import pytest

from emo_llama_ros import calibration
from emo_llama_ros.errors import BadCheckpoint, MissingModel
from emo_llama_ros.labels import AFFECTNET, RAF_DB

SCORES = (-4.0, -1.0, -2.5, -9.0, -3.0, -8.0, -2.0)


def softmax(z):
    weights = [math.exp(x) for x in z]
    return pytest.approx([w / sum(weights) for w in weights])


def test_identity_is_the_softmax_of_the_scores_and_says_so():
    assert calibration.IDENTITY.apply(SCORES) == softmax(SCORES)
    assert calibration.IDENTITY.description == "identity"


def test_a_temperature_flattens_and_is_named(tmp_path):
    file = tmp_path / "nano.json"
    calibration.save_temperature(file, RAF_DB, 2.0, fitted_on="held-out clips")
    loaded = calibration.load(file, RAF_DB)
    assert loaded.apply(SCORES) == softmax([x / 2 for x in SCORES])
    assert loaded.description == "temperature 2 from nano.json"
    assert not loaded.length_normalized


def test_vector_scaling_moves_single_labels(tmp_path):
    file = tmp_path / "v.json"
    scale, bias = [1, 2, 1, 0.5, 1, 1, 3], [0, -1, 2, 0, 0, 0.5, 0]
    calibration.save_vector(file, RAF_DB, scale, bias, length_normalized=True)
    loaded = calibration.load(file, RAF_DB)
    assert loaded.apply(SCORES) == softmax([s * x + b for s, x, b in zip(scale, SCORES, bias, strict=True)])
    assert loaded.length_normalized


def test_very_unlikely_labels_do_not_overflow():
    assert calibration.IDENTITY.apply((-5000.0, -6000.0)) == (1.0, 0.0)


def test_scores_that_are_no_numbers_are_refused():
    for scores in ((math.nan, 0.0), (-math.inf, -math.inf)):
        with pytest.raises(ValueError, match="finite"):
            calibration.IDENTITY.apply(scores)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(MissingModel, match="nowhere"):
        calibration.load(tmp_path / "nowhere.json", RAF_DB)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": "other/2"}, "format"),
        ({"method": "isotonic"}, "isotonic"),
        ({"temperature": 0.0}, "above 0"),
        ({"temperature": None}, "NoneType"),
        ({"labels": list(AFFECTNET.labels)}, "raf-db"),
        ({"method": "vector", "scale": [1.0], "bias": [0.0]}, "7 finite"),
        ({"method": "vector"}, "scale"),
    ],
)
def test_a_file_that_does_not_fit_says_why(tmp_path, change, said):
    file = tmp_path / "c.json"
    calibration.save_temperature(file, RAF_DB, 1.5)
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(BadCheckpoint, match=said):
        calibration.load(file, RAF_DB)


def test_text_that_is_no_json_is_refused(tmp_path):
    (tmp_path / "c.json").write_text("T = 2")
    with pytest.raises(BadCheckpoint, match="JSON"):
        calibration.load(tmp_path / "c.json", RAF_DB)


def test_nothing_unreadable_is_ever_written(tmp_path):
    with pytest.raises(ValueError, match="above 0"):
        calibration.save_temperature(tmp_path / "c.json", RAF_DB, -1.0)
    assert not (tmp_path / "c.json").exists()
