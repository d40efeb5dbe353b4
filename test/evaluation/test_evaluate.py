"""Every sample is answered or counted, all backends see the same clips, and reasoning is held against measurements."""

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("sklearn", reason="needs scikit-learn (extra: train)")

from emo_llama_ros.data.datasets import open_dataset
from emo_llama_ros.data.datasets.clip_source import Faces, WholePicture
from emo_llama_ros.errors import BadParameter, MissingModel
from emo_llama_ros.estimate import Status
from emo_llama_ros.evaluation.evaluate import Plan, evaluate, translate
from emo_llama_ros.faces.face import QualityFlaw
from emo_llama_ros.labels import AFFECTNET, AFFECTNET_7, MAFW, RAF_DB, LabelSet
from emo_llama_ros.options import Options

sys.path.insert(0, str(Path(__file__).parent))
from scripted_backend import BrightnessBackend, brightness_of


def grey(path, value, size=64):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((size, size, 3), value, np.uint8))


@pytest.fixture
def plan(tmp_path):
    """Two pictures that BrightnessBackend reads right, one that it takes for fear."""
    for name, looks in (("happiness/1", "happiness"), ("anger/1", "anger"), ("anger/2", "fear")):
        grey(tmp_path / f"{name}.png", brightness_of(looks))
    return Plan(open_dataset(tmp_path), tmp_path, "test", faces=Faces.WHOLE)


def run(plan, backend, **options):
    backend.load()
    return evaluate(plan, {"scripted": backend}, None, Options(), **options)[0]


def test_each_sample_has_a_prediction_with_its_truth(plan):
    found = run(plan, BrightnessBackend())
    said = {p.id: (p.label, RAF_DB.labels[int(np.argmax(p.probabilities))]) for p in found.predictions}
    assert said == {
        "happiness/1.png": ("happiness", "happiness"),
        "anger/1.png": ("anger", "anger"),
        "anger/2.png": ("anger", "fear"),
    }
    assert all(p.latency_ms > 0 for p in found.predictions)


def test_all_backends_are_given_the_same_clips(plan):
    backends = {"one": BrightnessBackend(), "two": BrightnessBackend()}
    for backend in backends.values():
        backend.load()
    evaluate(plan, backends, None, Options())
    assert [id(c) for c in backends["one"].seen] == [id(c) for c in backends["two"].seen]
    assert len(backends["one"].forgotten) == 3


@pytest.mark.parametrize(
    ("status", "outcome"), [(Status.UNPARSED, "unparsed"), (Status.ERROR, "error"), (Status.NO_FACE, "no_face")]
)
def test_an_answer_without_a_label_keeps_its_reason(plan, status, outcome):
    found = run(plan, BrightnessBackend(statuses={RAF_DB.index("fear"): status}))
    assert [p.outcome for p in found.predictions if p.id == "anger/2.png"] == [outcome]
    assert found.first_error == "as asked"


def test_an_unreadable_sample_counts_for_nobody_and_the_rest_goes_on(plan):
    (plan.root / "anger/1.png").write_bytes(b"\x89PNG\r\n\x1a\n no picture")
    found = run(plan, BrightnessBackend())
    assert [p.outcome for p in found.predictions] == ["ok", "ok"]
    assert [(p.id, p.outcome) for p in found.unreadable] == [("anger/1.png", "unreadable")]
    assert "anger/1.png" in found.unreadable[0].message


def test_labels_that_do_not_count_are_left_out_and_named(plan):
    from dataclasses import replace

    from emo_llama_ros.data.datasets import LeftOut

    left_out = LeftOut()
    only_joy = LabelSet("joy", ("happiness", "neutral"))
    samples = replace(plan, label_set=only_joy).samples(left_out)
    assert [s.label for s in samples] == ["happiness"]
    assert left_out.counts == {"is labelled 'anger', which is not in joy": 2}


def test_the_flaw_of_the_newest_face_is_kept(plan):
    from dataclasses import replace

    class Flawed:
        """Finds the whole picture, and calls it dark."""

        name = "flawed"

        def analyze(self, rgb):
            (face,) = WholePicture().analyze(rgb)
            return [replace(face, flaws=QualityFlaw.DARK)]

    backend = BrightnessBackend()
    backend.load()
    (found,) = evaluate(replace(plan, faces=Faces.DETECT), {"b": backend}, Flawed(), Options())
    assert {p.low_quality for p in found.predictions} == {True}
    assert {p.low_quality for p in run(plan, BrightnessBackend()).predictions} == {False}


