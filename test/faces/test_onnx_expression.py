"""A user's ONNX classifier, made here with known weights so that its answers are known too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="needs the 'dev' extra")
pytest.importorskip("onnxruntime", reason="needs the 'onnx' extra")

from emo_llama_ros.errors import BadParameter, MissingModel
from emo_llama_ros.faces.alignment import FaceAxes
from emo_llama_ros.faces.expression import Reading
from emo_llama_ros.faces.onnx_expression import OnnxExpression
from emo_llama_ros.faces.reader import make_expression_reader
from emo_llama_ros.labels import RAF_DB
from emo_llama_ros.options import Options

WHOLE = FaceAxes(31.5, 31.5 - 0.45 * 32, 32, 0)
AFFECTNET_ORDER = ("Anger", "Contempt", "Disgust", "Fear", "Happiness", "Neutral", "Sadness", "Surprise")


class _Embedded:
    name = "embedded"

    def read(self, rgb, grey, axes) -> Reading:
        return Reading(np.full(7, 1 / 7, np.float32), np.arange(3, dtype=np.float32))


@pytest.fixture
def classifier(tmp_path: Path):
    """Write a network whose logits are `weights` times the mean of each channel, plus `biases`.

    `number` is the type of its input, `more` maps the names of further outputs to their constant numbers, written
    before the logits; `shape` replaces the shape of the input.
    """
    from onnx import TensorProto, helper, numpy_helper

    def write(
        outputs: int = 8, channels: int = 3, first: bool = True, softmax: bool = False, size: int | str = 32,
        weights: np.ndarray | None = None, biases: np.ndarray | None = None, number: str = "FLOAT",
        shape: list | None = None, batch: int | str = 1, more: dict[str, list[float]] | None = None, name: str = "y",
        inputs: int = 1, whole: bool = False,
    ) -> Path:  # fmt: skip
        given = {
            "w": np.zeros((channels, outputs), np.float32) if weights is None else weights.astype(np.float32),
            "b": np.arange(outputs, dtype=np.float32) if biases is None else biases.astype(np.float32),
            **{f"{n}_value": np.array([v], np.float32) for n, v in (more or {}).items()},
            **({"zero": np.zeros((channels, 1), np.float32)} if more else {}),
        }
        if shape is None:
            shape = [batch, channels, size, size] if first else [batch, size, size, channels]
        axes = ([2, 3] if first else [1, 2]) if len(shape) == 4 else list(range(len(shape)))
        nodes = [
            helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["f"], ["m"], axes=axes, keepdims=0),
            helper.make_node(*(("MatMul", ["m", "w"]) if len(shape) == 4 else ("Mul", ["m", "b"])), ["p"]),
            helper.make_node("Add", ["p", "b"], ["l"]),
            helper.make_node("Softmax" if softmax else "Identity", ["l"], ["s"]),
            helper.make_node("Cast", ["s"], [name], to=TensorProto.INT64) if whole
            else helper.make_node("Identity", ["s"], [name]),
        ]  # fmt: skip
        for other in more or {}:  # in as many rows as there are pictures
            nodes += [
                helper.make_node("MatMul", ["m", "zero"], [f"{other}_zero"]),
                helper.make_node("Add", [f"{other}_zero", f"{other}_value"], [other]),
            ]
        kind = getattr(TensorProto, number)
        graph = helper.make_graph(
            nodes, "classifier",
            [helper.make_tensor_value_info(n, kind, shape) for n in ("x", "z", "q")[:inputs]],
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in more or {}]
            + [helper.make_tensor_value_info(name, TensorProto.INT64 if whole else TensorProto.FLOAT, None)],
            [numpy_helper.from_array(value, n) for n, value in given.items()],
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


RED_TO_HAPPY = np.array([[0.01, 0.0], [0.0, 0.0], [0.0, 0.0]])


@pytest.mark.parametrize(
    ("number", "kind", "expected"),
    [
        ("FLOAT16", "0..255", 0.51),
        ("DOUBLE", "0..1", 0.002),
        ("FLOAT16", "", 0.01 * (0.2 - 0.485) / 0.229),
        ("UINT8", "", 0.51),
        ("INT8", "", -0.77),
        ("UINT8", "0..255", 0.51),
        ("INT32", "", 0.51),
        ("INT16", "-128..127", -0.77),
    ],
)
@pytest.mark.parametrize("first", [True, False], ids=["NCHW", "NHWC"])
def test_pixels_come_in_the_number_type_of_the_network(classifier, labels, number, kind, expected, first) -> None:
    model = classifier(outputs=2, first=first, weights=RED_TO_HAPPY, biases=np.zeros(2), number=number)

    reader = OnnxExpression(model, labels(*([f"# pixels: {kind}"] if kind else []), "happy", "sad"), _Embedded())
    happy, sad = _read(reader, (51, 200, 90)).probabilities[[3, 4]]

    assert np.log(happy / sad) == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize(
    ("number", "kind"), [("UINT8", "0..1"), ("INT8", "imagenet"), ("INT32", "-1..1"), ("UINT8", "imagenet")]
)
def test_whole_numbers_cannot_hold_fractions_of_pixels(classifier, labels, number, kind) -> None:
    with pytest.raises(MissingModel, match=rf"asks for pixels '{kind}'.*choose one of 0\.\.255, -128\.\.127"):
        OnnxExpression(classifier(number=number), labels(f"# pixels: {kind}", *AFFECTNET_ORDER), _Embedded())


@pytest.mark.parametrize("batch", [1, 4, 8, "n", None])
@pytest.mark.parametrize("first", [True, False], ids=["NCHW", "NHWC"])
def test_any_batch_size_reads_one_face(classifier, labels, batch, first) -> None:
    more = {"valence": [0.25]}
    model = classifier(outputs=2, first=first, weights=RED_TO_HAPPY, biases=np.zeros(2), batch=batch, more=more)

    reading = _read(OnnxExpression(model, labels("# pixels: 0..255", "happy", "sad"), _Embedded()), (51, 200, 90))

    assert np.log(reading.probabilities[3] / reading.probabilities[4]) == pytest.approx(0.51, abs=1e-4)
    assert reading.valence == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("shape", "first"),
    [
        (["n", "c", "h", "w"], True),
        (["n", "h", "w", "c"], False),
        (["n", 3, "h", "w"], True),
        (["n", "c", 48, 48], True),
    ],
)
def test_an_open_shape_is_found_out(classifier, labels, shape, first) -> None:
    model = classifier(outputs=2, first=first, weights=RED_TO_HAPPY, biases=np.zeros(2), shape=shape)

    reader = OnnxExpression(model, labels("# pixels: 0..255", "# size: 40", "happy", "sad"), _Embedded())
    happy, sad = _read(reader, (51, 200, 90)).probabilities[[3, 4]]

    assert np.log(happy / sad) == pytest.approx(0.51, abs=1e-4)


@pytest.mark.parametrize("first", [True, False], ids=["NCHW", "NHWC"])
def test_a_network_for_upright_pictures_gets_the_middle_of_the_face(classifier, labels, first) -> None:
    shape = [1, 3, 64, 32] if first else [1, 64, 32, 3]
    model = classifier(outputs=2, first=first, weights=RED_TO_HAPPY, biases=np.zeros(2), shape=shape)
    reader = OnnxExpression(model, labels("# pixels: 0..255", "happy", "sad"), _Embedded())
    rgb = np.full((64, 64, 3), 200, np.uint8)
    rgb[:, 20:44] = (40, 200, 200)  # the middle half reaches from 16 to 48

    happy, sad = reader.read(rgb, rgb[:, :, 1].copy(), WHOLE).probabilities[[3, 4]]

    assert np.log(happy / sad) == pytest.approx(0.01 * (40 * 24 + 200 * 8) / 32, abs=0.02)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"inputs": 2}, r"has 2 inputs \('x', 'z'\)"),
        ({"shape": [3, 32, 32]}, r"shape \[3, 32, 32\], not one picture"),
        ({"shape": ["n", 3]}, r"shape \[n, 3\], not one picture"),
        ({"shape": [1, 3, 8, 32, 32]}, r"shape \[1, 3, 8, 32, 32\], not one picture"),
        ({"shape": None, "channels": 4}, r"shape \[1, 4, 32, 32\], not one picture"),
        ({"number": "BOOL"}, r"wants an input of tensor\(bool\)"),
        ({"whole": True}, r"gives no floating-point numbers but y \(tensor\(int64\)\)"),
        ({"biases": np.full(8, np.nan)}, "scores that are not finite"),
        ({"outputs": 7}, "has 7 outputs but .* lists 8 labels"),
        ({"outputs": 9}, "has 9 outputs but .* lists 8 labels"),
        ({"outputs": 10, "more": {"x2": [0.0] * 5}}, None),
        ({"outputs": 5, "more": {"x2": [0.0] * 4}}, r"has the outputs 'x2' \(4\), 'y' \(5\) but .* lists 8 labels"),
        ({"more": {"twin": [0.0] * 8}}, r"several outputs that fit the 8 labels .*\(twin, y\).*# output: NAME"),
    ],
    ids=str,
)
def test_a_network_that_is_no_classifier_of_faces_is_refused_in_one_sentence(
    classifier, labels, settings, sentence
) -> None:
    model = classifier(**settings)
    if sentence is None:
        OnnxExpression(model, labels(*AFFECTNET_ORDER), _Embedded())
        return
    with pytest.raises(MissingModel, match=sentence) as refusal:
        OnnxExpression(model, labels(*AFFECTNET_ORDER), _Embedded())
    assert "\n" not in str(refusal.value)


def test_of_several_outputs_the_one_with_as_many_numbers_as_labels_is_read(classifier, labels) -> None:
    reader = OnnxExpression(classifier(more={"features": [0.5] * 16}), labels(*AFFECTNET_ORDER), _Embedded())

    assert RAF_DB.labels[int(_read(reader).probabilities.argmax())] == "surprise"
    assert any("'features' (16 numbers) is not used" in note for note in reader.notes)


@pytest.mark.parametrize("line", ["# output: y", "# Output:y"])
def test_the_label_file_may_name_the_output(classifier, labels, line) -> None:
    model = classifier(more={"twin": [9.0, *[0.0] * 7]})

    reader = OnnxExpression(model, labels(line, *AFFECTNET_ORDER), _Embedded())

    assert RAF_DB.labels[int(_read(reader).probabilities.argmax())] == "surprise"


def test_the_name_of_an_output_may_tell_that_it_holds_the_labels(classifier, labels) -> None:
    model = classifier(more={"twin": [9.0, *[0.0] * 7]}, name="emotion_logits")

    reader = OnnxExpression(model, labels(*AFFECTNET_ORDER), _Embedded())

    assert RAF_DB.labels[int(_read(reader).probabilities.argmax())] == "surprise"


@pytest.mark.parametrize("softmax", [False, True], ids=["logits", "probabilities"])
@pytest.mark.parametrize("first", [True, False], ids=["listed before", "listed after"])
def test_valence_and_arousal_may_stand_among_the_labels(classifier, labels, softmax, first) -> None:
    names = ("valence", "arousal", *AFFECTNET_ORDER) if first else (*AFFECTNET_ORDER, "Valence", "Arousal")
    eight = np.array([0.0, 0.0, 0.0, 0.0, 3.0, 0.0, 0.0, 0.0])
    if softmax:
        eight = np.exp(eight) / np.exp(eight).sum()
    biases = [0.4, -0.3, *eight] if first else [*eight, 0.4, -0.3]

    reading = _read(OnnxExpression(classifier(outputs=10, biases=np.array(biases)), labels(*names), _Embedded()))

    assert (reading.valence, reading.arousal) == (pytest.approx(0.4), pytest.approx(-0.3))
    without_contempt = np.exp(3) / (np.exp(3) + 6)
    assert reading.probabilities[RAF_DB.index("happiness")] == pytest.approx(without_contempt, abs=1e-4)


@pytest.mark.parametrize("count", [7, 8])
def test_two_numbers_after_the_labels_are_valence_and_arousal(classifier, labels, count) -> None:
    names = [name for name in AFFECTNET_ORDER if count == 8 or name != "Contempt"]
    biases = np.array([*np.arange(count), -2.5, 0.75])

    reading = _read(OnnxExpression(classifier(outputs=count + 2, biases=biases), labels(*names), _Embedded()))

    assert (reading.valence, reading.arousal) == (-1.0, 0.75)
    assert RAF_DB.labels[int(reading.probabilities.argmax())] == "surprise"
    assert reading.probabilities.sum() == pytest.approx(1)


@pytest.mark.parametrize(
    "more",
    [
        {"valence": [0.4], "arousal": [-0.3]},
        {"arousal": [-0.3], "val": [0.4]},
        {"valence_arousal": [0.4, -0.3]},
        {"arousalValence": [-0.3, 0.4]},
        {"VA": [0.4, -0.3]},
        {"head_a_v": [-0.3, 0.4]},
        {"features": [0.1, 0.2, 0.3], "out.valaro": [0.4, -0.3]},
    ],
    ids=str,
)
def test_valence_and_arousal_may_have_outputs_of_their_own(classifier, labels, more) -> None:
    reading = _read(OnnxExpression(classifier(more=more), labels(*AFFECTNET_ORDER), _Embedded()))

    assert (reading.valence, reading.arousal) == (pytest.approx(0.4), pytest.approx(-0.3))


@pytest.mark.parametrize("more", [None, {"gender": [0.4, 0.6]}, {"value": [0.4]}, {"a": [0.1]}], ids=str)
def test_valence_and_arousal_are_unknown_where_no_output_is_named_so(classifier, labels, more) -> None:
    reading = _read(OnnxExpression(classifier(more=more), labels(*AFFECTNET_ORDER), _Embedded()))

    assert np.isnan([reading.valence, reading.arousal]).all()


def test_the_label_file_may_name_the_outputs_of_valence_and_arousal(classifier, labels) -> None:
    model = classifier(more={"first": [0.4, -0.3], "second": [0.7]})
    lines = ("# valence: first", "# arousal: second", *AFFECTNET_ORDER)

    reading = _read(OnnxExpression(model, labels(*lines), _Embedded()))

    assert (reading.valence, reading.arousal) == (pytest.approx(0.4), pytest.approx(0.7))
    with pytest.raises(MissingModel, match="names the output 'third' for valence"):
        OnnxExpression(model, labels("# valence: third", *AFFECTNET_ORDER), _Embedded())


def test_labels_that_are_not_published_are_named_at_load(classifier, labels) -> None:
    reader = OnnxExpression(classifier(), labels(*AFFECTNET_ORDER), _Embedded())

    assert reader.notes == ("mine: contempt is not published, the other labels share its probability.",)


def test_a_face_that_shows_only_what_is_not_published_reads_as_anything(classifier, labels) -> None:
    biases = np.array([0, 1.0, 0, 0, 0, 0, 0, 0])
    reader = OnnxExpression(classifier(biases=biases, softmax=False), labels(*AFFECTNET_ORDER), _Embedded())

    assert not reader._softmax
    assert _read(reader).probabilities.tolist() == pytest.approx([1 / 7] * 7)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
@pytest.mark.parametrize(
    "text",
    [
        "happy\r\nsad\r\n",
        "\n\nHappy \n\n  SAD\n\n",
        "0: Happiness\n1: Sadness\n",
        "1 sad\n0 happy\n",
        "1) happy\n2) sad",
        "Happy, Sad",
        "# a comment\nhappiness\nsadness",
    ],
    ids=repr,
)
def test_label_files_are_read_as_people_save_them(classifier, tmp_path, encoding, text) -> None:
    mark = "\ufeff" if encoding == "utf-16-le" else ""
    (tmp_path / "labels.txt").write_bytes((mark + text).encode(encoding))
    model = classifier(outputs=2, biases=np.array([2.0, 0.0]))

    reading = _read(OnnxExpression(model, tmp_path / "labels.txt", _Embedded()))

    assert RAF_DB.labels[int(reading.probabilities.argmax())] == "happiness"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"happy\n\xff\xffsad", "is no text file"),
        (b"0 happy\n2 sad", "numbers its labels, but not each"),
        (b"0 happy\nsad", "numbers its labels, but not each"),
        (b"# size: big\nhappy\nsad", "'size: big', which is no number of pixels"),
        (b"", "lists none of surprise"),
    ],
)
def test_a_label_file_that_cannot_be_understood_is_refused_in_one_sentence(
    classifier, tmp_path, content, sentence
) -> None:
    (tmp_path / "labels.txt").write_bytes(content)
    with pytest.raises(MissingModel, match=sentence):
        OnnxExpression(classifier(outputs=2), tmp_path / "labels.txt", _Embedded())


def test_options_choose_the_network(analyzer, classifier, labels) -> None:
    model = str(classifier())
    with pytest.raises(BadParameter, match="expression_model needs expression_labels"):
        make_expression_reader(Options(expression_model=model))

    reader = make_expression_reader(Options(expression_model=model, expression_labels=str(labels(*AFFECTNET_ORDER))))

    assert reader.name == "mine"
