"""A user's ONNX classifier, made here with known weights so that its answers are known too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="needs the 'dev' extra")
pytest.importorskip("onnxruntime", reason="needs the 'onnx' extra")

from emo_llama_ros.errors import BadParameter, MissingModel  # noqa: E402
from emo_llama_ros.faces.alignment import Roi  # noqa: E402
from emo_llama_ros.faces.analyzer import make_expression_reader  # noqa: E402
from emo_llama_ros.faces.expression import Reading  # noqa: E402
from emo_llama_ros.faces.onnx_expression import OnnxExpression  # noqa: E402
from emo_llama_ros.labels import RAF_DB  # noqa: E402
from emo_llama_ros.options import Options  # noqa: E402

WHOLE = (Roi(31.5, 31.5, 64),)
AFFECTNET_ORDER = ("Anger", "Contempt", "Disgust", "Fear", "Happiness", "Neutral", "Sadness", "Surprise")


class _Embedded:
    name = "embedded"

    def read(self, rgb, grey, views) -> Reading:
        return Reading(np.full(7, 1 / 7, np.float32), np.arange(3, dtype=np.float32))


@pytest.fixture
def classifier(tmp_path: Path):
    """Write a network whose logits are `weights` times the mean of each channel, plus `biases`."""
    from onnx import TensorProto, helper, numpy_helper

    def write(
        outputs: int = 8, channels: int = 3, first: bool = True, softmax: bool = False, size: int | str = 32,
        weights: np.ndarray | None = None, biases: np.ndarray | None = None,
    ) -> Path:  # fmt: skip
        shape = [1, channels, size, size] if first else [1, size, size, channels]
        axes = [2, 3] if first else [1, 2]
        given = {
            "w": np.zeros((channels, outputs), np.float32) if weights is None else weights.astype(np.float32),
            "b": np.arange(outputs, dtype=np.float32) if biases is None else biases.astype(np.float32),
        }
        nodes = [
            helper.make_node("ReduceMean", ["x"], ["m"], axes=axes, keepdims=0),
            helper.make_node("MatMul", ["m", "w"], ["p"]),
            helper.make_node("Add", ["p", "b"], ["l"]),
            helper.make_node("Softmax" if softmax else "Identity", ["l"], ["y"]),
        ]
        graph = helper.make_graph(
            nodes, "classifier", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, outputs])],
            [numpy_helper.from_array(value, name) for name, value in given.items()],
        )  # fmt: skip
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
        model.ir_version = 8
        onnx.save(model, tmp_path / "mine.onnx")
        return tmp_path / "mine.onnx"

    return write


@pytest.fixture
def labels(tmp_path: Path):
    def write(*lines: str) -> Path:
        (tmp_path / "labels.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return tmp_path / "labels.txt"

    return write


def _read(reader: OnnxExpression, colour: tuple[int, int, int] = (128, 128, 128)) -> Reading:
    rgb = np.full((64, 64, 3), colour, np.uint8)
    return reader.read(rgb, np.full((64, 64), round(np.mean(colour)), np.uint8), WHOLE)


@pytest.mark.parametrize("softmax", [False, True], ids=["logits", "probabilities"])
@pytest.mark.parametrize("first", [True, False], ids=["NCHW", "NHWC"])
@pytest.mark.parametrize("size", [32, "side"], ids=["fixed", "free"])
def test_outputs_are_put_into_the_order_of_raf_db(classifier, labels, softmax, first, size) -> None:
    reader = OnnxExpression(classifier(first=first, softmax=softmax, size=size), labels(*AFFECTNET_ORDER), _Embedded())

    reading = _read(reader)

    shares = np.exp(np.arange(8.0))
    by_name = dict(zip((n.lower() for n in AFFECTNET_ORDER), shares, strict=True))
    expected = np.array([by_name[label] for label in RAF_DB.labels])
    assert reading.probabilities.tolist() == pytest.approx((expected / expected.sum()).tolist(), abs=1e-5)
    assert reading.embedding.tolist() == [0, 1, 2]
    assert reader.name == "mine"


def test_synonyms_are_understood_and_missing_labels_stay_at_zero(classifier, labels) -> None:
    reading = _read(OnnxExpression(classifier(outputs=3), labels("happy", "sad", "calm"), _Embedded()))

    named = dict(zip(RAF_DB.labels, reading.probabilities.tolist(), strict=True))
    assert named["anger"] == named["fear"] == named["disgust"] == named["surprise"] == 0
    assert named["neutral"] > named["sadness"] > named["happiness"] > 0
    assert sum(named.values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("0..255", 51.0), ("0..1", 0.2), ("-1..1", -0.6), ("imagenet", (0.2 - 0.485) / 0.229)],
)
def test_pixels_are_normalised_as_the_label_file_says(classifier, labels, kind, expected) -> None:
    weights = np.zeros((3, 2))
    weights[0, 0] = 0.01  # the first logit is a hundredth of red
    model = classifier(outputs=2, weights=weights, biases=np.zeros(2))

    reader = OnnxExpression(model, labels(f"# pixels: {kind}", "happy", "sad"), _Embedded())
    happy, sad = _read(reader, (51, 200, 90)).probabilities[[3, 4]]

    assert np.log(happy / sad) == pytest.approx(0.01 * expected, abs=1e-5)


def test_a_grey_network_gets_the_grey_picture(classifier, labels) -> None:
    weights = np.array([[1.0, 0.0]])
    model = classifier(outputs=2, channels=1, weights=weights, biases=np.zeros(2))

    reader = OnnxExpression(model, labels("happy", "sad"), _Embedded())
    happy, sad = _read(reader, (255, 255, 255)).probabilities[[3, 4]]

    assert np.log(happy / sad) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize(
    ("outputs", "lines", "sentence"),
    [
        (8, ("happy", "sad"), "has 8 outputs but .* lists 2 labels"),
        (2, ("happy", "hungry"), "lists 'hungry', which is no expression"),
        (2, ("happy", "joy"), "lists 'happiness' twice"),
        (2, ("contempt", "helpless"), "lists none of surprise"),
        (2, ("# pixels: 0..2", "happy", "sad"), "asks for pixels '0..2'"),
    ],
)
def test_labels_that_do_not_fit_are_refused_at_load(classifier, labels, outputs, lines, sentence) -> None:
    with pytest.raises(MissingModel, match=sentence):
        OnnxExpression(classifier(outputs=outputs), labels(*lines), _Embedded())


def test_missing_and_broken_files_are_named(classifier, labels, tmp_path) -> None:
    with pytest.raises(MissingModel, match=r"absent\.onnx, which the parameter expression_model"):
        OnnxExpression(tmp_path / "absent.onnx", labels("happy"), _Embedded())
    with pytest.raises(MissingModel, match=r"absent\.txt, which the parameter expression_labels"):
        OnnxExpression(classifier(), tmp_path / "absent.txt", _Embedded())
    (tmp_path / "broken.onnx").write_bytes(b"nothing")
    with pytest.raises(MissingModel, match=r"broken\.onnx is not a network"):
        OnnxExpression(tmp_path / "broken.onnx", labels("happy"), _Embedded())
    with pytest.raises(MissingModel, match="not one picture"):
        OnnxExpression(classifier(channels=7), labels(*AFFECTNET_ORDER), _Embedded())


def test_options_choose_the_network(analyzer, classifier, labels) -> None:
    model = str(classifier())
    with pytest.raises(BadParameter, match="expression_model needs expression_labels"):
        make_expression_reader(Options(expression_model=model))

    reader = make_expression_reader(Options(expression_model=model, expression_labels=str(labels(*AFFECTNET_ORDER))))

    assert reader.name == "mine"
