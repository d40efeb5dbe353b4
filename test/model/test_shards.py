"""Checkpoint files of every layout are read one tensor at a time; damaged ones are named."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from emo_llama_ros.errors import BadCheckpoint, MissingModel
from emo_llama_ros.model.shards import ShardWriter, find_shards, read_json, read_tensors

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4, dtype=torch.bfloat16), "c": torch.zeros(1)}


def write_shards(folder, suffix, index=True):
    stem = "pytorch_model" if suffix == "bin" else "model"
    weight_map = {}
    for number, names in enumerate((["a.weight"], ["b", "c"]), 1):
        name = f"{stem}-{number:05}-of-00002.{suffix}"
        part = {key: STATE[key] for key in names}
        torch.save(part, folder / name) if suffix == "bin" else save_file(part, folder / name)
        weight_map |= dict.fromkeys(names, name)
    if index:
        (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder


def assert_is_state(tensors):
    got = dict(tensors)
    assert got.keys() == STATE.keys()
    assert all(torch.equal(got[name], STATE[name]) and got[name].dtype == STATE[name].dtype for name in STATE)


@pytest.mark.parametrize("index", [True, False], ids=["indexed", "numbered"])
@pytest.mark.parametrize("suffix", ["bin", "safetensors"])
def test_shards_are_read_with_and_without_an_index(tmp_path, suffix, index):
    shards = find_shards(write_shards(tmp_path, suffix, index))
    assert_is_state(shards.tensors())
    assert shards.size > shards.largest > 0


def test_a_single_file_is_read(tmp_path):
    save_file(STATE, tmp_path / "model.safetensors")
    assert_is_state(find_shards(tmp_path).tensors())


def test_a_pickle_from_before_memory_mapping_is_read(tmp_path):
    torch.save(STATE, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    assert_is_state(find_shards(tmp_path).tensors())


def test_a_tensor_changed_in_memory_does_not_change_the_file(tmp_path):
    save_file(STATE, tmp_path / "model.safetensors")
    torch.save(STATE, tmp_path / "x.bin")
    for file in (tmp_path / "model.safetensors", tmp_path / "x.bin"):
        for _, tensor in read_tensors(file):
            tensor.add_(1)
        assert_is_state(read_tensors(file))


class Bomb:
    def __reduce__(self):
        import os

        return os.system, ("echo ran > /dev/null",)


def test_a_pickle_that_holds_code_is_refused(tmp_path):
    torch.save({"a": Bomb()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(BadCheckpoint, match="could run code"):
        list(find_shards(tmp_path).tensors())


def test_a_pickle_that_is_no_state_dict_is_refused(tmp_path):
    torch.save([torch.ones(1)], tmp_path / "pytorch_model.bin")
    with pytest.raises(BadCheckpoint, match="not a state dict"):
        list(find_shards(tmp_path).tensors())


@pytest.mark.parametrize("suffix", ["bin", "safetensors"])
def test_a_truncated_file_is_named(tmp_path, suffix):
    write_shards(tmp_path, suffix)
    file = next(tmp_path.glob(f"*-00002-of-00002.{suffix}"))
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(BadCheckpoint, match=rf"00002\.{suffix} is damaged"):
        list(find_shards(tmp_path).tensors())


@pytest.mark.parametrize("index", [True, False], ids=["indexed", "numbered"])
def test_a_missing_shard_is_noticed_before_reading(tmp_path, index):
    write_shards(tmp_path, "bin", index)
    (tmp_path / "pytorch_model-00001-of-00002.bin").unlink()
    with pytest.raises(MissingModel, match=r"pytorch_model-"):
        find_shards(tmp_path)


def test_an_index_that_leaves_the_folder_is_refused(tmp_path):
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    save_file(STATE, tmp_path / "other.safetensors")
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a.weight": "../other.safetensors"}}')
    with pytest.raises(MissingModel, match="other"):
        find_shards(folder)


def test_an_index_that_contradicts_the_files_is_refused(tmp_path):
    write_shards(tmp_path, "safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(index.read_text().replace('"c": "model-00002', '"d": "model-00002'))
    with pytest.raises(BadCheckpoint, match="tensor 'd'"):
        list(find_shards(tmp_path).tensors())


def test_a_tensor_in_two_files_is_named(tmp_path):
    for number in (1, 2):
        save_file({"a": torch.ones(1)}, tmp_path / f"model-0000{number}-of-00002.safetensors")
    with pytest.raises(BadCheckpoint, match=r"'a' is both in model-00001-of-00002\.safetensors and in model-00002"):
        list(find_shards(tmp_path).tensors())


def test_a_folder_without_weights_is_refused(tmp_path):
    with pytest.raises(MissingModel, match="holds no weights"):
        find_shards(tmp_path)
    with pytest.raises(MissingModel, match="no checkpoint folder"):
        find_shards(tmp_path / "none")


def test_the_writer_splits_and_the_reader_joins(tmp_path):
    writer = ShardWriter(tmp_path, max_shard_bytes=25)
    for name, tensor in STATE.items():
        writer.add(name, tensor)
    files = writer.close()
    assert [file.name for file in files] == [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
    ]
    assert read_json(files[-1])["metadata"]["total_size"] == writer.total_bytes == 24 + 8 + 4
    assert_is_state(find_shards(tmp_path).tensors())


def test_a_small_model_is_one_file_without_an_index(tmp_path):
    writer = ShardWriter(tmp_path)
    for name, tensor in STATE.items():
        writer.add(name, tensor)
    assert [file.name for file in writer.close()] == ["model.safetensors"]


def test_an_interrupted_writer_leaves_nothing_that_looks_complete(tmp_path):
    writer = ShardWriter(tmp_path, max_shard_bytes=1)
    for name, tensor in STATE.items():
        writer.add(name, tensor)
    with pytest.raises(MissingModel):
        find_shards(tmp_path)


def test_views_of_one_tensor_are_written_as_what_they_show(tmp_path):
    whole = torch.arange(6.0)
    writer = ShardWriter(tmp_path)
    writer.add("all", whole)
    writer.add("half", whole[3:])
    writer.add("turned", whole.reshape(2, 3).T)
    writer.close()
    got = load_file(tmp_path / "model.safetensors")
    assert torch.equal(got["half"], whole[3:])
    assert torch.equal(got["turned"], whole.reshape(2, 3).T)
    assert (tmp_path / "model.safetensors").stat().st_size < 600


@pytest.mark.parametrize("text", ["{", "[1]", "\udcff"])
def test_a_json_file_that_is_not_an_object_is_named(tmp_path, text):
    file = tmp_path / "config.json"
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(BadCheckpoint, match=r"config\.json"):
        read_json(file)
