"""The InsightFace analyzer, on random networks of the right shapes: no pack may be shipped or downloaded."""

from __future__ import annotations

import socket
from pathlib import Path

import numpy as np
import pytest

from emo_llama_ros.errors import MissingDependency, MissingModel
from emo_llama_ros.faces.face import QualityFlaw
from emo_llama_ros.faces.insightface import PACK, InsightFaceAnalyzer
from emo_llama_ros.options import Options

NAMES = {"detection": "det_10g", "landmark_2d_106": "2d106det", "recognition": "w600k_r50", "genderage": "genderage"}


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args, **kwargs):
        raise OSError("This test allows no network.")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def empty_pack(tmp_path: Path) -> Path:
    for name in NAMES.values():
        (tmp_path / f"{name}.onnx").write_bytes(b"")
    return tmp_path


@pytest.mark.usefixtures("no_network")
class TestTheFolder:
    def test_must_be_named(self) -> None:
        with pytest.raises(MissingModel, match=r"insightface_folder.*non-commercial"):
            InsightFaceAnalyzer(Options(analyzer="insightface"))

    def test_must_exist(self, tmp_path) -> None:
        with pytest.raises(MissingModel, match=r"no folder .*/buffalo_l.*non-commercial"):
            InsightFaceAnalyzer(Options(insightface_folder=str(tmp_path / "buffalo_l")))

    @pytest.mark.parametrize("module", PACK)
    def test_must_hold_every_network(self, empty_pack, module) -> None:
        (empty_pack / f"{NAMES[module]}.onnx").unlink()

        with pytest.raises(MissingModel, match=f"InsightFace's {module} network"):
            InsightFaceAnalyzer(Options(insightface_folder=str(empty_pack)))

    def test_with_broken_networks_is_refused(self, empty_pack, analyzer) -> None:
        with pytest.raises((MissingModel, MissingDependency), match=r"cannot load the pack|cannot be imported"):
            InsightFaceAnalyzer(Options(insightface_folder=str(empty_pack)))


