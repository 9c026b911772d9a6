from fractions import Fraction

import numba
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pinsage.evaluation.baselines import EmbeddingCosine, Transitions
from pinsage.evaluation.metrics import hit_rate
from pinsage.evaluation.passes import PairsByQuery, pass_over_vectors
from pinsage.evaluation.ranking import rank_and_recommend, rank_pairs
from pinsage.graph import Pairs


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
@given(score_tables_with_pairs(), st.integers(1, 5) | st.none(), st.data())
def test_ranks_are_those_of_a_full_sort_of_the_pool_without_the_query(
    case, queries_per_chunk, data
):
    table, queries, positives = case
    pool = data.draw(pools(len(table)))
    ranking = rank_and_recommend(
        Rows(table), queries, positives, k=0, pool=pool, queries_per_chunk=queries_per_chunk
    )
    ranks = ranking.ranks
    for pair, (query, positive) in enumerate(zip(queries, positives, strict=True)):
        inside = set(range(len(table)) if pool is None else pool.tolist())
        candidates = (inside | {positive}) - {query}
        assert len(candidates) <= ranks.num_candidates
        ordered = sorted((table[query, item] for item in candidates), reverse=True)
        target = table[query, positive]
        best_rank = 1 + ordered.index(target)
        worst_rank = len(ordered) - ordered[::-1].index(target)
        assert ranks.better[pair] + 1 == best_rank
        assert ranks.better[pair] + ranks.tied[pair] + 1 == worst_rank


def pools(num_items):
    """None, or ascending ids of at least one item."""
    chosen = st.sets(st.integers(0, num_items - 1), min_size=1)
    return st.none() | chosen.map(lambda ids: np.array(sorted(ids), np.int64))


@settings(max_examples=60, deadline=None)
@given(score_tables_with_pairs(), st.integers(1, 12), st.data())
def test_recommendations_are_the_best_of_the_pool_other_than_the_query(case, k, data):
    table, queries, positives = case
    pool = data.draw(pools(len(table)))
    ranking = rank_and_recommend(
        Rows(table), queries, positives, k=k, pool=pool, queries_per_chunk=2
    )
    assert ranking.queries.tolist() == sorted(set(queries.tolist()))
    inside = list(range(len(table))) if pool is None else pool.tolist()
    k = min(k, len(inside) - bool(set(inside) & set(queries.tolist())))
    for row, query in enumerate(ranking.queries):
        others = [item for item in inside if item != query]
        wanted = sorted(others, key=lambda item: (-table[query, item], item))[:k]
        assert ranking.top_ids[row].tolist() == wanted
        assert ranking.top_scores[row].tolist() == table[query, wanted].tolist()


@pytest.mark.parametrize("pool", [None, np.array([1, 2, 5, 7, 8])])
def test_a_list_ends_where_counts_know_of_no_more_items_and_ranks_stay_as_they_were(pool):
    # Item 5 was followed by item 7 twice and by item 9 once; of the others nothing is known.
    train = Pairs(np.array([5, 5, 5, 1]), np.array([7, 7, 9, 5]))
    scorer = Transitions(train, 200)
    queries, positives = np.array([0, 5, 5]), np.array([5, 9, 199])
    found = rank_and_recommend(scorer, queries, positives, k=4, pool=pool)
    of_five = [7, 9] if pool is None else [7]
    padding = [-1] * (found.top_ids.shape[1] - len(of_five))
    assert found.top_ids.tolist() == [[-1] * found.top_ids.shape[1], of_five + padding]
    scores = [2.0, 1.0][: len(of_five)] + [-np.inf] * len(padding)
    assert found.top_scores[1].tolist() == scores
    plain = rank_and_recommend(
        Rows(scorer.scores(np.arange(200))), queries, positives, k=4, pool=pool
    )
    assert found.ranks.better.tolist() == plain.ranks.better.tolist()
    assert found.ranks.tied.tolist() == plain.ranks.tied.tolist()


