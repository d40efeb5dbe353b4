import json

import pytest

pytestmark = pytest.mark.usefixtures("ros")


def test_the_demo_leaves_estimates_and_a_picture(sample_video, tmp_path, monkeypatch, capsys):
    from emo_llama_ros.ros import demo

    def patient(bag, topic, parameters, *arguments, **keywords):
        return demo_replay(bag, topic, {**parameters, "max_age_s": 30.0}, *arguments, **keywords)

    demo_replay = demo.replay_live
    monkeypatch.setattr(demo, "replay_live", patient)  # a busy machine is late, and still has something to say
    monkeypatch.setattr(demo, "VIDEOS", ("single_face.mp4",))
    sample_video("single_face.mp4")
    out = tmp_path / "demo"
    demo.run_demo(out)
    report = json.loads((out / "report.json").read_text())
    assert report["frames_played"] == 72
    assert int(report["node"]["camera"]["frames received"]) > 36  # best effort: a busy machine may miss some
    estimates = [json.loads(line) for line in (out / "estimates.jsonl").read_text().splitlines()]
    assert estimates[-1]["label"] == "happiness"
    assert (out / "timeline.png").read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "happiness" in printed
    assert str(out / "timeline.png") in printed.replace("\n", "")
