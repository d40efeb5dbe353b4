"""Conversations are written by a vision model behind a real HTTP server; its faults cost time, never data."""

import json
import re
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("openai", reason="needs the openai package (extra: train)")

from emo_llama_ros.data.conversations import GIVE_UP_AFTER, failures_path, write_conversations
from emo_llama_ros.data.datasets import Sample, open_dataset
from emo_llama_ros.data.endpoint import EndpointSettings, VisionEndpoint
from emo_llama_ros.data.records import read_records
from emo_llama_ros.data.writer import WriterUnusable
from emo_llama_ros.errors import BadData, BadParameter

sys.path.insert(0, str(Path(__file__).parent))
from dataset_trees import dfew, picture
from openai_server import KEY, MODEL, Script, images_of, serving, text_of


def label_in(request):
    return re.search(r"labelled '(\w+)'", text_of(request))[1]


def conversation(label, answer="The lip corners are raised and the cheeks are lifted, which shows {}."):
    return json.dumps({"rounds": [{"question": "What does the face show?", "answer": answer.replace("{}", label)}]})


def good(request):
    return conversation(label_in(request))


def endpoint(url, **settings):
    settings = {"retries": 3, "timeout_s": 5.0, "api_key": KEY, "model": MODEL, **settings}
    return VisionEndpoint(EndpointSettings(base_url=url, **settings))


@pytest.fixture
def samples(tmp_path):
    for i in range(6):
        picture(tmp_path / f"data/{('anger', 'happiness')[i % 2]}/{i}.png", value=40 * i)
    return list(open_dataset(tmp_path / "data").read(tmp_path / "data", "test"))


def test_each_sample_becomes_one_valid_record(samples, tmp_path):
    out = tmp_path / "conversation.jsonl"
    with serving(Script(good)) as url:
        progress = write_conversations(samples, out, endpoint(url))
    records = list(read_records(out))
    assert progress.written == len(records) == 6
    assert {(r.id, r.label, r.kind) for r in records} == {
        (f"data/test/{s.id}", s.label, "conversation") for s in samples
    }
    assert all((out.parent / r.path).exists() for r in records)
    assert progress.usage.prompt_tokens == 600
    assert progress.cost(2.0, 10.0) == pytest.approx(0.0018)


def test_the_model_is_shown_the_picture_and_told_the_label(samples, tmp_path):
    script = Script(good)
    with serving(script) as url:
        write_conversations(samples[:1], tmp_path / "c.jsonl", endpoint(url))
    (request,) = script.requests
    (jpeg,) = images_of(request)
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert image.shape == (8, 8, 3)
    assert label_in(request) == samples[0].label
    assert request["model"] == MODEL


def test_a_clip_is_shown_as_several_frames_in_order(tmp_path):
    dfew(tmp_path)
    script = Script(good)
    with serving(script) as url:
        samples = list(open_dataset(tmp_path).read(tmp_path, "test", 1))
        write_conversations(samples, tmp_path / "c.jsonl", endpoint(url), frames=3)
    images = images_of(script.requests[0])
    brightness = [cv2.imdecode(np.frombuffer(i, np.uint8), cv2.IMREAD_GRAYSCALE).mean() for i in images]
    assert brightness == sorted(brightness)
    assert len(images) == 3
    assert "clip of 3 frames" in text_of(script.requests[0])


@pytest.mark.parametrize("fault", [429, 500, 503, "reset", "hang"])
def test_a_passing_fault_is_waited_out(fault, samples, tmp_path):
    script = Script(good, faults=[fault, fault])
    with serving(script) as url:
        progress = write_conversations(samples[:1], tmp_path / "c.jsonl", endpoint(url, timeout_s=0.3), concurrency=1)
    assert (progress.written, progress.failed) == (1, 0)
    assert len(script.requests) == 3


@pytest.mark.parametrize("fault", ["cut", "empty"])
def test_an_unusable_reply_is_asked_for_again_with_the_reason(fault, samples, tmp_path):
    script = Script(good, faults=[fault])
    with serving(script) as url:
        progress = write_conversations(samples[:1], tmp_path / "c.jsonl", endpoint(url), concurrency=1)
    assert progress.written == 1
    assert progress.usage.prompt_tokens == 200
    assert len(script.requests[1]["messages"]) == 4
    assert script.requests[1]["messages"][3]["content"]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("not JSON", "one JSON object"),
        ('{"rounds": []}', "one JSON object"),
        ('{"rounds": [{"question": "What?"}]}', "one JSON object"),
        (conversation("sadness"), "labelled 'anger', but the answer says 'sadness'"),
        (conversation("", "The lip corners are raised and the cheeks are lifted."), "must name the expression"),
        (conversation("", "The face does not show anger but something else."), "denies it"),
        (conversation("anger", "This woman has lowered eyebrows, which shows {}."), "'woman' says who"),
        (conversation("anger", "The eyebrows of the Asian actor are lowered in {}."), "'Asian' says who"),
        (conversation("anger", "The person feels {} because the eyebrows are lowered."), "'feels' is about inner life"),
        (conversation("anger", "I'm sorry, I cannot describe the {} in this face."), "refuses"),
        (conversation("anger", "{}."), "5 to 120 words"),
        (conversation("anger", "The lowered eyebrows show {}. " * 60), "5 to 120 words"),
        (conversation("anger", "The eyebrows are lowered in {} and the"), "cut off"),
        (json.dumps({"rounds": [json.loads(conversation("anger"))["rounds"][0]] * 3}), "one or 2 rounds"),
    ],
)
def test_an_answer_that_stays_bad_is_recorded_as_failed_with_its_reason(answer, reason, samples, tmp_path):
    out = tmp_path / "c.jsonl"
    script = Script(lambda request: answer)
    with serving(script) as url:
        progress = write_conversations(samples[:1], out, endpoint(url))
    assert (progress.written, progress.failed) == (0, 1)
    assert progress.usage.completion_tokens == 30
    failure = json.loads(failures_path(out).read_text())
    assert failure["id"] == f"data/test/{samples[0].id}"
    assert reason in failure["reason"]
    assert reason in script.requests[1]["messages"][3]["content"]


