from itertools import product

import numpy as np
import pytest

from pinsage.evaluation.bootstrap import (
    bootstrap_interval,
    resampled_means,
    sign_flip_p_values,
)


def clustered(rng, num_queries=60, most=8):
    """Pairs whose values are nearly the same within a query: a query is the unit, not a pair."""
    sizes = rng.integers(1, most, num_queries)
    queries = np.repeat(np.arange(num_queries), sizes).astype(np.int64)
    of_query = rng.normal(0.3, 0.2, num_queries)
    return of_query[queries] + rng.normal(0, 0.02, len(queries)), queries


def test_the_interval_covers_the_true_mean_about_as_often_as_it_says():
    covered = 0
    for trial in range(150):
        values, queries = clustered(np.random.default_rng(trial))
        low, high = bootstrap_interval(values, queries, samples=100, seed=trial)
        covered += low <= 0.3 <= high
    # 95% of 150, give or take three standard errors and the haste of 100 samples.
    assert 0.86 <= covered / 150 <= 1.0


def test_the_same_seed_gives_the_same_interval_and_another_seed_another():
    values, queries = clustered(np.random.default_rng(1))
    first = bootstrap_interval(values, queries, seed=3)
    assert bootstrap_interval(values, queries, seed=3) == first
    assert bootstrap_interval(values, queries, seed=4) != first


def test_pairs_of_a_query_move_together():
    values, queries = clustered(np.random.default_rng(2))
    once = bootstrap_interval(values, queries, seed=0)
    ten_times = bootstrap_interval(np.tile(values, 10), np.tile(queries, 10), seed=0)
    assert ten_times == pytest.approx(once)


def test_the_order_of_pairs_does_not_matter():
    values, queries = clustered(np.random.default_rng(3))
    order = np.random.default_rng(0).permutation(len(values))
    shuffled = bootstrap_interval(values[order], queries[order], seed=0)
    assert shuffled == pytest.approx(bootstrap_interval(values, queries, seed=0))


def test_differences_show_a_gain_that_separate_intervals_cannot():
    values, queries = clustered(np.random.default_rng(5))
    better = values + 0.01
    low, high = bootstrap_interval(better - values, queries)
    assert 0 < low <= 0.01 + 1e-9 <= high + 2e-9
    assert bootstrap_interval(better, queries)[0] < bootstrap_interval(values, queries)[1]


def test_all_columns_see_the_same_draws():
    values, queries = clustered(np.random.default_rng(6))
    means = resampled_means(np.stack([values, 2 * values]), queries, samples=20, seed=0)
    np.testing.assert_allclose(means[:, 1], 2 * means[:, 0])


def test_no_pairs_or_no_samples_are_refused():
    none = np.empty(0)
    with pytest.raises(ValueError, match="at least one pair"):
        bootstrap_interval(none, none.astype(np.int64))
    with pytest.raises(ValueError, match="found 0 and 1"):
        bootstrap_interval(np.ones(1), np.zeros(1, np.int64), samples=0)


def test_p_is_the_share_of_all_sign_flips_of_queries_that_are_as_far():
    queries = np.array([4, 1, 4, 9, 2, 2, 8])
    columns = np.array([[0.5, -0.25, 0.5, 0.25, 1.0, 0.0, 0.5], [1, -1, 1, -1, 0, 0, 0]], float)
    p_values = sign_flip_p_values(columns, queries, flips=20_000, seed=0)
    for column, p in zip(columns, p_values, strict=True):
        sums = np.array([column[queries == query].sum() for query in np.unique(queries)])
        every = np.array([np.dot(signs, sums) for signs in product([-1, 1], repeat=len(sums))])
        assert p == pytest.approx(np.mean(np.abs(every) >= abs(sums.sum()) - 1e-9), abs=0.015)


def test_p_values_are_honest_where_pairs_of_a_query_go_together():
    p_values, by_pair = [], []
    for trial in range(400):
        rng = np.random.default_rng(trial)
        queries = np.repeat(np.arange(40), rng.integers(1, 9, 40))
        # No true difference, and all pairs of a query agree.
        differences = rng.normal(size=40)[queries][None]
        for found, clusters in ((p_values, queries), (by_pair, np.arange(len(queries)))):
            found.append(sign_flip_p_values(differences, clusters, flips=199, seed=trial)[0])
    # 5% of 400 with a standard error of 1.1%.
    assert np.mean(np.array(p_values) <= 0.05) < 0.08
    assert np.mean(np.array(by_pair) <= 0.05) > 0.2


def test_a_method_that_is_the_same_has_p_one_and_one_that_is_always_better_the_smallest():
    values, queries = clustered(np.random.default_rng(7))
    columns = np.stack([values - values, np.full(len(values), 0.01)])
    assert sign_flip_p_values(columns, queries, flips=999, seed=0).tolist() == [1.0, 0.001]


def test_the_order_of_pairs_and_the_sign_of_the_difference_do_not_change_p():
    values, queries = clustered(np.random.default_rng(8))
    differences = values[None] - 0.28
    order = np.random.default_rng(0).permutation(len(values))
    one = sign_flip_p_values(differences, queries, flips=500, seed=1)
    two = sign_flip_p_values(-differences[:, order], queries[order], flips=500, seed=1)
    assert one.tolist() == two.tolist()
