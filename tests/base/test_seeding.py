import numpy as np

from pinsage.base.seeding import Stream, stream, stream_key, uniform_by_id


def test_streams_of_other_purposes_seeds_or_counters_differ() -> None:
    keys = {
        stream_key(seed, purpose, part)
        for seed in range(3)
        for purpose in Stream
        for part in range(3)
    }
    assert len(keys) == 9 * len(Stream)


def test_equal_arguments_give_equal_draws() -> None:
    draws = [stream(7, Stream.PAIR_ORDER, 2).random(5) for _ in range(2)]
    np.testing.assert_array_equal(*draws)


def test_an_id_draws_the_same_in_any_company() -> None:
    ids = np.arange(1000)
    alone = np.array([uniform_by_id(1, Stream.SPLITS, ids[i : i + 1])[0] for i in range(1000)])
    np.testing.assert_array_equal(uniform_by_id(1, Stream.SPLITS, ids), alone)
    assert 0.45 < alone.mean() < 0.55
    assert alone.min() >= 0
    assert alone.max() < 1
