import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pinsage.evaluation.lists import (
    coverage,
    diversity_values,
    gini,
    largest_share,
    popularity_values,
)


@st.composite
def some_lists(draw):
    """Lists of distinct items, some of them short or empty, and how many items there are."""
    num_items = draw(st.integers(1, 9))
    k = draw(st.integers(1, num_items))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows = draw(st.integers(1, 6))
    lists = np.stack([rng.permutation(num_items)[:k] for _ in range(rows)])
    lists[np.arange(k) >= rng.integers(k + 1, size=(rows, 1))] = -1
    return lists, num_items


@settings(deadline=None)
@given(some_lists())
def test_figures_of_all_lists_are_counts_of_each_item(case):
    lists, num_items = case
    counts = [int(np.sum(lists == item)) for item in range(num_items)]
    assert coverage(lists, num_items) == sum(count > 0 for count in counts) / num_items
    assert largest_share(lists) == max(counts) / len(lists)
    # Half the mean difference of two items' counts, relative to the mean count.
    gaps = np.mean([abs(one - other) for one in counts for other in counts])
    wanted = gaps / 2 / np.mean(counts) if any(counts) else 0
    assert gini(lists, num_items) == pytest.approx(wanted)


@settings(deadline=None)
@given(some_lists())
def test_diversity_is_one_less_the_mean_cosine_of_two_items_of_a_list(case):
    lists, num_items = case
    content = np.random.default_rng(1).normal(size=(num_items, 3)).astype(np.float32)
    content[0] = 0
    unit = content / np.maximum(np.linalg.norm(content, axis=1, keepdims=True), 1e-9)
    for ids, value in zip(lists, diversity_values(lists, content.__getitem__), strict=True):
        pairs = [(a, b) for a in ids for b in ids if a != b and a >= 0 and b >= 0]
        wanted = 1 - np.mean([unit[a] @ unit[b] for a, b in pairs]) if pairs else np.nan
        assert value == pytest.approx(wanted, abs=1e-6, nan_ok=True)


def test_mean_popularity_is_the_mean_degree_of_a_list():
    degrees = np.array([4, 0, 10], np.int64)
    assert popularity_values(np.array([[0, 1], [2, 0]]), degrees).tolist() == [2, 7]


def test_an_empty_list_has_no_popularity_and_a_short_one_that_of_the_items_it_holds():
    found = popularity_values(np.array([[2, -1], [-1, -1]]), np.array([4, 0, 10], np.int64))
    assert found[0] == 10
    assert np.isnan(found[1])
