"""emo-eyes: what it reads on real faces, that the file is the trained network, and what must not change its mind."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from emo_llama_ros.errors import MissingModel
from emo_llama_ros.faces.alignment import FaceAxes
from emo_llama_ros.faces.emo_eyes import (
    CHECKSUMS,
    EMBEDDING_SIZE,
    FOLDER,
    MANIFEST,
    NETWORK_FILE,
    TRAINING_LOG,
    EmoEyes,
    normalized,
    read_manifest,
)
from emo_llama_ros.labels import FERPLUS, RAF_DB
from emo_llama_ros.options import Options

STILLS = {
    "0-f1-su-ph.jpg": "surprise",
    "0-f15-hao-ph.jpg": "happiness",
    "single_face.jpg": "happiness",
}
LARGEST_FILE = 10_000_000  # bytes


@pytest.fixture(scope="module")
def eyes() -> EmoEyes:
    return EmoEyes()


@pytest.fixture
def noise() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (67, 67), dtype=np.uint8)


def label_of(face) -> str:
    return RAF_DB.labels[int(face.expression.argmax())]


@pytest.mark.parametrize("name", STILLS)
def test_posed_expressions_are_read_as_they_are_labelled(analyzer, picture, name) -> None:
    assert label_of(analyzer.analyze(picture(name))[0]) == STILLS[name]


@pytest.mark.parametrize("name", STILLS)
@pytest.mark.parametrize(
    "change",
    [
        lambda rgb: (rgb * 0.2).astype(np.uint8),
        lambda rgb: (rgb * 0.4 + 100).astype(np.uint8),
        lambda rgb: np.repeat(rgb.mean(2, keepdims=True), 3, 2).astype(np.uint8),
    ],
    ids=["dim", "hazy", "grey"],
)
def test_light_does_not_change_the_label(analyzer, picture, name, change) -> None:
    assert label_of(analyzer.analyze(change(picture(name)))[0]) == STILLS[name]


@pytest.mark.parametrize("name", STILLS)
@pytest.mark.parametrize("degrees", [-45, 30])
def test_a_tilted_head_does_not_change_the_label(analyzer, picture, name, degrees) -> None:
    import cv2

    rgb = picture(name)
    height, width = rgb.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 0.7)

    assert label_of(analyzer.analyze(cv2.warpAffine(rgb, turn, (width, height)))[0]) == STILLS[name]


def test_a_reading_has_every_part(eyes, noise) -> None:
    reading = eyes.read_picture(noise)

    assert reading.probabilities.shape == (7,)
    assert reading.probabilities.sum() == pytest.approx(1, abs=1e-5)
    assert 0 <= reading.contempt <= 1
    assert 0 <= reading.disagreement <= 1
    assert reading.embedding.shape == (EMBEDDING_SIZE,)
    assert reading.features.shape[0] == EMBEDDING_SIZE
    assert reading.features.mean((1, 2)) == pytest.approx(reading.embedding, abs=1e-4)


def test_a_face_and_its_mirror_image_read_the_same_and_their_features_mirror(eyes, noise) -> None:
    here, there = eyes.read_picture(noise), eyes.read_picture(np.ascontiguousarray(noise[:, ::-1]))

    assert there.probabilities == pytest.approx(here.probabilities, abs=1e-5)
    assert there.features == pytest.approx(here.features[:, :, ::-1], abs=1e-4)


def test_brightness_and_contrast_are_taken_out(noise) -> None:
    assert np.abs(normalized(noise) - normalized((noise // 2 + 60).astype(np.uint8))).mean() < 0.1
    assert np.abs(normalized(np.full((67, 67), 9, np.uint8))).max() == 0


def test_a_face_at_the_border_is_read_without_a_black_edge(eyes) -> None:
    grey = np.full((80, 80), 150, np.uint8)
    beyond = eyes.read(np.zeros((80, 80, 3), np.uint8), grey, FaceAxes(5, 5, 40, 0))

    assert beyond.probabilities == pytest.approx(eyes.read_picture(grey[:67, :67]).probabilities, abs=1e-5)


def test_a_higher_operating_point_says_frequent_displays_more_often(noise) -> None:
    neutral = [
        float(EmoEyes(operating_point=point).read_picture(noise).probabilities[RAF_DB.index("neutral")])
        for point in (-0.5, 0.0, 1.0)
    ]
    assert neutral == sorted(neutral)


def test_the_option_s_default_is_the_point_that_was_chosen_in_training() -> None:
    assert Options().expression_operating_point == read_manifest(FOLDER).operating_point


def test_the_shipped_file_is_small_and_its_log_names_it() -> None:
    from emo_llama_ros.checksums import file_sha256

    network = FOLDER / NETWORK_FILE
    entries = [json.loads(line) for line in (FOLDER / TRAINING_LOG).read_text().splitlines()]

    assert network.stat().st_size <= LARGEST_FILE
    assert entries[-1]["weights"] == {NETWORK_FILE: file_sha256(network)}
    assert entries[0]["recipe"]["seed"] == 11


def test_the_manifest_says_what_was_measured() -> None:
    raw = json.loads((FOLDER / MANIFEST).read_text())

    assert raw["labels"] == list(FERPLUS.labels)
    assert all(set(point["recalls"]) == set(RAF_DB.labels) for point in raw["points"])


@pytest.fixture
def copy(tmp_path):
    return shutil.copytree(FOLDER, tmp_path / "eyes")


def test_a_damaged_network_is_refused_before_it_is_used(copy) -> None:
    data = bytearray((copy / NETWORK_FILE).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / NETWORK_FILE).write_bytes(data)

    with pytest.raises(MissingModel, match=r"eyes\.onnx is damaged"):
        EmoEyes(copy)


@pytest.mark.parametrize("name", [CHECKSUMS, MANIFEST, NETWORK_FILE])
def test_a_missing_file_is_one_sentence_with_advice(copy, name) -> None:
    (copy / name).unlink()

    with pytest.raises(MissingModel, match="install emo_llama_ros again"):
        EmoEyes(copy)


def test_a_manifest_of_another_kind_is_refused(copy) -> None:
    from emo_llama_ros.checksums import file_sha256

    (copy / MANIFEST).write_text("[]")
    sums = json.loads((copy / CHECKSUMS).read_text())
    (copy / CHECKSUMS).write_text(json.dumps(sums | {MANIFEST: file_sha256(copy / MANIFEST)}))

    with pytest.raises(MissingModel, match="damaged"):
        EmoEyes(copy)