@pytest.fixture(scope="module")
def pack(tmp_path_factory) -> Path:
    """A pack of tiny networks: the detector scores an anchor by the brightness of its cell, the rest is constant."""
    onnx = pytest.importorskip("onnx", reason="needs the 'dev' extra")
    pytest.importorskip("insightface", reason="needs the 'insightface' extra")
    from onnx import TensorProto, helper, numpy_helper

    folder = tmp_path_factory.mktemp("pack")

    def save(
        name: str, shape: list, nodes: list, weights: dict[str, np.ndarray], outputs: list[tuple[str, list]]
    ) -> None:
        graph = helper.make_graph(
            nodes, name, [helper.make_tensor_value_info("input.1", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(o, TensorProto.FLOAT, s) for o, s in outputs],
            [numpy_helper.from_array(value, key) for key, value in weights.items()],
        )  # fmt: skip
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
        model.ir_version = 8
        onnx.save(model, folder / f"{name}.onnx")

    # SCRFD: for each stride the scores, box distances and five points of two anchors a cell, in units of the stride.
    # Both the box and the points are the same everywhere: 128 pixels around the cell, the points of a frontal face.
    nodes, weights = [], {}
    outputs: dict[str, list[tuple[str, list]]] = {"score": [], "bbox": [], "kps": []}
    face_points = np.array([-25, -20, 25, -20, 0, 5, -20, 30, 20, 30], np.float32)
    for stride in (8, 16, 32):
        # Input pixels are (value - 127.5) / 128; the mean of a white cell is 1.
        weights[f"mean{stride}"] = np.full((1, 3, stride, stride), 1 / (3 * stride * stride), np.float32)
        nodes.append(
            helper.make_node("Conv", ["input.1", f"mean{stride}"], [f"cell{stride}"], strides=[stride, stride])
        )
        constants = {
            "score": np.zeros(2, np.float32),
            "bbox": np.tile(np.full(4, 64 / stride, np.float32), 2),
            "kps": np.tile(face_points / stride, 2),
        }
        for kind, bias in constants.items():
            gain = np.zeros((len(bias), 1, 1, 1), np.float32)
            if kind == "score":  # 0.97 for a white cell of stride 16, 0 elsewhere
                gain[:] = 10
                bias = bias - np.float32(6.5 if stride == 16 else 60)
            key = f"{kind}{stride}"
            weights |= {f"{key}w": gain, f"{key}b": bias, f"{key}s": np.array([-1, len(bias) // 2], np.int64)}
            nodes += [
                helper.make_node("Conv", [f"cell{stride}", f"{key}w", f"{key}b"], [f"{key}c"]),
                helper.make_node("Transpose", [f"{key}c"], [f"{key}t"], perm=[0, 2, 3, 1]),
                helper.make_node("Reshape", [f"{key}t", f"{key}s"], [f"{key}r"]),
                helper.make_node("Sigmoid" if kind == "score" else "Identity", [f"{key}r"], [key]),
            ]
            outputs[kind].append((key, ["n", len(bias) // 2]))
    save("det_10g", [1, 3, "h", "w"], nodes, weights, outputs["score"] + outputs["bbox"] + outputs["kps"])

    def constant(name: str, size: int, values: np.ndarray) -> None:
        given = {"zero": np.zeros((3, len(values)), np.float32), "b": values.astype(np.float32)}
        chain = [
            helper.make_node("GlobalAveragePool", ["input.1"], ["p"]),
            helper.make_node("Flatten", ["p"], ["q"]),
            helper.make_node("MatMul", ["q", "zero"], ["z"]),
            helper.make_node("Add", ["z", "b"], ["fc1"]),
        ]
        save(name, ["None", 3, size, size], chain, given, [("fc1", ["None", len(values)])])

    rng = np.random.default_rng(0)
    constant("2d106det", 192, rng.uniform(-0.5, 0.5, 212))
    constant("genderage", 96, np.array([0.1, 0.9, 0.31]))
    constant("w600k_r50", 112, rng.normal(size=512))
    return folder


@pytest.fixture
def spotlight() -> np.ndarray:
    """A black image with one white square, which the random detector takes for a face."""
    image = np.zeros((480, 640, 3), np.uint8)
    image[208:224, 304:320] = 255
    return image


@pytest.mark.usefixtures("no_network")
def test_a_local_pack_gives_faces_without_any_download(pack, analyzer, spotlight) -> None:
    """The mesh finds no face in a white square, so this one comes without mesh, and says so."""
    faces = InsightFaceAnalyzer(Options(insightface_folder=str(pack))).analyze(spotlight)

    assert len(faces) == 1
    face = faces[0]
    assert (face.box.x + face.box.width / 2, face.box.y + face.box.height / 2) == pytest.approx((304, 208), abs=17)
    assert (face.box.width, face.box.height) == pytest.approx((128, 128), abs=1)
    assert face.score > 0.9
    assert face.flaws == QualityFlaw.NO_LANDMARKS
    assert face.landmarks.shape == (106, 3)
    assert np.isnan(face.landmarks[:, 2]).all()
    assert face.embedding.shape == (512,)
    assert np.linalg.norm(face.embedding) == pytest.approx(1, abs=1e-5)
    assert face.expression.sum() == pytest.approx(1, abs=1e-5)
    assert (face.pose, face.measures) == (None, {})
    assert (face.apparent_age, face.apparent_gender) == (None, "")


def test_a_real_face_gets_its_mesh_and_evidence(pack, analyzer, picture) -> None:
    """The detector is random, but its spot lies on a real face: from there on the real networks work."""
    import cv2

    rgb = picture("0-f15-hao-ph.jpg")
    target = analyzer.analyze(rgb)[0].box
    zoom = 100 / target.width
    small = cv2.resize(rgb, None, fx=zoom, fy=zoom) // 2  # no cell is as bright as the spot
    x, y = round((target.x + target.width / 2) * zoom), round((target.y + target.height / 2) * zoom)
    image = np.zeros((480, 640, 3), np.uint8)
    image[208 - y : 208 - y + small.shape[0], 304 - x : 304 - x + small.shape[1]] = small
    image[208:224, 304:320] = 255

    (face,) = InsightFaceAnalyzer(Options(insightface_folder=str(pack))).analyze(image)

    assert face.landmarks.shape == (478, 3)
    assert not face.flaws & QualityFlaw.NO_LANDMARKS
    assert face.embedding.shape == (512,)
    assert face.measures["lip_corner_lift"] > 0.03


def test_age_and_gender_are_guessed_only_on_request(pack, analyzer, spotlight) -> None:
    options = Options(insightface_folder=str(pack), agr_prompt=True)

    (face,) = InsightFaceAnalyzer(options).analyze(spotlight)

    assert (face.apparent_age, face.apparent_gender) == (31, "man")


def test_nobody_in_view_gives_no_faces(pack, analyzer) -> None:
    assert InsightFaceAnalyzer(Options(insightface_folder=str(pack))).analyze(np.zeros((480, 640, 3), np.uint8)) == []


def test_the_name_says_which_pack_is_in_use(pack, analyzer) -> None:
    name = InsightFaceAnalyzer(Options(insightface_folder=str(pack))).name

    assert name == f"insightface-{pack.name}+facemesh+emo-eyes"
