import numpy as np
import pytest

from pinsage.base.seeding import Stream, stream_key
from pinsage.evaluation.baselines import (
    EmbeddingCosine,
    FeatureCosine,
    ItemCosine,
    Popularity,
    WalkRanks,
)
from pinsage.kernels.packing import pack

KEY = stream_key(0, Stream.LONG_WALKS)


def walk_ranks(graph, *, num_walks=300):
    packed = pack(graph.item_starts, graph.item_contexts, graph.context_starts, graph.context_items)
    return WalkRanks(packed, key=KEY, num_walks=num_walks)


@pytest.fixture
def two_rings(graph_of):
    """Items 0-4 and 5-9 are two rings of overlapping pairs; item 10 is cold."""
    rings = [[first + n, first + (n + 1) % 5] for first in (0, 5) for n in range(5)]
    return graph_of(rings, 11)


def every_scorer(graph):
    vectors = np.random.default_rng(0).normal(size=(graph.num_items, 4)).astype(np.float32)
    return [
        Popularity(graph.item_degrees),
        FeatureCosine(vectors),
        EmbeddingCosine(vectors),
        ItemCosine(graph),
        walk_ranks(graph),
    ]


def test_every_scorer_gives_a_new_float32_row_for_each_query(two_rings):
    queries = np.array([3, 10, 0], np.int64)
    for scorer in every_scorer(two_rings):
        first = scorer.scores(queries)
        assert first.shape == (3, 11)
        assert first.dtype == np.float32
        assert first.flags.c_contiguous
        kept = first.copy()
        first[:] = -1
        np.testing.assert_array_equal(scorer.scores(queries), kept)


def test_a_query_scores_the_same_in_any_company(two_rings):
    queries = np.arange(11)
    for scorer in every_scorer(two_rings):
        together = scorer.scores(queries)
        alone = np.concatenate([scorer.scores(queries[n : n + 1]) for n in range(11)])
        np.testing.assert_allclose(together, alone, rtol=1e-6, atol=1e-6)


def test_popularity_ranks_by_number_of_contexts(graph_of):
    scorer = Popularity(graph_of([[0, 1, 2], [1, 2], [2]], 4).item_degrees)
    assert scorer.scores(np.array([3, 0])).tolist() == [[1, 2, 3, 0]] * 2


def test_feature_cosine_does_not_depend_on_length():
    features = np.array([[1, 0], [10, 0], [0, 3], [4, 4]], np.float32)
    scores = FeatureCosine(features).scores(np.array([0]))
    np.testing.assert_allclose(scores, [[1, 1, 0, np.sqrt(0.5)]], rtol=1e-6)


def test_an_item_without_features_is_at_cosine_zero_not_nan():
    scores = FeatureCosine(np.array([[0, 0], [1, 1]], np.float32)).scores(np.array([0, 1]))
    np.testing.assert_allclose(scores, [[0, 0], [0, 1]], atol=1e-6)


def test_embedding_cosine_is_the_inner_product():
    vectors = np.array([[1, 0], [0.6, 0.8]], np.float32)
    np.testing.assert_allclose(
        EmbeddingCosine(vectors).scores(np.array([1])), [[0.6, 1.0]], rtol=1e-6
    )


def test_item_cosine_is_its_formula(graph_of):
    contexts = [[0, 1, 2], [0, 1], [1, 2, 3, 4], [4]]
    scores = ItemCosine(graph_of(contexts, 6)).scores(np.arange(6))
    degrees = np.array([sum(item in context for context in contexts) for item in range(6)])
    for one in range(6):
        for other in range(6):
            shared = [c for c in contexts if one in c and other in c]
            wanted = sum(1 / np.log(1 + len(context)) for context in shared)
            wanted /= np.sqrt(max(degrees[one], 1) * max(degrees[other], 1))
            assert scores[one, other] == pytest.approx(wanted, rel=1e-5)


def test_item_cosine_trusts_a_small_context_more_than_a_large_one(graph_of):
    scores = ItemCosine(graph_of([[0, 1], [0, 2, 3, 4, 5, 6, 7, 8]], 9)).scores(np.array([0]))
    assert scores[0, 1] > scores[0, 2]


def test_walk_ranks_meet_the_query_s_side_of_the_graph_alone(two_rings):
    scores = walk_ranks(two_rings).scores(np.array([2, 7, 10]))
    assert np.flatnonzero(scores[0]).tolist() == [0, 1, 3, 4]
    assert np.flatnonzero(scores[1]).tolist() == [5, 6, 8, 9]
    assert not scores[2].any()


def test_walk_ranks_prefer_what_is_near(two_rings):
    scores = walk_ranks(two_rings, num_walks=2_000).scores(np.array([2]))[0]
    assert min(scores[1], scores[3]) > max(scores[0], scores[4])


def test_graph_baselines_find_planted_communities(graph_of):
    rng = np.random.default_rng(0)
    contexts = [
        (community * 8 + rng.choice(8, 4, replace=False)).tolist()
        for community in range(4)
        for _ in range(20)
    ]
    graph = graph_of(contexts, 32)
    for scorer in (ItemCosine(graph), walk_ranks(graph)):
        scores = scorer.scores(np.arange(32))
        np.fill_diagonal(scores, -1)
        best = np.argsort(-scores, axis=1)[:, :7]
        assert np.array_equal(best // 8, np.arange(32)[:, None] // 8 * np.ones((1, 7)))
