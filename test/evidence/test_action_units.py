"""Action units over time: spans, thresholds, what needs a baseline, and the units that real faces show."""

from __future__ import annotations

import pytest
from face_fixtures import NEUTRAL_MEASURES

from emo_llama_ros.evidence import UNITS, Trend
from emo_llama_ros.evidence.action_units import (
    MEASURED,
    MIN_INTENSITY,
    NEEDS_BASELINE,
    measured_units,
    unit_intensities,
)
from emo_llama_ros.faces.face import QualityFlaw
from emo_llama_ros.faces.measures import NAMES

REST: dict[str, float] = {}
SMILE = {"mouthSmile": 0.87, "mouthLowerDown": 0.30, "mouthStretch": 0.05, "eyeSquint": 0.43, "inner_brow_height": 0.27}
"""As in single_face.mp4, apart from the parted lips."""
BROWS_UP = {"browInnerUp": 0.8, "browOuterUp": 0.5, "inner_brow_height": 0.36}


def _by_unit(clip) -> dict:
    return {evidence.unit: evidence for evidence in measured_units(clip)}


def test_a_still_face_shows_nothing(make_clip) -> None:
    assert measured_units(make_clip(*[REST] * 8)) == ()


def test_a_smile_within_the_clip_has_an_onset(make_clip) -> None:
    """Four frames of rest, four of smile: it begins between the fourth and the fifth, 1 to 0.75 s ago."""
    evidence = _by_unit(make_clip(*[REST] * 4, *[SMILE] * 4))

    assert set(evidence) == {12}
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
    ("smiles", "trend"),
    [
        ([0.15, 0.25, 0.45, 0.55, 0.7], Trend.RISING),
        ([0.7, 0.55, 0.45, 0.25, 0.15], Trend.FALLING),
        ([0.4] * 5, Trend.STEADY),
    ],
)
def test_the_trend_is_that_of_the_span(make_clip, smiles, trend) -> None:
    evidence = _by_unit(make_clip(*({"mouthSmile": smile} for smile in smiles)))[12]

    assert evidence.trend is trend
    assert evidence.onset_s is None or evidence.onset_s > 0.9


def test_a_single_frame_counts_only_when_it_is_strong_and_the_newest(make_clip) -> None:
    strong = {"mouthSmile": 0.8}

    assert _by_unit(make_clip(REST, REST, strong, REST, REST)) == {}
    assert _by_unit(make_clip(REST, REST, REST, {"mouthSmile": 0.2})) == {}
    assert set(_by_unit(make_clip(REST, REST, REST, strong))) == {12}
    assert set(_by_unit(make_clip(strong))) == {12}


def test_a_blink_is_not_closed_eyes(make_clip) -> None:
    closed = {"eyeBlink": 0.7, "eye_opening": 0.02}

    assert _by_unit(make_clip(REST, REST, REST, closed)) == {}
    assert set(_by_unit(make_clip(REST, closed, closed, closed))) == {43}


def test_frames_that_cannot_be_read_count_for_nothing(make_clip) -> None:
    turned = QualityFlaw.TURNED
    assert measured_units(make_clip(turned, turned, turned)) == ()

    evidence = _by_unit(make_clip(REST, REST, turned, SMILE, SMILE))
    assert 0.25 < evidence[12].onset_s < 0.75


def test_what_only_a_neutral_face_tells_needs_a_baseline(make_clip) -> None:
    frames = [SMILE | BROWS_UP | {"eyeWide": 0.3}] * 4

    with_baseline, without = _by_unit(make_clip(*frames)), _by_unit(make_clip(*frames, baseline=None))

    assert set(with_baseline) == {1, 2, 5, 12}
    assert set(without) == {12}
    assert not set(unit_intensities(make_clip(REST).faces[0].measures)) & NEEDS_BASELINE


@pytest.mark.parametrize(
    ("change", "units"),
    [
        ({"browInnerUp": 0.8, "inner_brow_height": 0.36}, {1}),
        ({"browOuterUp": 0.5}, {2}),
        ({"browDown": 0.4, "inner_brow_height": 0.22}, {4}),
        ({"eyeWide": 0.3}, {5}),
        ({"eyeSquint": 0.6}, {7}),
        ({"mouthSmile": 0.8}, {12}),
        ({"mouthLowerDown": 0.4}, {16}),
        ({"mouthStretch": 0.4}, {20}),
        ({"lips_apart": 0.12}, {25}),
        ({"jawOpen": 0.5}, {26}),
        ({"eyeBlink": 0.7, "eyeSquint": 0.6, "eye_opening": 0.02}, {43}),
    ],
)
def test_each_unit_follows_its_scores_and_lengths(make_clip, change, units) -> None:
    assert set(_by_unit(make_clip(*[change] * 3))) == units


def test_the_units_are_those_that_the_scores_show() -> None:
    """Nose wrinkler, cheek raiser, lip corner depressor, chin raiser and lip pressor are not told by the scores."""
    assert sorted(MEASURED) == [1, 2, 4, 5, 7, 12, 16, 20, 25, 26, 43]


