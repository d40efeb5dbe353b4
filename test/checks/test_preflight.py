import pytest

from emo_llama_ros.checks.preflight import check_context, check_files
from emo_llama_ros.errors import BadParameter, MissingModel
from emo_llama_ros.options import Options


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
        ({"models_folder": "/nowhere"}, "emo_llama fetch"),
        ({"analyzer": "insightface"}, "insightface_folder is empty"),
        ({"analyzer": "insightface", "insightface_folder": "/nowhere"}, "no such folder"),
    ],
)
def test_a_missing_model_is_named(changes, words):
    with pytest.raises(MissingModel, match=words):
        check_files(Options(**changes))


@pytest.mark.parametrize("name", ["expression_model", "expression_labels", "calibration_file"])
def test_a_missing_file_is_named_by_its_parameter(tmp_path, name):
    """With insightface as analyzer, so that no embedded network is asked for."""
    options = Options(analyzer="insightface", insightface_folder=str(tmp_path), **{name: "/nowhere/file"})
    with pytest.raises(MissingModel, match=f"{name} is '/nowhere/file'"):
        check_files(options)


def test_a_missing_checkpoint_folder_is_named(tmp_path):
    options = Options(
        analyzer="insightface", insightface_folder=str(tmp_path), backend="emo_llama", model_path="/nowhere"
    )
    with pytest.raises(MissingModel, match="model_path is '/nowhere'"):
        check_files(options)
