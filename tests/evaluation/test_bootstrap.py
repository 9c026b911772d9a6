import numpy as np
import pytest

from pinsage.evaluation.bootstrap import bootstrap_interval, paired_interval, resampled_means


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


def test_a_method_differs_from_itself_by_nothing():
    values, queries = clustered(np.random.default_rng(4))
    assert paired_interval(values, values, queries) == (0.0, 0.0)


def test_pairing_sees_a_gain_that_separate_intervals_cannot():
    values, queries = clustered(np.random.default_rng(5))
    better = values + 0.01
    low, high = paired_interval(better, values, queries)
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