@pytest.mark.parametrize("score", ["browInnerUp", "eyeSquint", "mouthLowerDown"])
def test_a_person_whose_resting_face_scores_high_shows_nothing_at_rest(make_clip, score) -> None:
    resting = NEUTRAL_MEASURES | {score: 0.6}

    assert _by_unit(make_clip(*[{score: 0.6}] * 4, baseline=resting)) == {}
    assert _by_unit(make_clip(*[{score: 0.6}] * 4, baseline=NEUTRAL_MEASURES)) != {}


def test_a_broad_smile_is_neither_a_frown_nor_tightened_lids_nor_stretched_lips(make_clip) -> None:
    """The mesh lowers the brows, the eyes narrow and the mouth widens with every broad smile."""
    assert set(_by_unit(make_clip(*[SMILE | {"eyeSquint": 0.5, "inner_brow_height": 0.265}] * 3))) == {12}


def test_lids_that_droop_are_not_tightened(make_clip) -> None:
    """A sad face's lids sink: the squint score rises with the blink score."""
    assert 7 not in _by_unit(make_clip(*[{"eyeSquint": 0.45, "eyeBlink": 0.45}] * 3))
    assert 7 in _by_unit(make_clip(*[{"eyeSquint": 0.45}] * 3))


def test_faces_without_blendshape_scores_are_read_by_their_lengths(make_face) -> None:
    """The faces of the synthetic training clips."""
    lengths = {name: NEUTRAL_MEASURES[name] for name in NAMES}
    raised = lengths | {"lip_corner_lift": 0.08, "inner_brow_height": 0.38, "cheek_height": -0.41}

    units = unit_intensities(raised, lengths)

    assert set(units) <= MEASURED
    assert {unit for unit, intensity in units.items() if intensity > 0.1} == {1, 12}


def test_every_unit_that_can_be_stated_has_a_name() -> None:
    assert set(UNITS) >= MEASURED > NEEDS_BASELINE


def test_the_real_smile_shows_lip_corners_and_parted_lips_since_its_onset(clips_of) -> None:
    """single_face.mp4, 30 fps, analyzed at 10 Hz: the smile begins at about frame 15."""
    last = clips_of("single_face.mp4", 3)[-1]
    evidence = _by_unit(last)

    assert last.baseline is not None
    assert set(evidence) == {12, 25}
    for unit in (12, 25):
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

    assert crying
    assert laughing
    assert all(43 in _by_unit(clip) for clip in crying)
    assert all({12, 25} <= set(_by_unit(clip)) for clip in laughing)
    assert not any(43 in _by_unit(clip) for clip in laughing)


def test_eyes_are_closed_only_where_the_lids_meet(faces_of) -> None:
    """WolfgangLanger_Pexels.mp4: she looks down at first, cries with closed eyes, and laughs, at last looking down."""
    faces = {round(stamp / 1e9, 1): found[0] for stamp, found in faces_of("WolfgangLanger_Pexels.mp4", 4)}
    closed = {second: unit_intensities(face.measures)[43] for second, face in faces.items()}
    score = {second: face.measures["eyeBlink"] for second, face in faces.items()}

    looks_down = [second for second in closed if second < 0.1 or second > 18.9]
    assert min(score[second] for second in looks_down) > 0.55
    assert max(closed[second] for second in looks_down) < MIN_INTENSITY
    assert min(closed[second] for second in closed if 2.5 < second < 5.0) > 0.5


@pytest.mark.parametrize("name", ["multi_face.jpg", "0-f15-hao-ph.jpg", "single_face.jpg"])
def test_laughing_eyes_are_not_closed(analyzer, picture, name) -> None:
    faces = analyzer.analyze(picture(name))

    assert faces
    assert all(unit_intensities(face.measures)[43] == 0.0 for face in faces)


def test_a_smile_that_narrows_the_eyes_does_not_close_them(make_clip) -> None:
    narrow = {"eyeBlink": 0.65, "eyeSquint": 0.7, "eye_opening": 0.05, "mouthSmile": 0.95}

    assert 43 not in _by_unit(make_clip(*[narrow] * 3))
    assert 43 in _by_unit(make_clip(*[narrow | {"mouthSmile": 0.0}] * 3))
    assert 43 in _by_unit(make_clip(*[narrow | {"eye_opening": 0.02}] * 3))


def test_posed_surprise_parts_the_lips_and_drops_the_jaw(analyzer, picture) -> None:
    units = unit_intensities(analyzer.analyze(picture("0-f1-su-ph.jpg"))[0].measures)

    assert {unit for unit, intensity in units.items() if intensity > 0.1} == {25, 26}


def test_closed_lips_are_not_parted(analyzer, picture) -> None:
    units = unit_intensities(analyzer.analyze(picture("15-f13-anc-ph.jpg"))[0].measures)

    assert {unit for unit, intensity in units.items() if intensity > 0.1} == set()