def test_an_answer_in_a_code_fence_is_read(samples, tmp_path):
    with serving(Script(lambda r: f"Here it is:\n```json\n{good(r)}\n```")) as url:
        assert write_conversations(samples[:1], tmp_path / "c.jsonl", endpoint(url)).written == 1


def test_an_interrupted_run_goes_on_where_it_stopped(samples, tmp_path):
    out = tmp_path / "c.jsonl"
    with serving(Script(good)) as url:
        write_conversations(samples[:3], out, endpoint(url), concurrency=1)
    with out.open("a") as file:
        file.write('{"id": "half a li')  # killed while writing
    script = Script(good)
    with serving(script) as url:
        progress = write_conversations(samples, out, endpoint(url))
    assert (progress.skipped, progress.written) == (3, 3)
    assert len(script.requests) == 3
    assert len(list(read_records(out))) == 6


def test_failed_items_are_tried_again_by_the_next_run(samples, tmp_path):
    out = tmp_path / "c.jsonl"
    with serving(Script(lambda r: "no")) as url:
        assert write_conversations(samples, out, endpoint(url)).failed == 6
    with serving(Script(good)) as url:
        assert write_conversations(samples, out, endpoint(url)).written == 6
    assert not failures_path(out).exists()


def test_no_more_than_the_given_number_of_requests_are_open(samples, tmp_path):
    script = Script(good)
    script.delay_s = 0.05
    with serving(script) as url:
        write_conversations(samples, tmp_path / "c.jsonl", endpoint(url), concurrency=2)
    assert script.most_open == 2


@pytest.mark.parametrize("settings", [{"api_key": "wrong"}, {"base_url": "/elsewhere"}])
def test_a_wrong_key_or_address_stops_the_run_at_once(settings, samples, tmp_path):
    script = Script(good)
    with serving(script) as url:
        path = settings.pop("base_url", "")
        with pytest.raises(WriterUnusable, match="Check address, key and model"):
            write_conversations(samples, tmp_path / "c.jsonl", endpoint(url + path, **settings), concurrency=1)
    assert len(script.requests) == 1


def test_a_dead_endpoint_stops_the_run_after_some_failures(samples, tmp_path):
    many = [Sample(f"{i}", samples[0].path, "anger", "many", "test") for i in range(3 * GIVE_UP_AFTER)]
    with serving(Script(good)) as url:
        pass  # closed again: nobody listens there
    with pytest.raises(WriterUnusable, match="failed in a row"):
        write_conversations(many, tmp_path / "c.jsonl", endpoint(url, retries=0))


def test_a_damaged_picture_fails_alone(samples, tmp_path):
    samples[0].path.write_bytes(b"no picture")
    with serving(Script(good)) as url:
        progress = write_conversations(samples, tmp_path / "c.jsonl", endpoint(url))
    assert (progress.written, progress.failed) == (5, 1)


def test_progress_is_told_after_every_item(samples, tmp_path):
    told = []
    with serving(Script(good)) as url:
        write_conversations(
            samples, tmp_path / "c.jsonl", endpoint(url), concurrency=1, on_progress=lambda p: told.append(p.written)
        )
    assert told == [1, 2, 3, 4, 5, 6]


def test_what_is_missing_is_said(monkeypatch, samples, tmp_path):
    monkeypatch.delenv("EMO_LLAMA_VISION_MODEL", raising=False)
    with pytest.raises(BadParameter, match="--model"):
        VisionEndpoint(EndpointSettings())
    with pytest.raises(BadData, match=r"\.jsonl"):
        write_conversations(samples, tmp_path / "c.json", endpoint("http://127.0.0.1:1"))


def test_the_command_asks_the_endpoint_that_the_environment_names(samples, tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from emo_llama_ros.cli import app

    out = tmp_path / "c.jsonl"
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("EMO_LLAMA_VISION_MODEL", MODEL)
    with serving(Script(good)) as url:
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        arguments = [
            "data",
            "conversation",
            str(tmp_path / "data"),
            "--split",
            "test",
            "--out",
            str(out),
            "--limit",
            "4",
        ]
        result = CliRunner().invoke(app, [*arguments, "--prompt-price", "2.5"])
    assert result.exit_code == 0, result.output
    assert "4 written, 0 were there, 0 failed" in " ".join(result.output.split())
    assert len(list(read_records(out))) == 4
