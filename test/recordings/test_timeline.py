"""What the timeline picture shows."""

import struct
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.offsetbox import AnnotationBbox
from matplotlib.patches import Rectangle

from emo_llama_ros.estimate import Estimate, Stage, Status
from emo_llama_ros.labels import AFFECTNET, MAFW, RAF_DB
from emo_llama_ros.recordings.timeline import COLOURS, MAX_PEOPLE, Recording, draw_timeline, timeline_figure

T0 = 10**18
WHOLE = Recording("bag", T0, T0 + 20 * 10**9, "model")


def estimate(seconds, label="happiness", face_id="ab12c", status=Status.OK, stage=Stage.FINAL):
    rest = (1 - 0.7) / 6
    return Estimate(
        stamp_ns=T0 + round(seconds * 1e9),
        frame_id="cam",
        estimate_id=f"{face_id}-{seconds}",
        stage=stage,
        status=status,
        clip_start_ns=T0,
        frame_count=8,
        model="model",
        face_id=face_id,
        label=label,
        labels=RAF_DB.labels,
        probabilities=tuple(0.7 if name == label else rest for name in RAF_DB.labels) if label else (),
    )


def nobody(seconds):
    return estimate(seconds, "", "", Status.NO_FACE)


def band(panel):
    """The blocks of the label band: (left, right, colour, hatch)."""
    blocks = [p for p in panel.patches if isinstance(p, Rectangle) and p.get_y() > 1]
    return [
        (round(p.get_x(), 3), round(p.get_x() + p.get_width(), 3), to_hex(p.get_facecolor()).upper(), p.get_hatch())
        for p in blocks
    ]


def texts(panel):
    return [text.get_text() for text in panel.texts]


def test_each_person_has_a_panel_with_a_labelled_band():
    figure = timeline_figure(
        [estimate(0), estimate(1, face_id="zz9zz", label="anger"), estimate(5), estimate(6, "sadness")], WHOLE
    )
    one, other = figure.axes
    assert (one.get_ylabel(), other.get_ylabel()) == ("person 1\nab12c", "person 2\nzz9zz")
    assert [(colour, hatch) for *_, colour, hatch in band(one)] == [("#E69F00", None), ("#0072B2", None)]
    assert texts(one) == ["happiness", "sadness"]
    assert texts(other) == []  # too short for its word


def test_a_label_holds_until_the_next_estimate():
    (panel,) = timeline_figure([estimate(1), estimate(2), estimate(3, "anger"), estimate(4, "anger")], WHOLE).axes
    assert [block[:2] for block in band(panel)] == [(1, 3), (3, 5)]


def test_the_band_is_open_while_the_person_was_away():
    (panel,) = timeline_figure([estimate(t) for t in (1, 1.5, 2, 10, 10.5)], WHOLE).axes
    assert [block[:2] for block in band(panel)] == [(1, 2.5), (10, 11)]


@pytest.mark.parametrize(
    ("status", "pale", "hatched"),
    [
        (Status.OK, False, False),
        (Status.LOW_CONFIDENCE, True, False),
        (Status.LOW_QUALITY, True, True),
        (Status.ERROR, True, True),
    ],
)
def test_the_band_shows_how_far_a_label_can_be_trusted(status, pale, hatched):
    (panel,) = timeline_figure([estimate(t, status=status) for t in range(5)], WHOLE).axes
    ((_, _, colour, hatch),) = band(panel)
    assert (colour != "#E69F00") is pale
    assert bool(hatch) is hatched


def test_label_and_final_of_one_clip_count_once():
    pair = [estimate(1, stage=Stage.LABEL), estimate(1), estimate(2)]
    (panel,) = timeline_figure(pair, WHOLE).axes
    assert [block[:2] for block in band(panel)] == [(1, 3)]


def test_an_estimate_without_a_label_leaves_the_areas_open():
    run = [estimate(0), estimate(1), estimate(2, "", status=Status.ERROR), estimate(3), estimate(4)]
    (panel,) = timeline_figure(run, WHOLE).axes
    assert len(panel.collections) == 2 * len(RAF_DB.labels)
    assert [bool(hatch) for *_, hatch in band(panel)] == [False, True, False]


