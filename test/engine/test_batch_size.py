from emo_llama_ros.engine.batch_size import BatchSize
from emo_llama_ros.options import Options

MS = 1_000_000


def test_a_fast_model_gets_everybody_at_once():
    size = BatchSize(Options(max_age_s=1.5), most=8)
    assert size.now == 1
    size.took(1, 20 * MS)
    assert size.now == 8


def test_a_slow_model_gets_as_many_as_it_finishes_in_half_of_max_age():
    size = BatchSize(Options(max_age_s=1.5), most=8)
    size.took(8, 2_000 * MS)
    assert size.now == 3  # 250 ms each


def test_a_model_that_is_too_slow_for_anything_still_gets_one():
    size = BatchSize(Options(max_age_s=1.5), most=8)
    size.took(1, 60_000 * MS)
    assert size.now == 1


def test_one_hiccup_is_forgotten_after_the_next_batch():
    size = BatchSize(Options(max_age_s=1.5), most=8)
    size.took(8, 3_000 * MS)
    size.took(size.now, 10 * MS)
    assert size.now == 8
