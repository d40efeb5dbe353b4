"""The report on a terminal."""

import io

import pytest
from rich.console import Console

from emo_llama_ros.evaluation.report_view import report_view

MODEL = "emo-llama-nano/0123456789ab+blazeface+facemesh+emo-eyes"
REPORT = f"# mine test\n\n| | expression | emo_llama |\n|---|---|---|\n| model | {MODEL} | {MODEL}-second |\n"


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_nothing_of_a_report_is_cut_off_in_a_narrow_terminal(width):
    shown = io.StringIO()
    Console(file=shown, width=width).print(report_view(REPORT))
    lines = shown.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert "…" not in shown.getvalue()
    letters = {c: sum(line.count(c) for line in lines) for c in "0123456789+/"}
    assert letters == {c: REPORT.count(c) for c in "0123456789+/"}
