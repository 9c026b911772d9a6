import numpy as np
import pytest

from pinsage.kernels.rings import ring_numbers


def rings_of(contexts):
    """Pair each item with the next of its context, the last with the first."""
    queries = np.concatenate(contexts)
    return queries, np.concatenate([np.roll(context, -1) for context in contexts])


def test_pairs_of_contexts_in_a_row_are_told_apart_even_where_contexts_share_items():
    rng = np.random.default_rng(0)
    sizes = rng.integers(2, 6, 300)
    contexts = [rng.permutation(7)[:size] for size in sizes]
    found = ring_numbers(*rings_of(contexts))
    assert found.tolist() == np.repeat(np.arange(300), sizes).tolist()


def test_what_are_no_whole_rings_have_no_numbers():
    queries, positives = rings_of([np.arange(3), np.arange(2, 6)])
    for left_out in range(len(queries)):
        kept = np.arange(len(queries)) != left_out
        assert ring_numbers(queries[kept], positives[kept]) is None
    none = np.empty(0, np.int64)
    assert ring_numbers(none, none).tolist() == []


def test_queries_without_positives_are_refused():
    with pytest.raises(ValueError, match="found 2 queries, 1 others"):
        ring_numbers(np.arange(2), np.arange(1))