def test_a_limit_takes_samples_from_the_whole_list(tmp_path):
    for i in range(10):
        grey(tmp_path / f"{'anger' if i < 5 else 'sadness'}/{i}.png", 100)
    found = run(Plan(open_dataset(tmp_path), tmp_path, "test", faces=Faces.WHOLE, limit=4), BrightnessBackend())
    assert sorted(p.label for p in found.predictions) == ["anger", "anger", "sadness", "sadness"]


def test_a_whole_picture_fills_the_crop(plan):
    backend = BrightnessBackend()
    run(plan, backend)
    crop = backend.seen[0].faces[0].crop
    assert crop.shape == (224, 224, 3)
    assert (crop == crop[0, 0]).all()


def test_progress_is_told(plan):
    told = []
    run(plan, BrightnessBackend(), on_sample=lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_finding_faces_needs_an_analyzer(tmp_path):
    grey(tmp_path / "anger/1.png", 100)
    backend = BrightnessBackend()
    with pytest.raises(BadParameter, match="needs an analyzer"):
        run(Plan(open_dataset(tmp_path), tmp_path, "test", faces=Faces.DETECT), backend)


def test_reasoning_is_checked_against_what_was_measured(plan):
    from dataclasses import replace

    found = run(replace(plan, reasoning=True), BrightnessBackend(text="The face shows {}. The lip corners are raised."))
    assert [(p.sentences, p.sentences_held) for p in found.predictions] == [(2, 1)] * 3
    assert found.reasoning.share == 0.5
    assert found.reasoning.examples == ["The lip corners are raised."] * 3


def test_labels_of_another_set_are_translated():
    p = (0.5, 0.1, 0.1, 0.1, 0.05, 0.05, 0.0, 0.1)
    assert translate(p, AFFECTNET, AFFECTNET_7) == pytest.approx([x / 0.9 for x in p[:7]])
    on_mafw = translate((0.1, 0.1, 0.1, 0.4, 0.1, 0.1, 0.1), RAF_DB, MAFW)
    assert sum(on_mafw) == pytest.approx(1)
    assert on_mafw[MAFW.index("happiness")] == pytest.approx(0.4)
    assert on_mafw[MAFW.index("anxiety")] == 0
    assert translate((0, 0, 0, 0, 0, 0, 0, 1.0), AFFECTNET, RAF_DB) == ()


def test_tight_crops_of_real_faces_are_found_after_padding(media, tmp_path):
    from emo_llama_ros.faces.make import make_analyzer

    try:
        analyzer = make_analyzer(Options())
    except MissingModel as error:
        pytest.skip(str(error))
    image = cv2.imread(str(media("single_face.jpg")))
    face = analyzer.analyze(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))[0].box
    x, y, w, h = (round(v) for v in (face.x, face.y, face.width, face.height))
    (tmp_path / "happiness").mkdir()
    cv2.imwrite(
        str(tmp_path / "happiness/tight.png"), cv2.resize(image[max(y, 0) : y + h, max(x, 0) : x + w], (100, 100))
    )
    plan = Plan(open_dataset(tmp_path), tmp_path, "test", faces=Faces.PAD)
    backend = BrightnessBackend()
    backend.load()
    (found,) = evaluate(plan, {"b": backend}, analyzer, Options())
    assert found.predictions[0].outcome == "ok"
    assert backend.seen[0].faces[0].measures


def test_the_expression_of_a_picture_that_is_the_face_is_read_in_the_frame_of_fer2013(analyzer, media):
    from emo_llama_ros.data.datasets.clip_source import FER_DROP, FER_SCALE, face_finder
    from emo_llama_ros.faces.alignment import cut, face_roi
    from emo_llama_ros.labels import RAF_DB

    rgb = cv2.cvtColor(cv2.imread(str(media("0-f15-hao-ph.jpg"))), cv2.COLOR_BGR2RGB)
    (found,) = analyzer.analyze(rgb)[:1]
    small = cut(rgb, face_roi(found.landmarks, FER_SCALE, FER_DROP), 48)  # as FER2013 would hold this face
    (whole,) = face_finder(Faces.WHOLE, Options()).analyze(small)
    assert RAF_DB.labels[int(whole.expression.argmax())] == "happiness"
    assert np.abs(whole.expression - found.expression).max() < 0.15


def test_faces_are_whole_in_data_cut_like_fer2013_and_padded_in_other_crops():
    from emo_llama_ros.data.datasets import DATASETS

    assert Faces.AUTO.resolve(DATASETS["ferplus"]) is Faces.WHOLE
    assert Faces.AUTO.resolve(DATASETS["ferplus"], mesh=True) is Faces.PAD
    assert Faces.AUTO.resolve(DATASETS["raf-db"]) is Faces.PAD
    assert Faces.AUTO.resolve(DATASETS["mafw"]) is Faces.DETECT
    assert Faces.DETECT.resolve(DATASETS["ferplus"]) is Faces.DETECT
