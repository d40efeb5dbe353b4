"""Face detection: anchors, blending, tiles, and real faces near and far."""

from __future__ import annotations

import numpy as np
import pytest

from emo_llama_ros.faces import blazeface
from emo_llama_ros.faces.blazeface import BlazeFace, _anchor_centres, _blend, _Finds, _tiles
from emo_llama_ros.faces.litert import LiteRtNetwork
from emo_llama_ros.install.fetch import model_file


@pytest.fixture(scope="module")
def detector(analyzer) -> BlazeFace:
    return BlazeFace(model_file(blazeface.FAR_NETWORK_FILE), model_file(blazeface.NEAR_NETWORK_FILE))


def _at(canvas: tuple[int, int], rgb: np.ndarray, zoom: float, x: int, y: int) -> np.ndarray:
    """Return a grey image of a size (H, W) with `rgb` scaled and put at (x, y)."""
    import cv2

    small = cv2.resize(rgb, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA)
    image = np.full((*canvas, 3), 90, np.uint8)
    height, width = min(small.shape[0], canvas[0] - y), min(small.shape[1], canvas[1] - x)
    image[y : y + height, x : x + width] = small[:height, :width]
    return image


def test_the_anchors_are_the_published_896() -> None:
    """Two on a grid of 16, six on a grid of 8, in the order of the cells."""
    anchors = _anchor_centres(256)

    assert anchors.shape == (896, 2)
    assert anchors[:3].tolist() == [[8, 8], [8, 8], [24, 8]]
    assert anchors[512:519].tolist() == [[16, 16]] * 6 + [[48, 16]]
    assert anchors[-1].tolist() == [240, 240]


def test_overlapping_finds_are_blended_by_score_and_others_kept() -> None:
    boxes = np.array([[[0, 0], [10, 10]], [[2, 0], [12, 10]], [[50, 50], [60, 60]]], np.float32)
    points = np.stack([np.full((6, 2), v, np.float32) for v in (1, 3, 50)])

    near, far = _blend(_Finds(np.array([0.9, 0.6, 0.7], np.float32), boxes, points))

    assert (near.box.x, near.box.width, near.score) == pytest.approx((0.8, 10, 0.9))
    assert near.points[0, 0] == pytest.approx(1.8)
    assert (far.box.x, far.score) == pytest.approx((50, 0.7))


@pytest.mark.parametrize(("shape", "searches"), [((1, 10_000), 1), ((20_000, 3), 1), ((100, 3_200), 9)])
def test_the_work_for_a_long_image_is_bounded(detector, monkeypatch, shape, searches) -> None:
    searched = []
    search = detector._far.search
    monkeypatch.setattr(detector._far, "search", lambda *of: searched.append(of) or search(*of))
    detector.detect(np.zeros((*shape, 3), np.uint8))
    assert len(searched) == searches


@pytest.mark.parametrize(
    ("shape", "count"), [((1080, 1920), 2), ((1920, 1080), 2), ((720, 2560), 5), ((1500, 1500), 1)]
)
def test_tiles_cover_the_image_with_overlap(shape, count) -> None:
    image = np.zeros((*shape, 3), np.uint8)

    tiles = _tiles(image)

    assert len(tiles) == count
    covered = np.zeros(shape, int)
    for tile, x, y in tiles:
        assert tile.shape[:2] == (min(shape), min(shape))
        covered[y : y + min(shape), x : x + min(shape)] += 1
    assert covered.min() >= 1
    assert count == 1 or covered.max() == 2


@pytest.mark.parametrize("shape", [(1, 10_000), (10_000, 1), (30, 40_000), (200, 3000)])
def test_a_long_strip_is_covered_by_a_bounded_number_of_tiles(shape) -> None:
    image = np.zeros((*shape, 3), np.uint8)
    covered = np.zeros(shape, int)

    tiles = _tiles(image)

    assert len(tiles) == blazeface.MAX_TILES
    for tile, x, y in tiles:
        covered[y : y + tile.shape[0], x : x + tile.shape[1]] += 1
    assert covered.min() == 1


def test_every_face_of_the_group_is_found_once(detector, picture) -> None:
    faces = detector.detect(picture("multi_face.jpg"))

    assert len(faces) == 5
    assert all(75 < face.box.width < 115 for face in faces)


def test_the_points_lie_on_the_face(detector, picture) -> None:
    (face,) = detector.detect(picture("0-f15-hao-ph.jpg"))
    left_eye, right_eye, nose, mouth, left_ear, right_ear = face.points

    assert left_ear[0] < left_eye[0] < nose[0] < right_eye[0] < right_ear[0]
    assert left_eye[1] < nose[1] < mouth[1]


@pytest.mark.parametrize("width", [26, 30, 48, 100, 240])
def test_faces_of_every_size_are_found_in_vga(detector, picture, width) -> None:
    rgb = picture("single_face.jpg")
    image = _at((480, 640), rgb, width / 190, 200, 60)

    (face,) = detector.detect(image)

    assert face.box.width == pytest.approx(width * 1.05, rel=0.2)


@pytest.mark.parametrize("margin", [0.1, 0.0, -0.1])
@pytest.mark.parametrize("name", ["single_face.jpg", "0-f1-su-ph.jpg", "0-f15-hao-ph.jpg", "15-f13-anc-ph.jpg"])
def test_a_face_that_fills_the_image_or_reaches_over_its_border_is_found_once(analyzer, picture, name, margin) -> None:
    rgb = picture(name)
    box = analyzer.find(rgb)[0].box
    x0, y0 = int(box.x - margin * box.width), int(box.y - margin * box.height)
    x1, y1 = int(box.x + (1 + margin) * box.width), int(box.y + (1 + margin) * box.height)
    tight = np.ascontiguousarray(rgb[max(y0, 0) : y1, max(x0, 0) : x1])

    (face,) = analyzer.find(tight)

    assert face.box.width == pytest.approx(box.width, rel=0.12)
    assert face.box.x + max(x0, 0) == pytest.approx(box.x, abs=0.1 * box.width)


def test_a_small_face_at_the_edge_of_a_full_hd_image_is_found(detector, picture) -> None:
    image = _at((1080, 1920), picture("single_face.jpg"), 45 / 190, 1700, 800)

    (face,) = detector.detect(image)

    assert face.box.x > 1700
    assert face.box.width == pytest.approx(47, rel=0.2)


def test_a_large_face_in_a_full_hd_image_is_one_face(detector, picture) -> None:
    assert len(detector.detect(_at((1080, 1920), picture("0-f15-hao-ph.jpg"), 2.1, 420, 0))) == 1


@pytest.mark.parametrize("shape", [(1, 1), (2, 2000), (480, 640)])
def test_an_empty_image_of_any_shape_has_no_face(detector, shape) -> None:
    assert detector.detect(np.zeros((*shape, 3), np.uint8)) == []


def test_a_file_that_is_no_network_is_refused(tmp_path) -> None:
    from emo_llama_ros.errors import MissingModel

    path = tmp_path / "broken.tflite"
    path.write_bytes(b"not a network")

    with pytest.raises(MissingModel, match=r"broken\.tflite is not a network"):
        LiteRtNetwork(path)


def test_a_network_without_the_expected_hidden_tensor_is_refused(analyzer) -> None:
    from emo_llama_ros.errors import MissingModel

    with pytest.raises(MissingModel, match="no hidden tensor of shape"):
        LiteRtNetwork(model_file(blazeface.FAR_NETWORK_FILE), inner_shape=(1, 2, 3, 4))
