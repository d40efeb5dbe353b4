"""A study leaves tables, pictures and predictions, and its numbers are those of the data."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="needs scikit-learn (extra: train)")

from emo_llama_ros.data.datasets import open_dataset
from emo_llama_ros.data.datasets.clip_source import Faces
from emo_llama_ros.errors import BadData, BadParameter, EmoError, MissingDependency, MissingModel
from emo_llama_ros.evaluation import contenders as contenders_module
from emo_llama_ros.evaluation.contenders import Contender, contenders, settled
from emo_llama_ros.evaluation.evaluate import Plan
from emo_llama_ros.evaluation.prediction import from_json
from emo_llama_ros.evaluation.study import JOURNAL, Study, run_study
from emo_llama_ros.options import Options

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "data"))
from scripted_backend import BrightnessBackend, brightness_of
from test_evaluate import grey


@pytest.fixture
def made(monkeypatch):
    """Backends in the order they were made."""
    backends = []

    def make(options):
        backends.append(BrightnessBackend(options=options))
        return backends[-1]

    monkeypatch.setattr(contenders_module, "make_backend", make)
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


def predictions_of(path):
    return [from_json(json.loads(line)) for line in path.read_text().splitlines()]


def test_everything_is_written_and_agrees(made, data, tmp_path):
    out = tmp_path / "out"
    found = run_study(study(data, out, ("one", "two")))
    assert found["results"][0]["war"]["value"] == 0.5
    assert json.loads((out / "report.json").read_text()) == found
    assert "| samples | 20 | 20 |" in (out / "report.md").read_text()
    assert found["comparisons"]["two"]["agreement"] == 1.0
    for name in ("one", "two"):
        assert len(predictions_of(out / f"predictions-{name}.jsonl")) == 20
        assert (out / f"confusion-{name}.png").stat().st_size > 1000
        assert (out / f"reliability-{name}.png").stat().st_size > 1000
    assert all(b.loaded and b.closed for b in made)


def test_folds_are_averaged(made, data, tmp_path):
    found = run_study(study(data, tmp_path / "out"))
    assert set(found["results"][0]["folds"]) == {"1", "2"}


def test_a_fitted_calibration_is_used_and_written(made, data, tmp_path):
    loud = run_study(study(data, tmp_path / "loud", folds=(1,)))["results"][0]
    fitted = study(data, tmp_path / "out", folds=(1,), fit_method="temperature", fit_split="train")
    calm = run_study(fitted)["results"][0]
    assert loud["calibration"]["ece"] == pytest.approx(0.4)
    assert calm["calibration"]["ece"] < 0.05
    assert calm["war"] == loud["war"]
    written = json.loads((tmp_path / "out/calibration-expression.json").read_text())
    assert written["fitted_on"] == "mine train, 10 samples"
    assert "temperature" in made[-1].info.calibration


def test_a_calibration_of_the_model_itself_is_set_aside_while_fitting(made, data, tmp_path):
    run_study(study(data, tmp_path / "out", folds=(1,), fit_method="temperature", fit_split="train"))
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
        run_study(study(data, tmp_path / "out", **changes))


def test_each_fold_has_its_own_model_where_the_path_says_so(made, data, tmp_path):
    options = Options().with_values({"backend": "emo_llama", "model_path": "models/fold{fold}"})
    found = run_study(replace(study(data, tmp_path / "out"), contenders=(Contender("emo_llama", options),)))
    assert [b.options.model_path for b in made] == ["models/fold1", "models/fold2"]
    assert found["results"][0]["samples"] == 20


def test_backends_are_closed_when_one_cannot_be_loaded(monkeypatch, data, tmp_path):
    first = BrightnessBackend()

    def make(options):
        if first.loaded:
            raise MissingModel("There is no model.")
        return first

    monkeypatch.setattr(contenders_module, "make_backend", make)
    with pytest.raises(EmoError, match="no model"):
        run_study(study(data, tmp_path / "out", ("one", "two")))
    assert first.closed


def test_contenders_are_named_after_backend_and_model():
    made = contenders(["expression", "emo_llama=models/a", "emo_llama=models/b"], "", Options(), "dfew")
    assert [c.name for c in made] == ["expression", "emo_llama-a", "emo_llama-b"]
    assert [c.wanted_labels for c in made] == ["dfew"] * 3
    assert contenders(["emo_llama"], "models/c", Options(), "dfew")[0].options.model_path == "models/c"
    with pytest.raises(BadParameter, match="same name"):
        contenders(["emo_llama=x/a", "emo_llama=y/a"], "", Options(), "dfew")


def test_a_backend_answers_in_the_labels_of_the_data_where_it_can():
    knows = settled(Contender("a", Options().with_values({"backend": "expression"}), "raf-db"))
    knows_not = settled(Contender("b", Options().with_values({"backend": "expression"}), "mafw"))
    assert [knows.options.label_set, knows_not.options.label_set] == ["raf-db", "raf-db"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("net.onnx:names.txt", ("net.onnx", "names.txt")),
        ("net.onnx", ("net.onnx", "net.txt")),
        ("a:b.onnx:names.txt", ("a:b.onnx", "names.txt")),
        ("a:b.onnx", ("a:b.onnx", "labels.txt")),
        ("gone.onnx:names.txt", ("gone.onnx", "names.txt")),
        ("gone.onnx", ("gone.onnx", "labels.txt")),
    ],
)
def test_an_onnx_classifier_is_named_with_its_labels_or_found_beside_them(text, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("net.onnx", "net.txt", "a:b.onnx", "names.txt", "labels.txt"):
        Path(name).touch()
    (made,) = contenders([f"onnx={text}"], "", Options(), "ferplus")
    assert (made.options.expression_model, made.options.expression_labels) == expected
    assert made.name == Path(expected[0]).stem


def test_what_is_missing_is_named_before_anything_is_computed(made, data, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "sklearn" else True)
    with pytest.raises(
        MissingDependency, match=r"scikit-learn, not installed here: pip install 'emo_llama_ros\[train\]'"
    ):
        run_study(study(data, tmp_path / "out"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "onnxruntime" else True)
    onnx = Contender("net", Options().with_values({"backend": "expression", "expression_model": "net.onnx"}))
    with pytest.raises(MissingDependency, match=r"onnxruntime, not installed here: pip install onnxruntime"):
        run_study(replace(study(data, tmp_path / "out"), contenders=(onnx,)))
    monkeypatch.undo()
    with pytest.raises(MissingModel, match=r"net\.onnx"):
        run_study(replace(study(data, tmp_path / "out"), contenders=(onnx,)))
    assert not made
    assert not (tmp_path / "out").exists()


def test_a_stopped_study_goes_on_where_it_was(monkeypatch, data, tmp_path):
    backends = []

    def make(options):
        backends.append(BrightnessBackend(options=options))
        return backends[-1]

    monkeypatch.setattr(contenders_module, "make_backend", make)
    whole = run_study(study(data, tmp_path / "whole"))
    out = tmp_path / "out"

    def stop(what, done, total):
        if done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(study(data, out), stop)
    assert sorted(p.name for p in out.iterdir()) == [JOURNAL]
    with (out / JOURNAL).open("a") as file:
        file.write('[{"id": "cut o')  # a killed process leaves half a line
    found = run_study(study(data, out))
    assert len(backends[-1].seen) == 20 - 7
    assert found["results"][0]["confusion"] == whole["results"][0]["confusion"]
    assert [p.id for p in predictions_of(out / "predictions-expression.jsonl")] == [
        p.id for p in predictions_of(tmp_path / "whole/predictions-expression.jsonl")
    ]
    assert not (out / JOURNAL).exists()


def test_answers_of_another_study_are_not_taken(made, data, tmp_path):
    def stop(what, done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(study(data, tmp_path / "out"), stop)
    run_study(study(data, tmp_path / "out", ("one", "two")))
    assert len(made[-1].seen) == 20


def test_one_bad_file_never_ends_a_study_and_is_told_with_its_reason(made, data, tmp_path):
    (tmp_path / "test3.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    (tmp_path / "test4.png").write_bytes(b"")
    (tmp_path / "test5.png").unlink()
    found = run_study(study(data, tmp_path / "out"))
    assert found["results"][0]["samples"] == 17
    assert {reason: v["count"] for reason, v in found["left_out"].items()} == {
        "is listed, but not there": 1,
        "cannot be read": 2,
    }
    text = (tmp_path / "out/report.md").read_text()
    assert "## Left out" in text
    assert "- 2 × cannot be read (" in text
    assert "test3.png" in text
    assert "- 1 × is listed, but not there (test5.png)" in text


def test_a_study_in_which_nothing_can_be_read_says_so(made, data, tmp_path):
    for file in tmp_path.glob("test*.png"):
        file.write_bytes(b"")
    with pytest.raises(BadData, match=r"None of the samples can be read: 20 × cannot be read"):
        run_study(study(data, tmp_path / "out"))


def test_names_that_are_no_utf8_reach_the_report(made, tmp_path):
    from emo_llama_ros.evaluation.evaluate import Plan

    grey(tmp_path / "set/happy/plain.png", brightness_of("happiness"))
    (tmp_path / "set/happy/plain.png").rename(tmp_path / "set/happy/caf\udce9.png")
    (tmp_path / "set/happy/d\udce9faut.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    plan = Plan(open_dataset(tmp_path / "set"), tmp_path / "set", "test", faces=Faces.WHOLE)
    made_study = Study(plan, (Contender("one", Options().with_values({"backend": "expression"})),), Options(),
                       tmp_path / "out", "caf\udce9 $x", "emo_llama evaluate caf\udce9")  # fmt: skip
    found = run_study(made_study)
    assert found["results"][0]["samples"] == 1
    assert predictions_of(tmp_path / "out/predictions-one.jsonl")[0].id == "happy/caf\udce9.png"
    assert "faut.png" in (tmp_path / "out/report.md").read_text(encoding="utf-8")


def test_two_processes_give_the_result_of_one(analyzer, tmp_path):
    from ferplus_files import arrays, faces

    np.savez(tmp_path / "faces.npz", **arrays([r for r in faces(60) if r.name]))
    dataset = open_dataset(tmp_path / "faces.npz")
    plan = Plan(dataset, tmp_path / "faces.npz", "train", faces=Faces.AUTO, limit=12)
    made = contenders(["expression"], "", Options(), "ferplus")
    found = {}
    for jobs in (1, 2):
        out = tmp_path / str(jobs)
        whole = Study(plan, made, Options(), out, "mine", "x", jobs=jobs)
        run_study(whole)
        found[jobs] = [
            replace(p, latency_ms=0, faces_ms=0) for p in predictions_of(out / "predictions-expression.jsonl")
        ]
    assert len(found[1]) > 4
    assert found[1] == found[2]
    assert all(len(p.votes) == 10 and len(p.probabilities) == 8 for p in found[1])


def test_a_backend_and_an_onnx_classifier_are_compared_in_one_report(analyzer, tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from ferplus_files import arrays, faces

    from emo_llama_ros.labels import FERPLUS

    # Always says neutral, in eight classes.
    weights = onnx.numpy_helper.from_array(np.zeros((1, 8), np.float32), "w")
    bias = onnx.numpy_helper.from_array(np.array([5] + [0] * 7, np.float32), "b")
    nodes = [
        onnx.helper.make_node("GlobalAveragePool", ["x"], ["p"]),
        onnx.helper.make_node("Flatten", ["p"], ["f"]),
        onnx.helper.make_node("Gemm", ["f", "w", "b"], ["y"]),
    ]
    graph = onnx.helper.make_graph(
        nodes, "g",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 1, 64, 64])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 8])],
        [weights, bias],
    )  # fmt: skip
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, str(tmp_path / "net.onnx"))
    (tmp_path / "net.txt").write_text("\n".join(FERPLUS.labels))
    np.savez(tmp_path / "faces.npz", **arrays([r for r in faces(40) if r.name]))
    plan = Plan(open_dataset(tmp_path / "faces.npz"), tmp_path / "faces.npz", "train", faces=Faces.AUTO)
    made = contenders(["expression", f"onnx={tmp_path / 'net.onnx'}"], "", Options(), "ferplus")
    found = run_study(Study(plan, made, Options(), tmp_path / "out", "mine", "x"))
    ours, net = found["results"]
    assert [ours["name"], net["name"]] == ["expression", "net"]
    assert net["model"] == "expression/net"
    assert net["classes"]["neutral"]["recall"] == 1.0
    assert net["uar"]["value"] == pytest.approx(1 / sum(c["support"] > 0 for c in net["classes"].values()))
    assert ours["confusion"] != net["confusion"]
    assert 0 < found["comparisons"]["net"]["mcnemar_p"] <= 1
    assert "## net against expression" in (tmp_path / "out/report.md").read_text()


def test_the_command_evaluates_real_faces(media, tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from emo_llama_ros.cli import app

    try:
        from emo_llama_ros.faces.make import make_analyzer

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
