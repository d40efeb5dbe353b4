"""Records become items: which frames and faces are seen, what is drawn how often, what is left out and why."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from emo_llama_ros.data.datasets import read_frames
from emo_llama_ros.data.records import Record, write_records
from emo_llama_ros.errors import BadData, BadParameter, MissingModel
from emo_llama_ros.faces.alignment import margin_crop
from emo_llama_ros.faces.make import make_analyzer
from emo_llama_ros.labels import RAF_DB
from emo_llama_ros.model.loading import load_model
from emo_llama_ros.model.processing import preprocess_clip
from emo_llama_ros.options import Options
from emo_llama_ros.prompts import label_turn
from emo_llama_ros.training.recipe import load_recipe
from emo_llama_ros.training.record_source import RecordSource
from emo_llama_ros.training.source import make_source

sys.path.insert(0, str(Path(__file__).parent))
from tiny_tuning import EMBEDDING, EVIDENCE, FRAMES, LANDMARKS, write_sixteen


@pytest.fixture(scope="module")
def sixteen(tmp_path_factory):
    return write_sixteen(tmp_path_factory.mktemp("records"))


@pytest.fixture(scope="module")
def own_model(tiny_checkpoints):
    """A model whose face branch reads what the generated records bring, on a base with tokenizers."""
    config = tiny_checkpoints.config()
    face = replace(config.face, embedding_dim=EMBEDDING, embedding_is_map=False, evidence_dim=EVIDENCE)
    return tiny_checkpoints.model(replace(config, face=face)), tiny_checkpoints.ours()


@pytest.fixture
def source_of(own_model, tmp_path):
    def make(path, **data):
        data = {"records": [str(path)], "view": "frame", "frames": FRAMES, **data}
        return RecordSource(data, str(own_model[1]), tmp_path / "run", False)

    return make


@pytest.fixture(scope="module")
def networks():
    try:
        return make_analyzer(Options())
    except MissingModel as error:
        pytest.skip(str(error))


def test_images_and_videos_become_items_with_their_own_priors(sixteen, own_model, source_of):
    source = source_of(sixteen)
    source.prepare(own_model[0])
    items, held_out = source.items({}, 0)
    assert (len(items), held_out) == (16, None)
    image, video, gap = items[0], items[1], items[3]
    size = own_model[0].config.vision.image_size
    assert image.pixel_values.shape == (1, 3, size, size)
    assert video.pixel_values.shape == (FRAMES, 3, size, size)
    assert video.face_priors.landmarks.shape == (FRAMES, LANDMARKS, 2)
    assert gap.face_priors.valid.tolist() == [True] * (FRAMES - 1) + [False]
    assert source.collate([image, video, gap])["frame_counts"] == [1, FRAMES, FRAMES]


def test_images_are_padded_to_a_square_and_videos_are_not(sixteen, own_model, source_of):
    source = source_of(sixteen)
    source.prepare(own_model[0])
    items, _ = source.items({}, 0)
    for item, record, pad in ((items[0], items.records[0], True), (items[1], items.records[1], False)):
        frames = [frame.rgb for frame in read_frames(Path(record.path), FRAMES)]
        expected = preprocess_clip(frames, own_model[0].config.vision.image_size, pad=pad)
        assert torch.equal(item.pixel_values, expected)


def test_a_new_face_branch_learns_mean_and_deviation_of_its_evidence(sixteen, own_model, source_of):
    model = own_model[0]
    mining = model.face_branch.mining
    mining.evidence_mean.zero_()
    mining.evidence_std.fill_(1.0)
    source_of(sixteen).prepare(model)
    rows = np.concatenate([np.load(sixteen.parent / f"{i}.npz")["evidence"] for i in range(16)])
    np.testing.assert_allclose(mining.evidence_mean.numpy(), rows.mean(0), rtol=1e-4)
    np.testing.assert_allclose(mining.evidence_std.numpy(), rows.std(0), rtol=1e-4)


def test_the_sampler_mixes_kinds_and_labels_as_the_recipe_says(sixteen, own_model, source_of):
    source = source_of(sixteen, conversation_share=0.9)
    source.prepare(own_model[0])
    items, _ = source.items({}, 0)
    kinds = []
    for seed in range(40):
        kinds += [items.records[i].kind for i in source.sampler(items, seed)]
    assert kinds.count("conversation") / len(kinds) == pytest.approx(0.9, abs=0.05)


def test_real_faces_are_found_once_and_seen_as_the_node_shows_them(
    media, networks, checkpoint, tmp_path, caplog, monkeypatch
):
    smile, nobody, picture = media("single_face.mp4"), media("no_face.mp4"), media("single_face.jpg")
    files = {"smile": smile, "nobody": nobody, "picture": picture}
    write_records(
        tmp_path / "records.jsonl",
        [
            Record(name, "image" if path.suffix == ".jpg" else "video", str(path),
                   (label_turn(RAF_DB, video=path.suffix != ".jpg", answer="happiness"),), "category", "happiness")
            for name, path in files.items()
        ],
    )  # fmt: skip
    model, _ = load_model(checkpoint(), device="cpu", dtype="float32")
    data = {"records": [str(tmp_path / "records.jsonl")], "frames": 4}

    def items_of():
        source = RecordSource(data, str(checkpoint()), tmp_path, False)
        source.prepare(model)
        return source.items({}, 0)[0]

    items = items_of()
    assert [record.id for record in items.records] == ["smile", "picture"]
    assert "1 of 3 records are left out; the first is nobody: No face was found." in caplog.text
    log = json.loads((tmp_path / "log.jsonl").read_text())
    assert (log["left_out"], log["reasons"]) == (1, {"No face was found.": 1})
    first = read_frames(smile, 4)[0].rgb
    expected = preprocess_clip([margin_crop(first, networks.analyze(first)[0].box)], 56, pad=True)
    torch.testing.assert_close(items[0].pixel_values[:1], expected)
    kept = list((tmp_path / "measurements").glob("*.npz"))
    assert len(kept) == 3
    assert {name for file in kept for name in np.load(file).files} == {
        "rows", "boxes", "valid", "embedding", "landmarks", "evidence"
    }  # fmt: skip
    monkeypatch.setattr("emo_llama_ros.training.record_items.measure_faces", None)  # must not be needed again
    again = items_of()
    torch.testing.assert_close(again[0].face_priors.landmarks, items[0].face_priors.landmarks)


def test_measurements_of_another_size_are_named(sixteen, own_model, source_of, tmp_path):
    np.savez(tmp_path / "p.npz", rows=[0], embedding=np.zeros((1, 3)))
    record = Record("odd", "image", str(sixteen.parent / "0.png"),
                    (label_turn(RAF_DB, video=False, answer="fear"),), priors="p.npz")  # fmt: skip
    write_records(tmp_path / "odd.jsonl", [record])
    with pytest.raises(BadData, match=f"'embedding' must be 1 × {EMBEDDING}, but 1 × 3"):
        source_of(tmp_path / "odd.jsonl").prepare(own_model[0])


def test_a_medium_that_is_not_there_is_named(source_of, tmp_path):
    record = Record("gone", "image", "gone.png", (label_turn(RAF_DB, video=False, answer="fear"),))
    write_records(tmp_path / "gone.jsonl", [record])
    with pytest.raises(BadData, match=r"'gone' names .*gone.png, which is not there"):
        source_of(tmp_path / "gone.jsonl")


@pytest.mark.parametrize(
    ("data", "complaint"),
    [({"view": "ears"}, "'face' or 'frame'"), ({"balance": 2}, "between 0 and 1"), ({"frame": 1}, "wrong key"),
     ({"records": "a.jsonl"}, "must list"), ({"faces": "whole"}, "'auto', 'detect' or 'pad'")],
)  # fmt: skip
def test_a_wrong_key_is_told(sixteen, source_of, data, complaint):
    with pytest.raises(BadParameter, match=complaint):
        source_of(sixteen, **data)


def test_an_unknown_source_is_told_with_the_known_ones(tmp_path):
    recipe = load_recipe(Path(__file__).resolve().parents[2] / "config" / "train" / "emo_llama_7b_lora.yaml")
    with pytest.raises(BadParameter, match="'records' or 'synthetic'"):
        make_source(replace(recipe, data={"source": "clouds"}), tmp_path, False)
