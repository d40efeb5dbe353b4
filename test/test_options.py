import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emo_llama_ros.errors import BadParameter
from emo_llama_ros.options import Options, check, parse, specs


@pytest.mark.parametrize("name", specs())
def test_every_option_says_what_it_is_and_accepts_its_own_default(name):
    spec = specs()[name]
    assert spec.description.endswith(".")
    assert spec.group
    assert check(name, spec.default) == spec.default


@pytest.mark.parametrize("name", [n for n, s in specs().items() if s.low is not None])
def test_every_range_is_enforced_at_both_ends(name):
    spec = specs()[name]
    for value in (spec.low, spec.high):
        assert check(name, spec.type(value)) == value
    for outside in (spec.low - 1, spec.high + 1):
        with pytest.raises(BadParameter, match=f"'{name}' must be between"):
            check(name, spec.type(outside))


@pytest.mark.parametrize("name", [n for n, s in specs().items() if s.choices])
def test_a_word_that_is_no_choice_is_refused_with_the_choices(name):
    with pytest.raises(BadParameter, match=specs()[name].choices[0]):
        check(name, "nonsense")


def test_a_whole_number_may_stand_for_a_float_but_nothing_else_is_converted():
    assert Options().with_values({"clip_s": 1}).clip_s == 1.0
    for name, value in (("clip_frames", 8.0), ("enabled", 1), ("clip_s", True), ("backend", None), ("seed", "1")):
        with pytest.raises(BadParameter, match=name):
            check(name, value)


def test_not_a_number_is_in_no_range():
    with pytest.raises(BadParameter):
        check("clip_s", math.nan)


def test_an_unknown_name_is_refused():
    with pytest.raises(BadParameter, match="no parameter 'clips'"):
        Options().with_values({"clips": 1})


@given(
    st.sampled_from(sorted(specs())),
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary()),
)
def test_a_value_is_either_taken_in_the_right_type_or_refused_in_one_sentence(name, value):
    refusal = None
    try:
        taken = check(name, value)
    except BadParameter as error:
        refusal = str(error)
    if refusal is None:
        assert type(taken) is specs()[name].type
    else:
        assert name in refusal


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("clip_s=1.5", ("clip_s", 1.5)),
        ("clip_s=1", ("clip_s", 1.0)),
        ("clip_frames = 4", ("clip_frames", 4)),
        ("reasoning=False", ("reasoning", False)),
        ("image_topic=7", ("image_topic", "7")),
        ("model_path=a=b", ("model_path", "a=b")),
    ],
)
def test_a_typed_setting_gets_the_type_of_its_option(setting, expected):
    name, value = parse(setting)
    assert (name, value, type(value)) == (*expected, type(expected[1]))
    assert parse(setting)[1] == getattr(Options().with_values({name: value}), name)


@pytest.mark.parametrize(
    "setting", ["clip_s", "", "clips=1", "clip_s=x", "clip_frames=4.5", "reasoning=1", "clip_s=NaN"]
)
def test_a_setting_that_means_nothing_is_refused(setting):
    with pytest.raises(BadParameter):
        parse(setting)