@pytest.mark.parametrize("pool", [None, np.array([0, 1, 2, 4]), np.array([0, 2, 3, 5])])
def test_items_without_a_vector_stand_behind_all_others_and_are_in_no_list(pool):
    # Every product of two items that have a vector is negative, but for that of 0 and 2.
    vectors = np.array([[9, 1], [0, 0], [1, -9], [-1, -1], [0, 0], [-9, 8]], np.float32)
    if pool is None:
        vectors = np.concatenate([vectors, vectors[[4]]])
    queries, positives = np.array([0, 0, 0, 1, 4, 3]), np.array([5, 1, 2, 0, 1, 4])
    found = rank_and_recommend(EmbeddingCosine(vectors), queries, positives, k=5, pool=pool)
    inside = set(range(len(vectors)) if pool is None else pool.tolist())
    unknown = set(np.flatnonzero(~vectors.any(axis=1)).tolist())
    for pair, (query, positive) in enumerate(zip(queries, positives, strict=True)):
        others = (inside | {positive}) - {query}
        known = others - unknown
        if query in unknown:
            wanted = 0, len(others) - 1
        elif positive in unknown:
            wanted = len(known), len(others - known) - 1
        else:
            score = vectors[query] @ vectors[positive]
            wanted = sum(vectors[query] @ vectors[item] > score for item in known), 0
        assert (found.ranks.better[pair], found.ranks.tied[pair]) == wanted
    listed = found.top_ids[found.top_ids >= 0]
    assert not unknown & set(listed.tolist())
    assert (found.top_ids[np.isin(found.queries, list(unknown))] == -1).all()


def test_a_method_that_knows_few_items_finds_no_more_than_chance_of_those_it_does_not_know():
    rng = np.random.default_rng(2)
    vectors = rng.normal(size=(200, 8)).astype(np.float32)
    vectors[20:] = 0
    queries = np.repeat(np.arange(20), 9)
    positives = 20 + np.arange(180)
    ranks = rank_pairs(EmbeddingCosine(vectors), queries, positives)
    # As items that score 0, most of them stood before half of the known ones.
    assert hit_rate(ranks, 19) == 0
    assert hit_rate(ranks, 109) == pytest.approx((109 - 19) / 180)


def test_a_query_whose_scores_are_all_minus_infinity_is_recommended_nothing(scorer_of):
    found = rank_and_recommend(
        scorer_of(np.full((4, 4), -np.inf)), np.array([0, 2]), np.array([1, 1]), k=3
    )
    assert (found.top_ids == -1).all()


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


