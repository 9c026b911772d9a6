import tracemalloc
from itertools import permutations
from math import ceil, log2

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pinsage.evaluation.metrics import (
    Answers,
    hit_rate,
    hit_values,
    mrr,
    ndcg_values,
    recall_values,
    reciprocal_values,
    scaled_mrr,
    scaled_reciprocal_values,
)
from pinsage.evaluation.ranking import Ranks, rank_pairs
from tests.evaluation.conftest import TableScorer


def ranks_over_every_order(scores, target):
    """The target's rank after sorting from each possible order, ties left as they stand."""
    found = []
    for order in permutations(range(len(scores))):
        best_first = sorted(order, key=lambda item: -scores[item])
        found.append(1 + best_first.index(target))
    return np.array(found)


def bounds(scores, target):
    better = sum(score > scores[target] for score in scores)
    tied = sum(score == scores[target] for score in scores) - 1
    return Ranks(np.array([better]), np.array([tied]), len(scores))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 2), min_size=1, max_size=6), st.data(), st.integers(1, 7))
def test_metrics_are_the_mean_over_all_orders_of_ties(scores, data, k):
    target = data.draw(st.integers(0, len(scores) - 1))
    every = ranks_over_every_order(scores, target)
    ranks = bounds(scores, target)
    assert hit_values(ranks, k)[0] == pytest.approx(np.mean(every <= k))
    assert reciprocal_values(ranks)[0] == pytest.approx(np.mean(1 / every))
    wanted = np.mean([1 / ceil(rank / k) for rank in every])
    assert scaled_reciprocal_values(ranks, k)[0] == pytest.approx(wanted)


def slow_recall_and_ndcg(scores, targets, k):
    """Means over every order of the candidates, each sorted by score with ties left as they are."""
    recalls, ndcgs = [], []
    for order in permutations(range(len(scores))):
        best = sorted(order, key=lambda item: -scores[item])[:k]
        recalls.append(sum(item in targets for item in best) / len(targets))
        gain = sum(1 / log2(rank + 1) for rank, item in enumerate(best, 1) if item in targets)
        ideal = sum(1 / log2(rank + 1) for rank in range(1, min(k, len(targets)) + 1))
        ndcgs.append(gain / ideal)
    return np.mean(recalls), np.mean(ndcgs)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 2), min_size=2, max_size=6), st.data(), st.integers(1, 7))
def test_recall_and_ndcg_are_the_mean_over_all_orders_of_ties(scores, data, k):
    # Item 0 is the query; its positives may be named by several pairs.
    targets = data.draw(st.lists(st.integers(1, len(scores) - 1), min_size=1, max_size=5))
    queries, positives = np.zeros(len(targets), np.int64), np.array(targets, np.int64)
    table = np.tile(np.array(scores, np.float32), (len(scores), 1))
    ranks = rank_pairs(TableScorer(table), queries, positives)
    answers = Answers.of(queries, positives)
    candidates = {item - 1 for item in targets}
    recall, ndcg = slow_recall_and_ndcg(scores[1:], candidates, k)
    assert recall_values(ranks, answers, k) == pytest.approx([recall])
    assert ndcg_values(ranks, answers, k) == pytest.approx([ndcg])


def test_a_k_far_beyond_the_catalog_takes_no_memory_and_is_the_last_rank():
    ranks = Ranks(np.array([0, 3, 8]), np.array([0, 2, 0]), 9)
    answers = Answers.of(np.array([0, 0, 1]), np.array([1, 2, 3]))
    whole = ndcg_values(ranks, answers, 9)
    tracemalloc.start()
    assert ndcg_values(ranks, answers, 10**8).tolist() == whole.tolist()
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_recall_and_ndcg_are_means_over_queries_not_pairs(scorer_of):
    queries, positives = np.array([7, 2, 7, 7]), np.array([0, 1, 1, 0])
    table = np.zeros((8, 8))
    table[:, 0] = 1
    ranks = rank_pairs(scorer_of(table), queries, positives)
    answers = Answers.of(queries, positives)
    # Query 2 is first; query 7 has positives 0, the best, and 1, a tie of six.
    assert recall_values(ranks, answers, 1).tolist() == [0.0, 0.5]
    assert ndcg_values(ranks, answers, 1).tolist() == [0.0, 1.0]


@pytest.mark.parametrize("k", [1, 3, 10, 11])
def test_a_constant_scorer_scores_exactly_chance(scorer_of, k):
    num_items = 12
    queries = np.arange(num_items)
    ranks = rank_pairs(scorer_of(np.ones((num_items, num_items))), queries, (queries + 5) % 12)
    assert set(hit_values(ranks, k)) == {k / (num_items - 1)}
    assert hit_rate(ranks, k) == pytest.approx(k / (num_items - 1), rel=1e-12)
    assert mrr(ranks) == pytest.approx(np.mean(1 / np.arange(1, num_items)))
    answers = Answers.of(queries, (queries + 5) % 12)
    assert recall_values(ranks, answers, k) == pytest.approx(k / (num_items - 1))
    chance = np.sum(1 / np.log2(np.arange(2, k + 2))) / (num_items - 1)
    assert ndcg_values(ranks, answers, k) == pytest.approx(chance)


def test_a_scorer_that_knows_the_answer_is_perfect(scorer_of):
    queries = np.arange(6)
    positives = (queries + 2) % 6
    ranks = rank_pairs(scorer_of(np.eye(6)[positives]), queries, positives)
    assert (hit_rate(ranks, 1), scaled_mrr(ranks), mrr(ranks)) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("rank", "value"), [(1, 1.0), (100, 1.0), (101, 0.5), (200, 0.5), (1_000, 0.1), (1_001, 1 / 11)]
)
def test_scaled_mrr_is_equation_2(rank, value):
    ranks = Ranks(np.array([rank - 1]), np.array([0]), 5_000)
    assert scaled_mrr(ranks, scale=100) == value


def test_metrics_are_means_over_pairs():
    ranks = Ranks(np.array([0, 1, 3]), np.array([0, 0, 0]), 9)
    assert hit_rate(ranks, 2) == pytest.approx(2 / 3)
    assert mrr(ranks) == pytest.approx((1 + 1 / 2 + 1 / 4) / 3)


def test_a_k_above_the_candidate_pool_always_hits():
    assert hit_rate(Ranks(np.array([4]), np.array([0]), 5), 500) == 1.0


def test_a_k_or_scale_below_one_is_refused():
    ranks = Ranks(np.array([0]), np.array([0]), 5)
    with pytest.raises(ValueError, match="k >= 1, found 0"):
        hit_rate(ranks, 0)
    with pytest.raises(ValueError, match="scale >= 1, found -1"):
        scaled_mrr(ranks, -1)
