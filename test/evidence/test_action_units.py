"""Action units over time: spans, thresholds, what needs a baseline, and the units that real faces show."""

from __future__ import annotations

import pytest

from emo_llama_ros.evidence import UNITS, Trend
from emo_llama_ros.evidence.action_units import MEASURED, NEEDS_BASELINE, measured_units, unit_intensities
from emo_llama_ros.faces.face import QualityFlaw

REST: dict[str, float] = {}
SMILE = {"lip_corner_lift": 0.08, "mouth_width": 0.78, "cheek_height": -0.41}
HALF_SMILE = {"lip_corner_lift": 0.05}
BROWS_UP = {"inner_brow_height": 0.38, "outer_brow_height": 0.35}


def _by_unit(clip) -> dict:
    return {evidence.unit: evidence for evidence in measured_units(clip)}


def test_a_still_face_shows_nothing(make_clip) -> None:
    assert measured_units(make_clip(*[REST] * 8)) == ()


def test_a_smile_within_the_clip_has_an_onset(make_clip) -> None:
    """Four frames of rest, four of smile: it begins between the fourth and the fifth, 1 to 0.75 s ago."""
    evidence = _by_unit(make_clip(*[REST] * 4, *[SMILE] * 4))

    assert set(evidence) == {6, 12}
    assert 0.75 < evidence[12].onset_s < 1.0
    assert evidence[12].offset_s == 0.0
    assert evidence[12].intensity > 0.9
    assert evidence[12].trend is Trend.STEADY


def test_a_smile_that_was_there_from_the_first_frame_has_no_onset(make_clip) -> None:
    assert _by_unit(make_clip(*[SMILE] * 8))[12].onset_s is None


def test_a_smile_that_is_over_has_an_offset(make_clip) -> None:
    evidence = _by_unit(make_clip(*[SMILE] * 4, *[REST] * 4))[12]

    assert evidence.onset_s is None
    assert 0.75 < evidence.offset_s < 1.0


@pytest.mark.parametrize(
    ("lifts", "trend"),
    [
        ([0.02, 0.03, 0.05, 0.06, 0.08], Trend.RISING),
        ([0.08, 0.06, 0.05, 0.03, 0.02], Trend.FALLING),
        ([0.05] * 5, Trend.STEADY),
    ],
)
def test_the_trend_is_that_of_the_span(make_clip, lifts, trend) -> None:
    evidence = _by_unit(make_clip(*({"lip_corner_lift": lift} for lift in lifts)))[12]

    assert evidence.trend is trend
    assert evidence.onset_s is None or evidence.onset_s > 0.9


def test_a_single_frame_counts_only_when_it_is_strong_and_the_newest(make_clip) -> None:
    strong = {"lip_corner_lift": 0.08}

    assert _by_unit(make_clip(REST, REST, strong, REST, REST)) == {}
    assert _by_unit(make_clip(REST, REST, REST, {"lip_corner_lift": 0.03})) == {}
    assert set(_by_unit(make_clip(REST, REST, REST, strong))) == {12}
    assert set(_by_unit(make_clip(strong))) == {12}


def test_a_blink_is_not_closed_eyes(make_clip) -> None:
    closed = {"eye_opening": 0.02}

    assert _by_unit(make_clip(REST, REST, REST, closed)) == {}
    assert set(_by_unit(make_clip(REST, closed, closed, closed))) == {43}


def test_frames_that_cannot_be_read_count_for_nothing(make_clip) -> None:
    turned = QualityFlaw.TURNED
    assert measured_units(make_clip(turned, turned, turned)) == ()

    evidence = _by_unit(make_clip(REST, REST, turned, SMILE, SMILE))
    assert 0.25 < evidence[12].onset_s < 0.75


