"""emo-llama-nano, the model that ships: that it is what its recipe made, and what it does on real faces."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the 'model' extra")

from emo_llama_ros.backends.expression import ExpressionBackend
from emo_llama_ros.backends.language_model import EmoLlamaBackend
from emo_llama_ros.checksums import file_sha256
from emo_llama_ros.evaluation.faithfulness import Tally, check
from emo_llama_ros.evidence.clip_measures import measure
from emo_llama_ros.frames import Frame
from emo_llama_ros.labels import RAF_DB
from emo_llama_ros.model.checkpoint import NANO, open_checkpoint
from emo_llama_ros.options import Options
from emo_llama_ros.perception.clips import Clip
from emo_llama_ros.perception.perception import Perception
from emo_llama_ros.training.recipe import load_recipe
from emo_llama_ros.training.synthetic.recordings import HELD_OUT

PHOTOGRAPHS = [name for name in HELD_OUT if name.endswith(".jpg")]
OFF_TOPIC = "That cannot be answered from the measured evidence."


@pytest.fixture(scope="module")
def nano():
    backend = EmoLlamaBackend(Options(worker_threads=1, device="cpu", performance="plain"))
    backend.load()
    return backend


@pytest.fixture(scope="module")
def clips_of(analyzer, media):
    """Return the clips that the node would make of a video."""
    import cv2

    made = {}

    def make(name, **values):
        key = (name, *values.items())
        if key not in made:
            perception, clips = Perception(Options(seed=1, **values), analyzer), []
            video = cv2.VideoCapture(str(media(name)))
            step_ns = round(1e9 / video.get(cv2.CAP_PROP_FPS))
            number = 0
            while (read := video.read())[0]:
                rgb = cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB)
                clips += perception.observe(Frame(number * step_ns, "camera", rgb)).due
                number += 1
            made[key] = clips
        return made[key]

    return make


@pytest.fixture(scope="module")
def still(analyzer, media):
    """Return a photograph as a clip of one frame."""
    import cv2

    def make(name):
        (face, *_) = analyzer.analyze(cv2.cvtColor(cv2.imread(str(media(name))), cv2.COLOR_BGR2RGB))
        return Clip(name, "camera", (10**9,), (face,))

    return make


def top(answer):
    return RAF_DB.labels[int(np.argmax(answer.probabilities))]


def test_the_weights_are_those_that_the_recipe_made(repository):
    recipe = load_recipe(repository / "config" / "train" / "nano.yaml")
    checkpoint = open_checkpoint(NANO)
    log = [json.loads(line) for line in (NANO / "training_log.jsonl").read_text().splitlines()]
    assert (log[0]["recipe"], log[0]["seed"], log[0]["smoke"]) == (recipe.name, recipe.seed, False)
    weights = NANO / "model.safetensors"
    assert log[-1]["weights"] == {weights.name: file_sha256(weights)}
    assert [stage.name for stage in recipe.stages] == list(dict.fromkeys(e["stage"] for e in log if "stage" in e))
    sizes = recipe.model.config["llm"]
    assert {name: getattr(checkpoint.config.llm, name) for name in sizes} == sizes


def test_it_is_small_enough_to_ship():
    assert sum(file.stat().st_size for file in NANO.iterdir()) < 25e6


def test_an_empty_model_path_takes_it_and_it_names_itself(nano):
    assert nano.info.model.startswith("emo-llama-nano/")
    assert nano.info.calibration != "identity"
    assert nano.info.checksum


def test_the_smile_is_seen(nano, clips_of):
    # The smile begins after two thirds of a second.
    clips = clips_of("single_face.mp4", clip_min_s=0.2, label_rate_hz=5.0)
    labels = [top(answer) for answer in nano.label(clips)]
    assert (labels[0], labels[-1]) == ("neutral", "happiness")


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_it_reads_photographs_that_it_was_not_trained_on_as_the_network_does_or_better(nano, still, name):
    bare = ExpressionBackend(Options())
    bare.load()
    shown = {"su": "surprise", "hao": "happiness", "anc": "anger", "di": "disgust"}[name.split("-")[2]]
    assert top(nano.label([still(name)])[0]) == shown or top(bare.label([still(name)])[0]) != shown


def test_it_says_what_was_measured(nano, clips_of):
    tally = Tally()
    for clip in clips_of("single_face.mp4"):
        evidences, phases = measure(clip)
        (answer,) = nano.label([clip])
        for question in ("", "Why do you think so?", "What changed in the last second?"):
            said = "".join(nano.explain(clip, answer, question))
            assert said.endswith(".")
            tally.add(check(said, evidences, answer.probabilities, RAF_DB.labels, phases))
    assert tally.sentences >= 3 * len(clips_of("single_face.mp4"))
    assert tally.share >= 0.95, tally.examples


def test_it_tells_a_change_with_its_time(nano, clips_of):
    clip = [clip for clip in clips_of("single_face.mp4") if len(measure(clip)[1]) > 1][-1]
    (answer,) = nano.label([clip])
    assert [top(answer)] == [phase.label for phase in measure(clip)[1]][-1:], "a display that it also names"
    said = "".join(nano.explain(clip, answer))
    assert re.search(r"changed from \w+ to \w+ .*\d", said), said


@pytest.mark.parametrize("question", ["How old is he?", "What is the name of this person?", "Is the person lying?"])
def test_it_declines_what_no_measurement_answers(nano, still, question):
    clip = still(PHOTOGRAPHS[0])
    (answer,) = nano.label([clip])
    assert "".join(nano.explain(clip, answer, question)) == OFF_TOPIC


def test_in_nf4_it_gives_the_same_label(nano, still):
    pytest.importorskip("bitsandbytes")
    packed = EmoLlamaBackend(Options(worker_threads=1, device="cpu", performance="plain", quantization="nf4"))
    packed.load()
    pairs = [[backend.label([still(name)])[0] for backend in (nano, packed)] for name in PHOTOGRAPHS]
    sure = [(top(plain), top(nf4)) for plain, nf4 in pairs if max(plain.probabilities) >= 0.6]
    assert sure
    assert all(plain == nf4 for plain, nf4 in sure), sure
