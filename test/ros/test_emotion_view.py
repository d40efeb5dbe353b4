import math

import pytest
from rich.console import Console

from emo_llama_ros.estimate import ActionUnit, Stage, Status
from emo_llama_ros.ros.emotion_view import EmotionView, line

LONG = "The face clearly shows happiness. " + " ".join(f"Reason number {n} stands here." for n in range(20))


def drawn(view, width=100, height=40):
    console = Console(width=width, height=height, record=True, force_terminal=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(view)
    return console.export_text()


@pytest.fixture
def happy(estimate):
    return estimate(label="happiness", confidence=0.75, action_units=(ActionUnit(12, "lip corner puller", 0.8),),
                    age_at_publish_ns=300_000_000)  # fmt: skip


@pytest.mark.parametrize("width", [30, 60, 100])
def test_the_whole_reasoning_is_shown_however_narrow_the_terminal_is(estimate, width):
    view = EmotionView("/emotion")
    view.add(estimate(label="happiness", confidence=0.75, reasoning=LONG))
    text = drawn(view, width, height=200)
    assert " ".join(text.split()).count(LONG.strip()) == 1
    assert max(map(len, text.splitlines())) <= width


@pytest.mark.parametrize("width", [30, 60, 100])
def test_label_confidence_age_status_and_action_units_are_shown(estimate, happy, width):
    view = EmotionView("/emotion")
    view.add(happy)
    text = " ".join(drawn(view, width).split())
    assert "█████████░░░ 75% happiness" in text
    assert "0.3 s old" in text
    assert "AU12 lip corner puller 0.8" in text
    view.add(estimate(label="anger", confidence=0.3, status=Status.LOW_CONFIDENCE, valence=-0.5))
    text = " ".join(drawn(view, width).split())
    assert "LOW_CONFIDENCE" in text
    assert "valence -0.50" in text
    assert "happiness" not in text, "the newest estimate of a person counts"


def test_an_earlier_reasoning_stays_until_the_next_and_says_how_old_it_is(estimate):
    now = [100.0]
    view = EmotionView("/emotion", now=lambda: now[0])
    view.add(estimate(estimate_id="one", label="happiness", confidence=0.75, stage=Stage.LABEL))
    assert "…" in drawn(view)
    view.add(estimate(estimate_id="one", label="happiness", confidence=0.75, reasoning="Raised lip corners."))
    assert "ago" not in drawn(view)
    now[0] = 104.0
    view.add(estimate(estimate_id="two", label="anger", confidence=0.5, stage=Stage.LABEL))
    assert "4 s ago: Raised lip corners." in drawn(view)


def test_people_who_left_are_forgotten_and_nobody_is_said_to_be_there(estimate):
    now = [0.0]
    view = EmotionView("/emotion", forget_s=10.0, now=lambda: now[0])
    assert "No estimate yet." in drawn(view)
    view.add(estimate(face_id="anna", label="anger", confidence=0.5))
    now[0] = 6.0
    view.add(estimate(face_id="bert", label="anger", confidence=0.5))
    assert "anna" in drawn(view)
    now[0] = 11.0
    assert "anna" not in drawn(view)
    assert "bert" in drawn(view)
    view.add(estimate(face_id="", status=Status.NO_FACE))
    text = drawn(view)
    assert "Nobody is in view (NO_FACE)." in text
    assert "bert" not in text


def test_people_for_whom_there_is_no_room_are_counted(estimate):
    view = EmotionView("/emotion")
    for number in range(6):
        view.add(estimate(face_id=f"person{number}", label="anger", confidence=0.5, reasoning=LONG))
    view.notes = ("The camera is dark.",)
    text = drawn(view, 80, height=24)
    assert "4 more: make the terminal higher" in " ".join(text.split())
    assert "The camera is dark." in text
    assert len(text.splitlines()) <= 23


def test_what_would_command_the_terminal_is_not_passed_on(estimate):
    view = EmotionView("/emotion")
    spoken = estimate(label="anger", confidence=math.nan, reasoning="Red\x1b[2J\ntwo [bold]words[/bold]")
    view.add(spoken)
    for text in (drawn(view), line(spoken)):
        assert "\x1b[2J" not in text
        assert "[2J two [bold]words[/bold]" in text


def test_a_line_says_when_who_and_what(estimate):
    start = estimate().stamp_ns - 2_500_000_000
    said = line(estimate(label="anger", confidence=0.5, reasoning="Because."), start)
    assert said.split() == ["2.5", "s", "a", "FINAL", "anger", "0.50", "OK", "Because."]
    assert line(estimate(face_id="", status=Status.NO_FACE), start).split()[-1] == "NO_FACE"