@st.composite
def vectors_with_pairs(draw):
    """Many equal vectors, some that a float32 product can hardly tell apart, and some of zeros."""
    num_items = draw(st.integers(2, 25))
    kind = draw(st.sampled_from(["few", "close", "any"]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    vectors = rng.normal(size=(num_items, draw(st.integers(1, 9)))).astype(np.float32)
    if kind == "few":
        vectors = np.sign(vectors)[rng.integers(num_items, size=num_items)]
    if kind == "close":
        vectors = 1 + vectors * np.float32(2**-22)
    if draw(st.booleans()):
        vectors[rng.random(num_items) < 0.4] = 0
    queries = rng.integers(num_items, size=draw(st.integers(1, 30)))
    return vectors, queries, (queries + rng.integers(1, num_items, len(queries))) % num_items


@settings(max_examples=50, deadline=None)
@given(vectors_with_pairs(), st.integers(4, 30), st.integers(3, 25), st.integers(0, 6), st.data())
def test_vectors_rank_as_their_exact_products_do_however_they_are_cut(case, rows, columns, k, data):
    vectors, queries, positives = case
    pool = data.draw(pools(len(vectors)))
    products = np.array([[exact_product(one, other) for other in vectors] for one in vectors])
    unknown = ~vectors.any(axis=1)
    products[unknown], products[:, unknown] = -np.inf, -np.inf
    wanted = rank_and_recommend(Rows(products), queries, positives, k=k, pool=pool)
    pairs = PairsByQuery.of(queries, positives)
    found = pass_over_vectors(
        vectors,
        pairs,
        k=k,
        pool=pool,
        device="cpu",
        queries_per_chunk=rows,
        items_per_chunk=columns,
        on_progress=None,
    )
    assert found.better.tolist() == wanted.ranks.better[pairs.order].tolist()
    assert found.tied.tolist() == wanted.ranks.tied[pairs.order].tolist()
    assert found.top_ids.tolist() == wanted.top_ids.tolist()
    np.testing.assert_array_equal(found.top_scores, wanted.top_scores)


def exact_product(one, other):
    """The float32 nearest to an inner product: sums of fractions have no rounding."""
    terms = (Fraction(float(a)) * Fraction(float(b)) for a, b in zip(one, other, strict=True))
    return np.float32(float(sum(terms)))


def test_neither_threads_nor_chunks_change_a_bit_of_a_ranking():
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(3_000, 33)).astype(np.float32)
    vectors[1_000:1_200] = vectors[:200]
    queries = rng.integers(3_000, size=2_000)
    positives = (queries + 1_000) % 3_000
    at_once = rank_and_recommend(EmbeddingCosine(vectors), queries, positives, k=10)
    before = numba.get_num_threads(), torch.get_num_threads()
    try:
        numba.set_num_threads(1)
        torch.set_num_threads(1)
        cut = rank_and_recommend(
            EmbeddingCosine(vectors), queries, positives, k=10, queries_per_chunk=7
        )
    finally:
        numba.set_num_threads(before[0])
        torch.set_num_threads(before[1])
    # Items 0 to 199 have a twin, which no rounding may tell from them.
    assert at_once.ranks.tied[queries % 1_000 < 200].any()
    np.testing.assert_array_equal(cut.ranks.better, at_once.ranks.better)
    np.testing.assert_array_equal(cut.ranks.tied, at_once.ranks.tied)
    np.testing.assert_array_equal(cut.top_ids, at_once.top_ids)
    np.testing.assert_array_equal(cut.top_scores, at_once.top_scores)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_ranks_as_the_cpu_does():
    rng = np.random.default_rng(5)
    vectors = rng.normal(size=(70_000, 100)).astype(np.float32)
    vectors[1_000:1_200] = vectors[:200]
    queries = rng.integers(70_000, size=3_000)
    positives = (queries + 1_000) % 70_000
    cpu, gpu = (
        rank_and_recommend(EmbeddingCosine(vectors), queries, positives, k=10, device=device)
        for device in ("cpu", "cuda")
    )
    np.testing.assert_array_equal(gpu.ranks.better, cpu.ranks.better)
    np.testing.assert_array_equal(gpu.ranks.tied, cpu.ranks.tied)
    np.testing.assert_array_equal(gpu.top_ids, cpu.top_ids)
    np.testing.assert_array_equal(gpu.top_scores, cpu.top_scores)


def test_products_less_exact_than_float32_are_refused():
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with pytest.raises(ValueError, match="found 'medium'"):
            rank_pairs(EmbeddingCosine(np.eye(3, dtype=np.float32)), np.array([0]), np.array([1]))
    finally:
        torch.set_float32_matmul_precision(before)


def test_vectors_that_are_not_finite_are_refused():
    vectors = np.ones((4, 2), np.float32)
    vectors[2, 1] = np.nan
    with pytest.raises(ValueError, match="1 others, NaN or infinite"):
        rank_pairs(EmbeddingCosine(vectors), np.array([0]), np.array([1]))


def test_a_pool_out_of_order_or_out_of_range_is_refused(scorer_of):
    one, two = np.array([0]), np.array([1])
    for pool, said in (([2, 1], "ascending"), ([0, 3], "from 0 to 3"), ([], "found 0")):
        with pytest.raises(ValueError, match=said):
            rank_and_recommend(scorer_of(np.eye(3)), one, two, k=1, pool=np.array(pool, np.int64))
