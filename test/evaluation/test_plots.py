"""Pictures are made for every kind of result, and show its numbers."""

import sys
from pathlib import Path

import cv2
import pytest

pytest.importorskip("sklearn", reason="needs scikit-learn (extra: train)")

from emo_llama_ros.evaluation import plots
from emo_llama_ros.evaluation.metrics import compute
from emo_llama_ros.labels import MAFW, RAF_DB

sys.path.insert(0, str(Path(__file__).parent))
from predictions import answers, overconfident


def texts(figure):
    axes = figure.axes[0]
    return [t.get_text() for t in (*axes.texts, *axes.get_xticklabels(), axes.title, axes._left_title)]


@pytest.fixture
def drawn(monkeypatch):
    """Figures in the order they are made."""
    made = []
    original = plots._figure
    monkeypatch.setattr(plots, "_figure", lambda *size: made.append(original(*size)) or made[-1])
    return made


def test_the_confusion_matrix_shows_shares_and_counts(drawn, tmp_path):
    metrics = compute(answers(["happiness"] * 3 + ["anger"], ["happiness", "happiness", "anger", "anger"]), RAF_DB)
    plots.save_confusion(metrics, RAF_DB, "a title", tmp_path / "c.png")
    shown = texts(drawn[0])
    assert {"67%", "33%", "100%", "a title"} <= set(shown)
    assert "WAR 75.0%  ·  UAR 83.3%  ·  4 samples" in shown
    assert plots.NO_ANSWER not in shown
    assert cv2.imread(str(tmp_path / "c.png")).shape[0] > 500


def test_answers_without_a_label_have_a_column_of_their_own(drawn, tmp_path):
    metrics = compute(answers(["anxiety"] * 2, ["anxiety", "no_face"], labels=MAFW), MAFW)
    plots.save_confusion(metrics, MAFW, "mafw", tmp_path / "c.png")
    assert plots.NO_ANSWER in texts(drawn[0])


def test_the_reliability_diagram_shows_every_bin_that_has_answers(drawn, tmp_path):
    metrics = compute(overconfident(500), RAF_DB)
    plots.save_reliability(metrics, "reliability", tmp_path / "r.png")
    filled = [b for b in metrics.calibration.bins if b[2]]
    heights = [bar.get_height() for bar in drawn[0].axes[0].patches]
    assert all(any(abs(h - accuracy) < 1e-9 for h in heights) for _, accuracy, _ in filled)
    shares = [bar.get_height() for bar in drawn[0].axes[1].patches]
    assert sum(shares) == pytest.approx(1)


def test_without_any_label_there_is_no_reliability_diagram(tmp_path):
    plots.save_reliability(compute(answers(["anger"], ["no_face"]), RAF_DB), "none", tmp_path / "r.png")
    assert not (tmp_path / "r.png").exists()
