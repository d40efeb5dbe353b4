import json

import pytest
from rich.console import Console

from emo_llama_ros.estimate import Stage, Status

pytestmark = pytest.mark.usefixtures("ros")


def shown(renderable):
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(renderable)
    return console.export_text()


def test_a_final_message_completes_the_row_of_its_label(estimate):
    from emo_llama_ros.ros.demo import EstimateTable

    table = EstimateTable()
    table.add(estimate(estimate_id="one", stage=Stage.LABEL, label="happiness", confidence=0.75))
    assert "75% happiness" in shown(table)
    assert "LABEL" in shown(table)
    table.add(estimate(estimate_id="one", label="happiness", confidence=0.75, reasoning="The lip corners are raised."))
    text = shown(table)
    assert text.count("happiness") == 1
    assert "LABEL" not in text
    assert "The lip corners are raised." in text
    table.add(estimate(estimate_id="two", status=Status.NO_FACE))
    assert "NO_FACE" in shown(table)
    for number in range(30):
        table.add(estimate(estimate_id=f"later {number}", label="anger", confidence=0.5))
    assert "happiness" not in shown(table), "only the newest stay"


def test_a_line_says_when_who_and_what(estimate):
    from emo_llama_ros.ros.demo import line

    start = estimate().stamp_ns - 2_500_000_000
    said = line(estimate(label="anger", confidence=0.5, reasoning="Because."), start)
    assert said.split() == ["2.5", "s", "a", "FINAL", "anger", "0.50", "OK", "Because."]
    assert line(estimate(face_id="", status=Status.NO_FACE), start).split()[-1] == "NO_FACE"


def test_the_demo_leaves_estimates_and_a_picture(sample_video, tmp_path, monkeypatch, capsys):
    from emo_llama_ros.ros import demo

    monkeypatch.setattr(demo, "VIDEOS", ("single_face.mp4",))
    sample_video("single_face.mp4")
    out = tmp_path / "demo"
    demo.run_demo(out)
    report = json.loads((out / "report.json").read_text())
    assert report["frames_played"] == 72
    assert int(report["node"]["camera"]["frames received"]) > 60  # best effort: a busy machine may miss one
    estimates = [json.loads(line) for line in (out / "estimates.jsonl").read_text().splitlines()]
    assert estimates[-1]["label"] == "happiness"
    assert (out / "timeline.png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "happiness" in printed
    assert str(out / "timeline.png") in printed.replace("\n", "")
