"""The whole analyzer on real pictures: everything is measured, nothing is invented."""

from __future__ import annotations

import numpy as np
import pytest

from emo_llama_ros.errors import MissingModel
from emo_llama_ros.faces.blendshapes import SCORES
from emo_llama_ros.faces.embedded import DECLARATION, EmbeddedAnalyzer
from emo_llama_ros.faces.face import QualityFlaw
from emo_llama_ros.faces.make import make_analyzer
from emo_llama_ros.faces.measures import NAMES
from emo_llama_ros.install.fetch import model_file
from emo_llama_ros.options import Options


def test_a_face_has_everything(analyzer, picture) -> None:
    (face,) = analyzer.analyze(picture("single_face.jpg"))

    assert face.crop.shape == (224, 224, 3)
    assert face.landmarks.shape == (478, 3)
    assert face.landmarks.dtype == np.float32
    assert face.expression.shape == (7,)
    assert face.expression.sum() == pytest.approx(1, abs=1e-5)
    assert tuple(face.measures) == (*NAMES, *SCORES)
    assert face.embedding is not None
    assert face.flaws == QualityFlaw.NONE
    assert 0.5 <= face.score <= 1
    assert (face.apparent_age, face.apparent_gender) == (None, "")


def test_the_box_is_that_of_the_mesh(analyzer, picture) -> None:
    face = analyzer.analyze(picture("single_face.jpg"))[0]
    low, high = face.landmarks[:, :2].min(0), face.landmarks[:, :2].max(0)

    assert (face.box.x, face.box.y) == pytest.approx(low.tolist())
    assert (face.box.width, face.box.height) == pytest.approx((high - low).tolist())


def test_the_largest_face_comes_first(analyzer, picture) -> None:
    areas = [face.box.width * face.box.height for face in analyzer.analyze(picture("multi_face.jpg"))]

    assert areas == sorted(areas, reverse=True)


def test_the_same_image_gives_the_same_faces(analyzer, picture) -> None:
    first, again = analyzer.analyze(picture("multi_face.jpg")), analyzer.analyze(picture("multi_face.jpg"))

    assert [f.box for f in first] == [f.box for f in again]
    assert all((a.expression == b.expression).all() for a, b in zip(first, again, strict=True))
    assert all((a.embedding == b.embedding).all() for a, b in zip(first, again, strict=True))


def test_an_image_is_left_as_it_was(analyzer, picture) -> None:
    rgb = picture("single_face.jpg").copy()
    rgb.flags.writeable = False

    analyzer.analyze(rgb)


def test_a_view_with_strides_is_as_good_as_a_copy(analyzer, picture) -> None:
    """Frames may be views into a message, for example BGR read backwards."""
    rgb = picture("single_face.jpg")
    view = np.ascontiguousarray(rgb[:, :, ::-1])[:, :, ::-1]

    assert [f.box for f in analyzer.analyze(view)] == [f.box for f in analyzer.analyze(rgb)]


def test_missing_networks_are_an_error_that_names_the_command(tmp_path) -> None:
    with pytest.raises(MissingModel, match=f"emo_llama fetch --folder {tmp_path}"):
        EmbeddedAnalyzer(Options(models_folder=str(tmp_path)))


def test_the_option_chooses_the_analyzer(analyzer) -> None:
    assert make_analyzer(Options()).name == "blazeface+facemesh+emo-eyes"
    with pytest.raises(MissingModel, match="insightface_folder"):
        make_analyzer(Options(analyzer="insightface"))


def test_the_networks_that_it_declares_are_those_that_it_reads(analyzer, tmp_path):
    for name in DECLARATION.networks:
        (tmp_path / name).symlink_to(model_file(name))
    DECLARATION.make(Options(models_folder=str(tmp_path)))
    for name in DECLARATION.networks:
        (tmp_path / name).rename(tmp_path / "away")
        with pytest.raises(MissingModel, match=name):
            DECLARATION.make(Options(models_folder=str(tmp_path)))
        (tmp_path / "away").rename(tmp_path / name)
