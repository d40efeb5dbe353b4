import shutil

import pytest

from emo_llama_ros.checks.preflight import check_context, check_files, check_networks
from emo_llama_ros.errors import BadParameter, MissingModel
from emo_llama_ros.faces.make import analyzer_declaration
from emo_llama_ros.install.fetch import model_file
from emo_llama_ros.options import Options, specs


@pytest.mark.parametrize("context", ["workplace", "education"])
def test_restricted_places_need_a_reason(context):
    with pytest.raises(BadParameter, match="medical_or_safety_reason"):
        check_context(Options(deployment_context=context, medical_or_safety_reason="  "))
    check_context(Options(deployment_context=context, medical_or_safety_reason="fatigue of crane drivers"))


@pytest.mark.parametrize("context", ["research", "home", "care_medical", "public"])
def test_other_places_need_none(context):
    check_context(Options(deployment_context=context))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"analyzer": "insightface"}, "insightface_folder is empty"),
        ({"analyzer": "insightface", "insightface_folder": "/nowhere"}, "no such folder"),
    ],
)
def test_a_missing_folder_of_an_analyzer_is_named(changes, words):
    with pytest.raises(MissingModel, match=words):
        check_files(Options(**changes))


@pytest.mark.parametrize("analyzer", specs()["analyzer"].choices)
def test_every_network_that_an_analyzer_reads_is_asked_for_before_it_starts(analyzer, tmp_path):
    networks = analyzer_declaration(Options(analyzer=analyzer)).networks
    assert networks
    try:
        for name in networks:
            shutil.copy(model_file(name), tmp_path / name)
    except MissingModel as error:
        pytest.skip(str(error))
    options = Options(analyzer=analyzer, models_folder=str(tmp_path))
    check_networks(options)
    for name in networks:
        (tmp_path / name).rename(tmp_path / "away")
        with pytest.raises(MissingModel, match=f"{name}.*emo_llama fetch"):
            check_networks(options)
        (tmp_path / "away").rename(tmp_path / name)


@pytest.mark.parametrize("name", ["expression_model", "expression_labels", "calibration_file"])
def test_a_missing_file_is_named_by_its_parameter(name):
    options = Options(**{name: "/nowhere/file"})
    with pytest.raises(MissingModel, match=f"{name} is '/nowhere/file'"):
        check_files(options)


def test_a_missing_checkpoint_folder_is_named():
    options = Options(backend="emo_llama", model_path="/nowhere")
    with pytest.raises(MissingModel, match="model_path is '/nowhere'"):
        check_files(options)