def test_brows_lids_and_cheeks_need_a_baseline(make_clip) -> None:
    frames = [SMILE | BROWS_UP | {"eye_opening": 0.5}] * 4

    with_baseline, without = _by_unit(make_clip(*frames)), _by_unit(make_clip(*frames, baseline=None))

    assert {1, 2, 5, 6, 12} <= set(with_baseline)
    assert set(without) == {12}
    assert not set(unit_intensities(make_clip(REST).faces[0].measures)) & NEEDS_BASELINE


@pytest.mark.parametrize(
    ("change", "unit"),
    [
        (BROWS_UP, 1),
        (BROWS_UP, 2),
        ({"inner_brow_height": 0.21, "brow_gap": 0.28}, 4),
        ({"eye_opening": 0.45}, 5),
        ({"cheek_height": -0.41}, 6),
        ({"eye_opening": 0.22}, 7),
        ({"lip_corner_lift": -0.05}, 15),
        ({"lower_lip_height": -0.89}, 17),
        ({"upper_lip_thickness": 0.06, "lower_lip_thickness": 0.09}, 24),
        ({"lips_apart": 0.12}, 25),
        ({"jaw_drop": 0.92}, 26),
        ({"jaw_drop": 1.10}, 27),
        ({"eye_opening": 0.05}, 43),
    ],
)
def test_each_unit_follows_its_measures(make_clip, change, unit) -> None:
    assert unit in _by_unit(make_clip(*[change] * 3))


def test_raised_cheeks_are_neither_a_frown_nor_tightened_lids(make_clip) -> None:
    """The mesh lowers the brows and the eyes narrow with every broad smile."""
    change = SMILE | {"inner_brow_height": 0.245, "outer_brow_height": 0.215, "eye_opening": 0.26}

    assert set(_by_unit(make_clip(*[change] * 3))) == {6, 12}


def test_every_unit_that_can_be_stated_has_a_name() -> None:
    assert set(UNITS) >= MEASURED > NEEDS_BASELINE


def test_the_real_smile_shows_lip_corners_cheeks_and_parted_lips_since_its_onset(clips_of) -> None:
    """single_face.mp4, 30 fps, analyzed at 10 Hz: the smile begins at about frame 15."""
    last = clips_of("single_face.mp4", 3)[-1]
    evidence = _by_unit(last)

    assert last.baseline is not None
    assert set(evidence) == {6, 12, 25}
    for unit in (6, 12, 25):
        onset_frame = (last.stamp_ns / 1e9 - evidence[unit].onset_s) * 30
        assert 13 < onset_frame < 23
        assert evidence[unit].intensity > 0.8


def test_the_neutral_start_shows_nothing(clips_of) -> None:
    first = clips_of("single_face.mp4", 3)[0]

    assert first.stamp_ns < 0.6e9
    assert measured_units(first) == ()


def test_tears_and_laughter_differ(clips_of) -> None:
    """WolfgangLanger_Pexels.mp4: eyes shut while she cries, lip corners up and lips apart while she laughs."""
    clips = clips_of("WolfgangLanger_Pexels.mp4", 4)
    crying = [c for c in clips if 2.5e9 < c.stamp_ns < 5e9]
    laughing = [c for c in clips if 13e9 < c.stamp_ns < 17e9]

    assert all(43 in _by_unit(clip) for clip in crying)
    assert all({12, 25} <= set(_by_unit(clip)) for clip in laughing)
    assert not any(43 in _by_unit(clip) for clip in laughing)


def test_posed_surprise_parts_the_lips_and_drops_the_jaw(analyzer, picture) -> None:
    units = unit_intensities(analyzer.analyze(picture("0-f1-su-ph.jpg"))[0].measures)

    assert {unit for unit, intensity in units.items() if intensity > 0.1} == {25, 26}


def test_closed_lips_are_not_parted(analyzer, picture) -> None:
    units = unit_intensities(analyzer.analyze(picture("15-f13-anc-ph.jpg"))[0].measures)

    assert {unit for unit, intensity in units.items() if intensity > 0.1} == set()
