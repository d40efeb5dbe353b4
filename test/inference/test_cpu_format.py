import pytest

from emo_llama_ros.inference.cpu_format import FORMATS, WORDS, choose_format, time_format
from emo_llama_ros.model.configuration import LlmConfig

FP32, BF16, INT8, NF4 = FORMATS
SMALL = LlmConfig(hidden_size=128, intermediate_size=256)


def choose(times, fits=lambda f: True):
    return choose_format(SMALL, fits, lambda candidate, config: times[candidate])


def test_the_fastest_wins_and_the_times_are_told():
    chosen, why = choose({FP32: 90.0, BF16: 60.0, INT8: 30.0, NF4: 10.0})
    assert chosen == NF4
    assert why.startswith(f"nf4, measured per matrix for a label and {WORDS} words: nf4 10.0 ms, int8 30.0 ms")


def test_a_more_exact_format_wins_when_it_is_about_as_fast():
    assert choose({FP32: 90.0, BF16: 12.0, INT8: 11.0, NF4: 10.0})[0] == BF16


def test_what_does_not_fit_or_run_is_left_out_and_named():
    def measure(candidate, config):
        if candidate == NF4:
            raise RuntimeError("no kernel")
        return {BF16: 60.0, INT8: 30.0}[candidate]

    chosen, why = choose_format(SMALL, lambda f: f != FP32, measure)
    assert chosen == INT8
    assert "float32 does not fit" in why
    assert "nf4 does not run (RuntimeError)" in why


def test_the_smallest_is_tried_when_nothing_fits():
    assert choose({}, lambda f: False)[0] == NF4


@pytest.mark.parametrize("candidate", FORMATS, ids=str)
def test_every_format_runs_here(candidate):
    if candidate.quantization != "none":
        pytest.importorskip("bitsandbytes")
    assert time_format(candidate, SMALL) > 0
