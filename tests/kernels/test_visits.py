import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pinsage.kernels import importance_weights, top_visited
from tests import reference

MANY = 2**31 - 1


@settings(deadline=None, max_examples=200)
@given(
    visits=st.lists(
        st.lists(st.integers(0, 9) | st.integers(MANY - 3, MANY), max_size=30), max_size=5
    ),
    seed=st.integers(0, 9),
    num_neighbors=st.integers(1, 20),
)
def test_top_visited_equals_counting_and_sorting(visits, seed, num_neighbors):
    visited = np.full((len(visits), 30), -1, np.int32)
    for row, items in enumerate(visits):
        visited[row, : len(items)] = items
    ids, counts = top_visited(visited, np.full(len(visits), seed), num_neighbors)
    assert ids.shape == counts.shape == (len(visits), num_neighbors)
    for row, items in enumerate(visits):
        expected = reference.top_visited(items, seed, num_neighbors)
        padding = [(-1, 0)] * (num_neighbors - len(expected))
        assert list(zip(ids[row].tolist(), counts[row].tolist(), strict=True)) == (
            expected + padding
        )


@pytest.mark.parametrize("num_neighbors", [1, 15, 16, 17, 96, 97, 500, 2_000])
@pytest.mark.parametrize("order", ["rising", "falling", "shuffled", "few"])
def test_top_visited_of_many_items_equals_counting_and_sorting(num_neighbors, order):
    rng = np.random.default_rng(8)
    visits = {
        "rising": np.arange(1_000),
        "falling": np.arange(1_000)[::-1],
        "shuffled": rng.integers(0, 700, 1_000) ** 2,
        "few": rng.integers(0, 20, 1_000),
    }[order]
    ids, counts = top_visited(visits[None].astype(np.int32), np.array([13]), num_neighbors)
    expected = reference.top_visited(visits.tolist(), 13, num_neighbors)
    kept = list(zip(ids[0].tolist(), counts[0].tolist(), strict=True))[: len(expected)]
    assert kept == expected
    assert (ids[0, len(expected) :] == -1).all()
    assert (counts[0, len(expected) :] == 0).all()


def test_equal_counts_favor_no_item_and_no_pair():
    # 1,024 items are met once each: a neighborhood of 64 is a fair draw of them, seed by seed.
    num_seeds, num_items, kept = 4_000, 1_024, 64
    visited = np.tile(np.arange(100, 100 + num_items, dtype=np.int32), (num_seeds, 1))
    ids, _ = top_visited(visited, np.arange(5_000, 5_000 + num_seeds), kept)
    is_drawn = np.zeros((num_seeds, num_items))
    np.put_along_axis(is_drawn, ids - 100, 1, axis=1)
    assert np.abs(is_drawn.mean(axis=0) * num_items / kept - 1).max() < 0.3
    chance = kept * (kept - 1) / (num_items * (num_items - 1))
    for distance in (1, 2, 3, 16, 255, 256, 512, 513):
        together = (is_drawn * np.roll(is_drawn, distance, axis=1)).mean()
        assert together == pytest.approx(chance, rel=0.06), distance


def test_rows_of_one_call_do_not_leak_into_each_other():
    visited = np.array([[1, 2, 2], [3, 3, 1], [-1, -1, -1]], np.int32)
    ids, counts = top_visited(visited, np.array([0, 0, 0]), 2)
    assert ids.tolist() == [[2, 1], [3, 1], [-1, -1]]
    assert counts.tolist() == [[2, 1], [2, 1], [0, 0]]


def test_a_single_visit_is_a_neighborhood():
    ids, counts = top_visited(np.array([[5]], np.int32), np.array([0]), 1)
    assert ids.tolist() == [[5]]
    assert counts.tolist() == [[1]]


def test_no_room_for_visits_gives_empty_rows():
    ids, counts = top_visited(np.empty((2, 0), np.int32), np.array([0, 1]), 2)
    assert ids.tolist() == [[-1, -1], [-1, -1]]
    assert counts.tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize(
    ("visited", "seeds", "num_neighbors", "message"),
    [
        (np.zeros((1, 3), np.int32), [0], 0, "num_neighbors must be at least 1; found 0"),
        (np.zeros((2, 3), np.int32), [0], 1, r"one row for each of the 1 seeds; .* \(2, 3\)"),
        (np.zeros((1, 3), np.int16), [0], 1, "visited must be int32 or int64 .* of int16"),
        (np.zeros(3, np.int32), [0], 1, r"found shape \(3,\)"),
        (np.full((1, 3), 2**40), [0], 1, r"visited must lie in -1\.\.1099511627774; found"),
        (np.zeros((1, 3), np.int32), [0.5], 1, "seeds must be a one-dimensional integer array"),
    ],
)
def test_top_visited_refuses(visited, seeds, num_neighbors, message):
    with pytest.raises(ValueError, match=message):
        top_visited(visited, np.array(seeds), num_neighbors)


@settings(deadline=None)
@given(
    counts=hnp.arrays(
        np.int32, hnp.array_shapes(min_dims=2, max_dims=2), elements=st.integers(0, 10**6)
    )
)
def test_importance_weights_equal_counts_over_their_sum(counts):
    weights = importance_weights(counts)
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights, reference.importance_weights(counts), rtol=1e-6)
    np.testing.assert_allclose(weights.sum(axis=1), (counts.sum(axis=1) > 0), rtol=1e-5)


def test_importance_weights_of_a_cold_item_are_zero_not_nan():
    assert importance_weights(np.zeros((1, 3), np.int32)).tolist() == [[0.0, 0.0, 0.0]]


def test_importance_weights_add_up_counts_beyond_int32():
    counts = np.full((1, 4), 2**30, np.int32)
    assert importance_weights(counts).tolist() == [[0.25, 0.25, 0.25, 0.25]]


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (np.array([[1, -2]], np.int32), "counts must not be negative; found -2"),
        (np.array([1, 2], np.int32), r"two-dimensional integer array; found shape \(2,\)"),
        (np.array([[1.0]]), "two-dimensional integer array; .* float64"),
    ],
)
def test_importance_weights_refuses(counts, message):
    with pytest.raises(ValueError, match=message):
        importance_weights(counts)