def test_nobody_in_view_has_a_row_of_its_own():
    person, empty = timeline_figure([estimate(1), nobody(2), nobody(3), estimate(4)], WHOLE).axes
    assert person.get_ylabel().startswith("person 1")
    assert empty.get_ylabel() == "nobody"
    assert len(empty.patches) == 2
    (alone,) = timeline_figure([nobody(0)], WHOLE).axes
    assert alone.get_ylabel() == "nobody"


def test_with_many_people_the_most_seen_are_shown_and_the_rest_counted():
    estimates = [estimate(t, face_id=f"p{k:02d}") for k in range(12) for t in range(1 + k)]
    figure = timeline_figure(estimates, WHOLE)
    assert [panel.get_ylabel().split()[-1] for panel in figure.axes] == [f"p{k:02d}" for k in range(4, 12)]
    assert len(figure.axes) == MAX_PEOPLE
    assert any("4 more people" in text.get_text() for text in figure.texts)


def test_faces_are_shown_only_when_they_are_given():
    def pictures(panel):
        return [artist for artist in panel.artists if isinstance(artist, AnnotationBbox)]

    faces = {"ab12c": [(T0 + 10**9, np.zeros((96, 80, 3), np.uint8))]}
    (plain,) = timeline_figure([estimate(1)], WHOLE).axes
    (with_face,) = timeline_figure([estimate(1)], WHOLE, faces).axes
    assert (len(pictures(plain)), len(pictures(with_face))) == (0, 1)


def boxes(figure):
    """Where each text, legend and panel (with its ticks) of the picture stands, in pixels."""
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()
    parts = [*figure.texts, *figure.legends, *figure.axes]
    return [part.get_tightbbox(renderer) for part in parts]


@pytest.mark.parametrize(
    ("labels", "name"),
    [
        (RAF_DB.labels, "bag"),
        (AFFECTNET.labels, "costs $5 and $6"),
        (MAFW.labels, "a recording of the kitchen " * 12),
        (tuple(f"my word {k}" for k in range(30)), "W" * 300),
        (RAF_DB.labels, "caf\udce9"),
    ],
    ids=["seven", "eight", "eleven", "thirty", "bytes"],
)
def test_nothing_in_the_picture_lies_on_something_else_or_is_cut_off(labels, name):
    shares = tuple([1 / len(labels)] * len(labels))
    people = [
        replace(estimate(t, labels[0], face_id), labels=labels, probabilities=shares)
        for t in range(0, 20, 4)
        for face_id in ("ab12c", "zz9zz")
    ]
    figure = timeline_figure(
        people, Recording(name, T0, T0 + 20 * 10**9, "emo-llama-nano/0123456789ab+blazeface+facemesh")
    )
    found = boxes(figure)
    for one, other in combinations(found, 2):
        assert not one.padded(-1).overlaps(other)
    for box in found:
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.bbox.y1
    _, legend = figure.legends
    assert sorted(text.get_text() for text in legend.get_texts()) == sorted(labels)
    said = "".join(text.get_text() for text in figure.texts)
    assert "".join(name.split()).replace("\udce9", "?") in "".join(said.split())


def test_a_name_in_letters_that_the_font_lacks_is_drawn_without_a_word(tmp_path, recwarn):
    draw_timeline(tmp_path / "t.png", [estimate(0)], Recording("录音", T0, T0 + 10**9))
    assert not recwarn.list


def test_every_label_has_a_colour_of_its_own():
    names = set(RAF_DB.labels) | set(MAFW.labels)
    assert names <= set(COLOURS)
    assert len(set(COLOURS.values())) == len(COLOURS)


@pytest.mark.parametrize("estimates", [[], [estimate(0)], [nobody(0), estimate(19), nobody(20)]])
def test_the_picture_is_written_whatever_there_is_to_show(tmp_path, estimates):
    draw_timeline(tmp_path / "t.png", estimates, WHOLE)
    data = (tmp_path / "t.png").read_bytes()
    width, height = struct.unpack(">II", data[16:24])
    assert width == 1800
    assert height > 200


def test_a_recording_of_a_single_instant_can_be_drawn(tmp_path):
    draw_timeline(tmp_path / "t.png", [estimate(0)], Recording("bag", T0, T0))
    assert (tmp_path / "t.png").stat().st_size > 1000
