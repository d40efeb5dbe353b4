"""The parity bench against the numbers of the original, and against folders of other layouts."""

import json
import shutil
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from emo_llama_ros.model.modeling import ClipInputs


@pytest.fixture(scope="module")
def parity():
    from pathlib import Path

    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
    try:
        import parity
    finally:
        del sys.path[0]
    return parity


@pytest.fixture(scope="module")
def golden(parity, golden_folder):
    return parity.Golden(golden_folder)


@pytest.fixture
def write_folder(tmp_path, golden_folder):
    """Write a golden folder with the original's weights and other cases."""

    def write(cases, tensors):
        for name in ("model.safetensors", "bert_vocab.txt"):
            shutil.copy(golden_folder / name, tmp_path / name)
        config = json.loads((golden_folder / "config.json").read_text())
        (tmp_path / "config.json").write_text(json.dumps({**config, "cases": cases}))
        save_file({name: tensor.clone().contiguous() for name, tensor in tensors.items()}, tmp_path / "io.safetensors")
        return tmp_path

    return write


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_every_step_equals_the_original(parity, golden_folder, attention):
    rows = parity.compare_folder(golden_folder, attention)
    assert [row for row in rows if not row.ok] == []
    steps = "vision_features qformer_input_ids qformer_last_hidden text_q ctx_token content_tokens visual_tokens"
    expected = {f"{case}.{step}" for case in ("image", "video", "image_nocompress") for step in steps.split()}
    expected |= {
        f"{case}.{step}" for case in ("image", "video") for step in ("pixel_values", "logits", "greedy_tokens")
    }
    assert {row.name for row in rows} >= expected


@pytest.mark.parametrize("name", ["image.pixel_values", "video.ctx_token", "image.greedy_tokens", "video.logits"])
def test_a_tensor_beyond_its_tolerance_fails_by_name(parity, golden, write_folder, name, capsys):
    tensors = dict(golden.tensors)
    tensors[name] = tensors[name].clone()
    tensors[name].view(-1)[-1] += 1 if tensors[name].dtype == torch.int64 else 3e-4
    assert parity.main([str(write_folder(golden.config["cases"], tensors))]) == 1
    failed = [line for line in capsys.readouterr().out.splitlines() if line.endswith("FAIL")]
    assert any(line.startswith(name) for line in failed)


def test_a_folder_within_tolerance_passes(parity, golden_folder, capsys):
    assert parity.main([str(golden_folder)]) == 0
    assert "34 of 34 tensors within tolerance." in capsys.readouterr().out


def test_what_cannot_be_compared_fails_and_says_why(parity, golden, write_folder):
    cases = {**golden.config["cases"], "empty": {"prompts": ["x"]}}
    tensors = {**golden.tensors, "video.surprise": torch.zeros(2), "lost.input_ids": torch.tensor([[1, -200]])}
    problems = {row.name: row.problem for row in parity.compare_folder(write_folder(cases, tensors)) if not row.ok}
    assert problems["video.surprise"] == "no such step is known here"
    assert problems["empty"] == "the folder has no tensors for this case"
    assert "0 clips for 1 samples" in problems["lost"]
    assert len(problems) == 3


def test_a_padded_batch_computes_what_its_samples_compute_alone(golden):
    model = golden.model("mean", "eager")
    names = ("image", "video")
    given = [{k: golden.tensors[f"{n}.{k}"] for k in ("input_ids", "pixel_values", "logits")} for n in names]
    prompts = [golden.tokenizer(golden.config["cases"][n]["prompts"]) for n in names]
    with torch.no_grad():
        clips = [
            ClipInputs(*prompt, model.encode_frames(case["pixel_values"]))
            for prompt, case in zip(prompts, given, strict=True)
        ]
        logits = model([case["input_ids"][0] for case in given], clips).logits
    for row, case in zip(logits, given, strict=True):
        torch.testing.assert_close(row[: case["logits"].shape[1]], case["logits"][0], atol=2e-4, rtol=0)


def _layouts(image, video):
    """The same batch of an image and a two-turn video, told in the ways a folder may choose."""
    one, two = ["Who is it?"], ["What is the emotion?", "Why does the person feel sad?"]
    yield "names", {"prompts": [one, two], "pixel_values": ["image", "video.pixel_values"]}, {}
    yield "flat prompts", {"prompts": [*one, *two], "images": ["image", "video"]}, {}
    yield "own pixels", {"prompts": [one, two]}, {"pixel_values_0": image, "pixel_values_1": video}


@pytest.mark.parametrize("layout", range(3))
@pytest.mark.parametrize("merged_names", [True, False])
def test_a_batch_is_found_however_it_is_told(parity, golden, write_folder, layout, merged_names):
    images = {name: golden.tensors[f"{name}.pixel_values"] for name in ("image", "video")}
    _, case, own = list(_layouts(**images))[layout]
    ids = torch.tensor([[1, 5, -200, 7, 8, 2, 0, 0], [1, -200, 9, 2, -200, 10, 11, 2]])
    mask, labels = (ids != 0).long(), torch.full_like(ids, -100)
    labels[0, 4:6], labels[1, 2:4], labels[1, 6:] = ids[0, 4:6], ids[1, 2:4], ids[1, 6:]
    model = golden.model("grid:2", "eager")
    prompts = [["Who is it?"], ["What is the emotion?", "Why does the person feel sad?"]]
    with torch.no_grad():
        clips = [
            ClipInputs(*golden.tokenizer(p), model.encode_frames(images[name]))
            for p, name in zip(prompts, ("image", "video"), strict=True)
        ]
        batch = model.merge(ids, model.visual_blocks(clips), mask, labels)
        output = model(ids, clips, mask, labels)
    tensors = {
        "input_ids": ids,
        "inputs_embeds": batch.inputs_embeds,
        "logits": output.logits,
        "loss": output.loss.reshape(()),
        **({"attention_mask": mask, "labels": labels} if merged_names else {}),
        ("merged_attention_mask" if merged_names else "attention_mask"): batch.attention_mask.long(),
        ("merged_labels" if merged_names else "labels"): batch.labels,
        **own,
    }
    folder = write_folder(
        {"batch": {**case, "compress_type": "grid:2"}},
        {f"batch.{k}": v for k, v in tensors.items()} | {f"{k}.pixel_values": v for k, v in images.items()},
    )
    rows = parity.compare_folder(folder)
    assert [row for row in rows if not row.ok] == []
    assert {"batch.loss", "batch.logits", "batch.inputs_embeds"} <= {row.name for row in rows}
    broken = load_file(folder / "io.safetensors")
    broken["batch.loss"] = broken["batch.loss"] + 1e-3
    save_file(broken, folder / "io.safetensors")
    assert [row.name for row in parity.compare_folder(folder) if not row.ok] == ["batch.loss"]
