"""One command trains emo-eyes; it can be stopped and goes on as if it had not been."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the 'model' extra")
pytest.importorskip("sklearn", reason="needs the 'train' extra")

from emo_llama_ros.errors import BadParameter
from emo_llama_ros.faces.alignment import Roi, cut
from emo_llama_ros.faces.emo_eyes import FRAME, INPUTS, NETWORK_FILE, OUTPUTS, TRAINING_LOG, EmoEyes
from emo_llama_ros.faces.onnx_network import open_session
from emo_llama_ros.labels import FERPLUS, RAF_DB
from emo_llama_ros.training import start as start_module
from emo_llama_ros.training.eyes import run
from emo_llama_ros.training.eyes.export import export
from emo_llama_ros.training.eyes.fit import predict
from emo_llama_ros.training.eyes.made_up import made_up_faces
from emo_llama_ros.training.eyes.movements import MovementLayer
from emo_llama_ros.training.eyes.network import EmoEyes as Network
from emo_llama_ros.training.eyes.recipe import load_eyes_recipe

RECIPE = "config/train/eyes.yaml"
FACES = 120


@pytest.fixture(scope="module")
def recipe(repository):
    short = {"max_steps": 4, "per_device_train_batch_size": 16, "save_steps": 2, "save_total_limit": 2,
             "logging_steps": 2, "warmup_steps": 1}  # fmt: skip
    whole = load_eyes_recipe(repository / RECIPE)
    return replace(whole, smoke=short, faces=replace(whole.faces, held_out=0.3))


@pytest.fixture(scope="module")
def made(recipe, tmp_path_factory):
    """A run on few drawn faces, from the first step to the last, where an earlier one has left checkpoints."""
    output = tmp_path_factory.mktemp("whole")
    for folder in ("checkpoints", "checkpoints_2"):
        (output / folder / "checkpoint-9").mkdir(parents=True)
    return run.train_eyes(recipe, output=output, smoke=True, smoke_faces=FACES)


def test_a_smoke_run_makes_all_that_the_node_reads(made, recipe):
    reading = EmoEyes(made.folder).read_picture(np.zeros((recipe.network.size,) * 2, np.uint8))
    entries = [json.loads(line) for line in (made.folder / TRAINING_LOG).read_text().splitlines()]

    assert reading.probabilities.sum() == pytest.approx(1, abs=1e-5)
    assert entries[0]["smoke"] is True
    assert [e["step"] for e in entries if "loss" in e] == [2, 4, 2, 4], "both runs"
    assert NETWORK_FILE in entries[-1]["weights"]
    assert made.plot.is_file()


def test_a_run_that_starts_anew_keeps_no_checkpoint_of_an_earlier_one(made):
    assert not list(made.log.parent.glob("*/checkpoint-9"))


@pytest.mark.parametrize(
    "lost",
    [
        ("checkpoints/checkpoint-4", "checkpoints_2"),
        ("checkpoints_2/checkpoint-2", "checkpoints_2/checkpoint-4"),  # stopped before the second run's first one
        ("checkpoints_2/checkpoint-4",),
    ],
)
def test_a_resumed_run_ends_at_the_same_bits_as_an_uninterrupted_one(made, recipe, tmp_path, lost):
    stopped = shutil.copytree(made.log.parent, tmp_path / "stopped")
    for folder in (*lost, run.RESULT):
        shutil.rmtree(stopped / folder)

    resumed = run.train_eyes(recipe, output=stopped, smoke=True, resume=True, smoke_faces=FACES)

    assert (resumed.folder / NETWORK_FILE).read_bytes() == (made.folder / NETWORK_FILE).read_bytes()


def test_the_exported_network_is_the_trained_one(tmp_path):
    torch.manual_seed(3)
    network = Network()
    for module in network.modules():  # statistics that differ from those of a new network
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
    network.eval()
    layer = MovementLayer(torch.rand(32), torch.rand(32) + 0.1, torch.randn(32, 8))
    export(network, layer, 67, tmp_path / NETWORK_FILE)
    pictures, movements = torch.randn(3, 1, 67, 67), torch.rand(3, 32)
    movements[1] = float("nan")
    exported = open_session(tmp_path / NETWORK_FILE, 1).run(
        list(OUTPUTS), dict(zip(INPUTS, (pictures.numpy(), movements.numpy()), strict=True))
    )
    with torch.no_grad():
        logits, disagreement, features, vector = network(pictures)
        logits += layer(movements)
    for ours, theirs in zip((logits, torch.sigmoid(disagreement), features, vector), exported, strict=True):
        assert ours.numpy() == pytest.approx(theirs, abs=1e-4)


def test_the_node_s_reading_of_a_picture_is_what_training_measured(made, recipe):
    eyes = EmoEyes(made.folder, operating_point=0.0)
    faces = made_up_faces(8, seed=9)
    average = torch.load(made.log.parent / "checkpoints_2" / "checkpoint-4" / "average.pt", weights_only=True)
    network = Network(recipe.network.dropout)
    network.load_state_dict({k.removeprefix("module."): v for k, v in average.items() if k.startswith("module.")})

    logits, _ = predict(network, faces.images, recipe.network.size)
    displays = (logits / eyes.manifest.temperature(0.0)).softmax(1)
    seven = displays[:, [FERPLUS.labels.index(label) for label in RAF_DB.labels]]

    for image, shares in zip(faces.images, seven / seven.sum(1, keepdim=True), strict=True):
        seen = cut(image, Roi(23.5, 23.5, 48 * FRAME), recipe.network.size, repeat_edge=True)
        assert eyes.read_picture(seen).probabilities == pytest.approx(shares.numpy(), abs=0.02)


def test_the_second_run_goes_on_from_the_average_of_the_first(made):
    first, second = (
        torch.load(made.log.parent / folder / f"checkpoint-{step}" / "average.pt", weights_only=True)
        for folder, step in (("checkpoints", 4), ("checkpoints_2", 2))
    )
    kernels = [name for name, values in first.items() if values.ndim == 4]
    moved = [float((second[name] - first[name]).norm() / first[name].norm()) for name in kernels]

    assert 0 < max(moved) < 0.05


def test_without_faces_the_recipe_says_what_to_name(repository, tmp_path):
    with pytest.raises(BadParameter, match="--data"):
        run.train_eyes(load_eyes_recipe(repository / RECIPE), output=tmp_path)


def test_only_the_recipe_of_emo_eyes_takes_data(repository):
    with pytest.raises(BadParameter, match="names its own data"):
        start_module.start(repository / "config/train/nano.yaml", data="somewhere")


def test_a_size_that_does_not_fit_the_network_is_refused_with_those_that_do(repository, tmp_path):
    wrong = tmp_path / "eyes.yaml"
    wrong.write_text((repository / RECIPE).read_text().replace("size: 67", "size: 75"))
    with pytest.raises(BadParameter, match="67"):
        load_eyes_recipe(wrong)


def test_an_unknown_key_is_named(repository, tmp_path):
    wrong = tmp_path / "eyes.yaml"
    wrong.write_text((repository / RECIPE).read_text().replace("dropout: 0.3", "dropuot: 0.3"))
    with pytest.raises(BadParameter, match="dropuot"):
        load_eyes_recipe(wrong)
