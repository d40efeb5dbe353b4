"""Reports say the same in Markdown and JSON."""

import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("sklearn", reason="needs scikit-learn (extra: train)")

from emo_llama_ros.evaluation.comparison import compare
from emo_llama_ros.evaluation.metrics import compute
from emo_llama_ros.evaluation.report import Result, as_json, markdown
from emo_llama_ros.labels import DFEW, RAF_DB

sys.path.insert(0, str(Path(__file__).parent))
from predictions import answers

TRUTH = ["happiness"] * 40 + ["anger"] * 10


@pytest.fixture
def results():
    first = answers(TRUTH, ["happiness"] * 45 + ["no_face"] * 5)
    second = answers(TRUTH, TRUTH, sentences=4, sentences_held=3)
    made = [
        Result("bare", "net 1", compute(first, RAF_DB)),
        Result("nano", "emo 2", compute(second, RAF_DB), {"seed": 0}),
    ]
    return made, {"nano": compare(first, second, RAF_DB)}


def test_the_markdown_shows_both_backends_side_by_side(results):
    text = markdown("Mine", *results, "emo_llama evaluate mine")
    assert "| model | net 1 | emo 2 |" in text
    assert "| **WAR** | 80.0% [" in text
    assert "| no face rate | 10.0% | 0.0% |" in text
    assert "| anger | 10 | 0.0% | 100.0% |" in text
    assert "| fear | 0 | – | – |" in text
    assert "| faithful | – | 75.0% of 200 |" in text
    assert "## nano against bare" in text
    assert "WAR differs by +20.0 points" in text
    assert text.endswith("```\nemo_llama evaluate mine\n```\n")


def test_the_json_holds_the_same_numbers_and_no_nan(results):
    report = json.loads(json.dumps(as_json("Mine", *results, "emo_llama evaluate mine"), allow_nan=False))
    bare, nano = report["results"]
    assert bare["war"]["value"] == pytest.approx(0.8)
    assert bare["classes"]["fear"]["recall"] is None
    assert nano["faithful_sentences"] == {"held": 150, "said": 200}
    assert report["comparisons"]["nano"]["only_second_right"] == 10


def test_folds_have_a_table(results):
    made = answers(["anger"], ["anger"], labels=DFEW, fold=1) + answers(["anger"], ["fear"], labels=DFEW, fold=2)
    text = markdown("DFEW", [Result("x", "x", compute(made, DFEW))], {}, "x")
    assert "| 1 | 100.0% / 100.0% |" in text
    assert "| 2 | 0.0% / 0.0% |" in text


def test_votes_people_and_what_was_left_out_are_shown_where_there_are_any(results):
    from emo_llama_ros.data.datasets import LeftOut

    plain = markdown("Mine", *results, "x", LeftOut())
    assert "to votes |" not in plain
    assert "per person" not in plain
    assert "Left out" not in plain
    made = answers(["anger"], ["anger"], votes=(0, 0, 0, 0, 9, 0, 0, 0, 1, 0), person="p1", low_quality=True)
    left_out = LeftOut()
    left_out.add("is empty", "a.jpg")
    result = [Result("x", "x", compute(made, RAF_DB))]
    text = markdown("Mine", result, {}, "x", left_out)
    assert "| Brier to votes | 0.01" in text
    assert "| UAR per person, worst tenth | 100.0% |" in text
    assert "| low quality rate | 100.0% |" in text
    assert "## Left out\n\n- 1 × is empty (a.jpg)" in text
    found = as_json("Mine", result, {}, "x", left_out)
    assert found["left_out"] == {"is empty": {"count": 1, "examples": ["a.jpg"]}}
    assert found["results"][0]["votes"]["count"] == 1
    assert found["results"][0]["people"]["uar_mean"] == 1.0
