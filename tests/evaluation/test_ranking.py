import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pinsage.evaluation.ranking import rank_and_recommend, rank_pairs


class Rows:
    def __init__(self, table):
        self.table = table

    def scores(self, query_ids):
        return self.table[query_ids].astype(np.float32)


@st.composite
def score_tables_with_pairs(draw):
    num_items = draw(st.integers(2, 9))
    # Few different scores, so that ties are the rule.
    table = draw(arrays(np.int64, (num_items, num_items), elements=st.integers(0, 3)))
    pair = st.tuples(st.integers(0, num_items - 1), st.integers(1, num_items - 1))
    drawn = draw(st.lists(pair, min_size=1, max_size=20))
    queries = np.array([query for query, _ in drawn], np.int64)
    positives = np.array([(query + step) % num_items for query, step in drawn], np.int64)
    return table, queries, positives


@settings(max_examples=60, deadline=None)
@given(score_tables_with_pairs(), st.integers(1, 5))
def test_ranks_are_those_of_a_full_sort_without_the_query(case, queries_per_chunk):
    table, queries, positives = case
    ranks = rank_pairs(Rows(table), queries, positives, queries_per_chunk=queries_per_chunk)
    assert ranks.num_candidates == len(table) - 1
    for pair, (query, positive) in enumerate(zip(queries, positives, strict=True)):
        candidates = [item for item in range(len(table)) if item != query]
        ordered = sorted((table[query, item] for item in candidates), reverse=True)
        target = table[query, positive]
        best_rank = 1 + ordered.index(target)
        worst_rank = len(ordered) - ordered[::-1].index(target)
        assert ranks.better[pair] + 1 == best_rank
        assert ranks.better[pair] + ranks.tied[pair] + 1 == worst_rank


@settings(max_examples=60, deadline=None)
@given(score_tables_with_pairs(), st.integers(1, 12))
def test_recommendations_are_the_best_items_other_than_the_query(case, k):
    table, queries, positives = case
    ranking = rank_and_recommend(Rows(table), queries, positives, k=k, queries_per_chunk=2)
    assert ranking.queries.tolist() == sorted(set(queries.tolist()))
    for row, query in enumerate(ranking.queries):
        others = [item for item in range(len(table)) if item != query]
        wanted = sorted(others, key=lambda item: (-table[query, item], item))[:k]
        assert ranking.top_ids[row].tolist() == wanted
        assert ranking.top_scores[row].tolist() == table[query, wanted].tolist()


def test_each_distinct_query_is_scored_once_in_chunks_of_the_size_asked_for(scorer_of):
    scorer = scorer_of(np.random.default_rng(0).random((7, 7)))
    queries = np.array([5, 1, 5, 3, 1, 0, 6], np.int64)
    rank_pairs(scorer, queries, (queries + 1) % 7, queries_per_chunk=2)
    assert scorer.asked == [[0, 1], [3, 5], [6]]


def test_progress_is_told_after_every_chunk_and_ends_at_all_queries(scorer_of):
    told = []
    queries = np.array([4, 1, 2, 3, 0, 1], np.int64)
    rank_pairs(
        scorer_of(np.eye(5)),
        queries,
        (queries + 1) % 5,
        queries_per_chunk=2,
        on_progress=lambda done, total: told.append((done, total)),
    )
    assert told == [(2, 5), (4, 5), (5, 5)]


def test_pairs_come_back_in_the_order_they_were_given(scorer_of):
    scorer = scorer_of(np.tile(np.arange(4, 0, -1), (4, 1)))
    ranks = rank_pairs(scorer, np.array([3, 0, 3, 1]), np.array([2, 1, 0, 3]), queries_per_chunk=1)
    assert ranks.better.tolist() == [2, 0, 0, 2]


@pytest.mark.parametrize(
    ("queries", "positives", "said"),
    [
        ([], [], "no pairs"),
        ([1, 2], [0, 2], "1 of 2 pairs ask for the query itself, first pair 1"),
        ([0], [3], "ids from 0 to 3, but the scorer ranks 3 items"),
        ([0], [-1], "ids from -1"),
    ],
)
def test_pairs_that_cannot_be_ranked_are_refused(scorer_of, queries, positives, said):
    with pytest.raises(ValueError, match=said):
        rank_pairs(scorer_of(np.eye(3)), np.array(queries, np.int64), np.array(positives, np.int64))


def test_a_nan_score_is_refused_rather_than_ranked(scorer_of):
    with pytest.raises(ValueError, match="NaN"):
        rank_pairs(scorer_of([[0, np.nan], [0, 1]]), np.array([0]), np.array([1]))


def test_scores_of_minus_infinity_are_the_worst_and_tie(scorer_of):
    table = [[0, -np.inf, -np.inf, 1], [0] * 4, [0] * 4, [0] * 4]
    ranks = rank_pairs(scorer_of(table), np.array([0]), np.array([1]))
    assert (ranks.better.tolist(), ranks.tied.tolist()) == ([1], [1])
