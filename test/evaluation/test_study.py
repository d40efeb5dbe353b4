"""A study leaves tables, pictures and predictions, and its numbers are those of the data."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("sklearn", reason="needs scikit-learn (extra: train)")

from emo_llama_ros.data.datasets import open_dataset
from emo_llama_ros.data.datasets.clip_source import Faces
from emo_llama_ros.errors import BadParameter, EmoError, MissingModel
from emo_llama_ros.evaluation import study as study_module
from emo_llama_ros.evaluation.evaluate import Plan
from emo_llama_ros.evaluation.prediction import read_predictions
from emo_llama_ros.evaluation.study import Contender, Study, contenders, run_study
from emo_llama_ros.options import Options

sys.path.insert(0, str(Path(__file__).parent))
from scripted_backend import BrightnessBackend, brightness_of
from test_evaluate import grey


@pytest.fixture
def made(monkeypatch):
    """Backends in the order they were made."""
    backends = []

    def make(options):
        backends.append(BrightnessBackend(options=options))
        return backends[-1]

    monkeypatch.setattr(study_module, "make_backend", make)
    return backends


@pytest.fixture
def data(tmp_path):
    """A list with train and test split; in each 10 of 20 happy faces look happy, the others angry."""
    lines = ["path,label,split,fold"]
    for split in ("train", "test"):
        for i in range(20):
            name = f"{split}{i}.png"
            grey(tmp_path / name, brightness_of("happiness" if i % 2 else "anger"))
            lines.append(f"{name},happiness,{split},{1 + i // 10}")
    (tmp_path / "mine.csv").write_text("\n".join(lines))
    return tmp_path / "mine.csv"


def study(data, out, names=("expression",), **changes):
    plan = Plan(open_dataset(data), data, "test", (1, 2), faces=Faces.WHOLE)
    plan = replace(plan, **{k: changes.pop(k) for k in list(changes) if k in ("folds", "split")})
    made = tuple(Contender(name, Options().with_values({"backend": "expression"})) for name in names)
    return Study(plan, made, Options(), out, "mine test", "emo_llama evaluate mine.csv", **changes)


def test_everything_is_written_and_agrees(made, data, tmp_path):
    out = tmp_path / "out"
    found = run_study(study(data, out, ("one", "two")), None)
    assert found["results"][0]["war"]["value"] == 0.5
    assert json.loads((out / "report.json").read_text()) == found
    assert "| samples | 20 | 20 |" in (out / "report.md").read_text()
    assert found["comparisons"]["two"]["agreement"] == 1.0
    for name in ("one", "two"):
        assert len(list(read_predictions(out / f"predictions-{name}.jsonl"))) == 20
        assert (out / f"confusion-{name}.png").stat().st_size > 1000
        assert (out / f"reliability-{name}.png").stat().st_size > 1000
    assert all(b.loaded and b.closed for b in made)


def test_folds_are_averaged(made, data, tmp_path):
    found = run_study(study(data, tmp_path / "out"), None)
    assert set(found["results"][0]["folds"]) == {"1", "2"}


def test_a_fitted_calibration_is_used_and_written(made, data, tmp_path):
    loud = run_study(study(data, tmp_path / "loud", folds=(1,)), None)["results"][0]
    fitted = study(data, tmp_path / "out", folds=(1,), fit_method="temperature", fit_split="train")
    calm = run_study(fitted, None)["results"][0]
    assert loud["calibration"]["ece"] == pytest.approx(0.4)
    assert calm["calibration"]["ece"] < 0.05
    assert calm["war"] == loud["war"]
    written = json.loads((tmp_path / "out/calibration-expression.json").read_text())
    assert written["fitted_on"] == "mine train, 10 samples"
    assert "temperature" in made[-1].info.calibration


def test_a_calibration_of_the_model_itself_is_set_aside_while_fitting(made, data, tmp_path):
    run_study(study(data, tmp_path / "out", folds=(1,), fit_method="temperature", fit_split="train"), None)
    assert made[0].info.calibration.startswith("temperature 1 ")


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"fit_method": "temperature", "fit_split": "test", "folds": (1,)}, "would flatter it"),
        ({"fit_method": "temperature", "fit_split": "train"}, "choose one fold"),
        ({"names": ()}, "at least one backend"),
    ],
)
def test_studies_that_make_no_sense_are_refused(made, data, tmp_path, changes, complaint):
    with pytest.raises(BadParameter, match=complaint):
        run_study(study(data, tmp_path / "out", **changes), None)


def test_each_fold_has_its_own_model_where_the_path_says_so(made, data, tmp_path):
    options = Options().with_values({"backend": "emo_llama", "model_path": "models/fold{fold}"})
    found = run_study(replace(study(data, tmp_path / "out"), contenders=(Contender("emo_llama", options),)), None)
    assert [b.options.model_path for b in made] == ["models/fold1", "models/fold2"]
    assert found["results"][0]["samples"] == 20


def test_backends_are_closed_when_one_cannot_be_loaded(monkeypatch, data, tmp_path):
    first = BrightnessBackend()

    def make(options):
        if first.loaded:
            raise MissingModel("There is no model.")
        return first

    monkeypatch.setattr(study_module, "make_backend", make)
    with pytest.raises(EmoError, match="no model"):
        run_study(study(data, tmp_path / "out", ("one", "two")), None)
    assert first.closed


def test_contenders_are_named_after_backend_and_model():
    made = contenders(["expression", "emo_llama=models/a", "emo_llama=models/b"], "", Options(), "dfew")
    assert [c.name for c in made] == ["expression", "emo_llama-a", "emo_llama-b"]
    assert [c.options.label_set for c in made] == ["raf-db", "dfew", "dfew"]
    assert contenders(["emo_llama"], "models/c", Options(), "dfew")[0].options.model_path == "models/c"
    with pytest.raises(BadParameter, match="same name"):
        contenders(["emo_llama=x/a", "emo_llama=y/a"], "", Options(), "dfew")


def test_the_command_evaluates_real_faces(media, tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from emo_llama_ros.cli import app

    try:
        from emo_llama_ros.faces.analyzer import make_analyzer

        make_analyzer(Options())
    except MissingModel as error:
        pytest.skip(str(error))
    rows = [("single_face.jpg", "happiness"), ("multi_face.jpg", "joy"), ("no_face.mp4", "neutral")]
    data = tmp_path / "faces.csv"
    data.write_text("path,label\n" + "".join(f"{media(name)},{label}\n" for name, label in rows))
    out = tmp_path / "out"
    result = CliRunner().invoke(app, ["evaluate", str(data), "--out", str(out), "--reasoning", "--frames", "4"])
    assert result.exit_code == 0, result.output
    report = json.loads((out / "report.json").read_text())["results"][0]
    assert report["classes"]["happiness"]["recall"] == 1.0
    assert report["outcomes"]["no_face"] == 1
    said = report["faithful_sentences"]
    assert said["said"] >= 4
    assert said["held"] == said["said"]


def test_the_data_commands_write_records(tmp_path):
    from typer.testing import CliRunner

    from emo_llama_ros.cli import app
    from emo_llama_ros.data.records import read_records

    grey(tmp_path / "data/anger/1.png", 100)
    out = tmp_path / "records/category.jsonl"
    arguments = ["data", "category", str(tmp_path / "data"), "--split", "test", "--out", str(out)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert [r.label for r in read_records(out)] == ["anger"]
    assert (out.parent / next(read_records(out)).path).is_file()
