"""Pictures are made for every kind of result, and show its numbers."""

import io
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


def test_the_confusion_matrix_shows_shares_and_counts(tmp_path):
    metrics = compute(answers(["happiness"] * 3 + ["anger"], ["happiness", "happiness", "anger", "anger"]), RAF_DB)
    shown = texts(plots.confusion_figure(metrics, RAF_DB, "a title"))
    assert {"67%", "33%", "100%", "a title"} <= set(shown)
    assert "WAR 75.0%  ·  UAR 83.3%  ·  4 samples" in shown
    assert plots.NO_ANSWER not in shown
    plots.save_confusion(metrics, RAF_DB, "a title", tmp_path / "c.png")
    assert cv2.imread(str(tmp_path / "c.png")).shape[0] > 500


def test_answers_without_a_label_have_a_column_of_their_own():
    metrics = compute(answers(["anxiety"] * 2, ["anxiety", "no_face"], labels=MAFW), MAFW)
    assert plots.NO_ANSWER in texts(plots.confusion_figure(metrics, MAFW, "mafw"))


def test_the_reliability_diagram_shows_every_bin_that_has_answers():
    metrics = compute(overconfident(500), RAF_DB)
    figure = plots.reliability_figure(metrics.calibration, "reliability")
    filled = [b for b in metrics.calibration.bins if b[2]]
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    assert all(any(abs(h - accuracy) < 1e-9 for h in heights) for _, accuracy, _ in filled)
    shares = [bar.get_height() for bar in figure.axes[1].patches]
    assert sum(shares) == pytest.approx(1)


@pytest.mark.parametrize(
    "title", ["expression on RAF-DB", "emo_llama=models/folds/a_long_name/fold{fold} on my set " * 4]
)
def test_whatever_the_title_nothing_is_cut_off_or_squeezed(title):
    metrics = compute(answers(MAFW.labels * 2, [*MAFW.labels, "no_face", *MAFW.labels[1:]], labels=MAFW), MAFW)
    for figure in (plots.confusion_figure(metrics, MAFW, title), plots.reliability_figure(metrics.calibration, title)):
        figure.savefig(io.BytesIO())
        whole = figure.get_tightbbox()
        assert 0 <= whole.x0 <= whole.x1 <= figure.get_figwidth()
        assert 0 <= whole.y0 <= whole.y1 <= figure.get_figheight()
        panel = figure.axes[0]
        assert panel.get_position().width > 0.75
        assert panel.get_position().height > 0.4
        assert "".join(panel._left_title.get_text().split()) == "".join(title.split())
        (figures,) = [text for text in panel.texts if "·" in text.get_text()]
        assert not figures.get_window_extent().overlaps(panel._left_title.get_window_extent())


def test_a_title_in_letters_that_the_font_lacks_is_drawn_without_a_word(tmp_path, recwarn):
    metrics = compute(overconfident(50), RAF_DB)
    plots.save_confusion(metrics, RAF_DB, "录音" * 40, tmp_path / "c.png")
    plots.save_reliability(metrics, "录音" * 40, tmp_path / "r.png")
    assert not recwarn.list


def test_without_any_label_there_is_no_reliability_diagram(tmp_path):
    plots.save_reliability(compute(answers(["anger"], ["no_face"]), RAF_DB), "none", tmp_path / "r.png")
    assert not (tmp_path / "r.png").exists()
