import numpy as np

from emo_llama_ros.inference.visual_cache import FrameKey, VisualCache

KB = 1024


def block():
    return np.zeros(KB, np.uint8)


def key(stamp, face_id="a", prompt_hash=""):
    return FrameKey(face_id, stamp, prompt_hash)


def test_frames_are_told_apart_by_person_stamp_and_prompt():
    cache = VisualCache(100 * KB)
    value = block()
    cache.put(key(1), value)
    assert cache.get(key(1)) is value
    for other in (key(2), key(1, "b"), key(1, prompt_hash="p")):
        assert cache.get(other) is None


def test_the_least_recently_used_frame_gives_way():
    cache = VisualCache(3 * KB)
    for stamp in (1, 2, 3):
        cache.put(key(stamp), block())
    cache.get(key(1))
    cache.put(key(4), block())
    assert cache.get(key(2)) is None
    assert all(cache.get(key(stamp)) is not None for stamp in (1, 3, 4))
    assert cache.nbytes == 3 * KB


def test_bytes_stay_bounded_over_a_long_film():
    cache = VisualCache(10 * KB)
    for stamp in range(1000):
        cache.put(key(stamp), block())
        assert cache.nbytes <= 10 * KB
    assert len(cache) == 10


def test_a_frame_larger_than_the_cache_is_not_kept():
    cache = VisualCache(KB // 2)
    cache.put(key(1), block())
    assert len(cache) == 0
    assert cache.nbytes == 0


def test_a_person_who_left_takes_all_frames_along():
    cache = VisualCache(100 * KB)
    for stamp in range(5):
        cache.put(key(stamp, "a", "p"), block())
        cache.put(key(stamp, "b", "p"), block())
    cache.forget("a")
    assert cache.nbytes == 5 * KB
    assert cache.get(key(0, "a", "p")) is None
    assert cache.get(key(0, "b", "p")) is not None


def test_a_frame_put_twice_counts_once():
    cache = VisualCache(100 * KB)
    cache.put(key(1), block())
    cache.put(key(1), block())
    assert cache.nbytes == KB
