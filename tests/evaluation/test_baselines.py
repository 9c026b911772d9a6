from typing import get_args

import numpy as np
import pytest
from pydantic import ValidationError

from pinsage.base.errors import ConfigError, DataError, TrainingError
from pinsage.base.seeding import Stream, stream_key
from pinsage.evaluation.baselines import (
    Baseline,
    EmbeddingCosine,
    FeatureCosine,
    ItemCosine,
    Pixie,
    PixieConfig,
    Popularity,
    Transitions,
    factors,
)
from pinsage.evaluation.baselines.factors import (
    AlsConfig,
    BprConfig,
    grid,
    item_factors,
    tuned,
)
from pinsage.evaluation.baselines.walks import shares_of_walks
from pinsage.evaluation.ranking import rank_and_recommend
from pinsage.graph import Pairs
from pinsage.graph.schema import FeatureConfig
from pinsage.kernels.packing import pack
from pinsage.kernels.walks import random_walks

BESIDE_GROUPS = {"pinsage", *get_args(Baseline)} - {"features"}
"""What a report calls its methods, beside one for each feature group."""

SMALL = {
    "als": {"factors": 6, "regularization": 0.01, "iterations": 8, "alpha": 1.0},
    "bpr": {"factors": 6, "regularization": 0.01, "iterations": 150, "learning_rate": 0.1},
}


@pytest.mark.parametrize("name", sorted(BESIDE_GROUPS))
def test_no_feature_group_can_take_the_name_of_a_method(name):
    with pytest.raises(ValidationError, match="the name is taken"):
        FeatureConfig(name=name, column="vectors")


def packed(graph):
    return pack(graph.item_starts, graph.item_contexts, graph.context_starts, graph.context_items)


def pixie(graph, **settings):
    return Pixie(packed(graph), PixieConfig(**{"num_walks": 300} | settings), seed=0)


def some_pairs(*pairs):
    queries, positives = np.array(pairs, np.int64).reshape(-1, 2).T
    return Pairs(queries, positives)


@pytest.fixture
def communities(graph_of):
    """Four communities of eight items; a context holds four items of one."""
    rng = np.random.default_rng(0)
    return graph_of(
        [
            (community * 8 + rng.choice(8, 4, replace=False)).tolist()
            for community in range(4)
            for _ in range(20)
        ],
        32,
    )


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
        Transitions(some_pairs((3, 2), (3, 2), (0, 3)), graph.num_items),
        pixie(graph, walks_per_round=70),
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


@pytest.mark.parametrize("length", [1e-30, 1e-42, 1e30])
def test_features_of_any_length_have_a_direction(length):
    features = np.array([[3, 4], [4, 3]]) * length
    vectors = FeatureCosine(features.astype(np.float32)).vectors
    np.testing.assert_allclose(vectors, [[0.6, 0.8], [0.8, 0.6]], rtol=1e-3)
    ordinary = features[:1] / length
    assert FeatureCosine(ordinary.astype(np.float32)).vectors.tolist() == (
        (ordinary.astype(np.float32) / np.float32(5)).tolist()
    )


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


def test_pixie_meets_the_query_s_side_of_the_graph_alone(two_rings):
    scores = pixie(two_rings).scores(np.array([2, 7, 10]))
    assert np.flatnonzero(scores[0]).tolist() == [0, 1, 3, 4]
    assert np.flatnonzero(scores[1]).tolist() == [5, 6, 8, 9]
    assert not scores[2].any()


def test_pixie_prefers_what_is_near(two_rings):
    scores = pixie(two_rings, num_walks=2_000).scores(np.array([2]))[0]
    assert min(scores[1], scores[3]) > max(scores[0], scores[4])


def share_found(scorer):
    """How many of the seven nearest items are of the item's own community of eight."""
    scores = scorer.scores(np.arange(32))
    np.fill_diagonal(scores, -1)
    best = np.argsort(-scores, axis=1)[:, :7]
    return np.mean(best // 8 == np.arange(32)[:, None] // 8)


def test_graph_baselines_find_planted_communities(communities):
    assert share_found(ItemCosine(communities)) == 1
    assert share_found(pixie(communities)) == 1


@pytest.mark.parametrize("kind", ["als", "bpr"])
def test_factors_find_nine_in_ten_of_planted_communities(communities, kind):
    factors = item_factors(kind, communities, SMALL[kind], num_threads=1, seed=0)
    assert share_found(FeatureCosine(factors)) > 0.9


def test_transitions_count_train_pairs_in_their_direction():
    pairs = some_pairs((1, 2), (1, 0), (1, 2), (3, 1))
    scores = Transitions(pairs, 4).scores(np.array([1, 3, 2]))
    assert scores.tolist() == [[1, 0, 2, 0], [0, 1, 0, 0], [0, 0, 0, 0]]


def test_transitions_refuse_pairs_of_another_catalog():
    with pytest.raises(ValueError, match="wanted item ids below 4, found 5"):
        Transitions(some_pairs((1, 5)), 4)


@pytest.mark.parametrize("per_round", [7, 100, 1_000])
def test_pixie_counts_what_its_rounds_visit(two_rings, per_round):
    scores = pixie(two_rings, walks_per_round=per_round, enough_items=0).scores(np.array([2, 7]))
    wanted = np.zeros_like(scores)
    for number, first in enumerate(range(0, 300, per_round)):
        visited = random_walks(
            packed(two_rings),
            np.array([2, 7]),
            key=stream_key(0, Stream.LONG_WALKS, number),
            num_walks=min(per_round, 300 - first),
            walk_length=2,
            restart=0.5,
        )
        for row in range(2):
            np.add.at(wanted[row], visited[row][visited[row] >= 0], 1)
    wanted[[0, 1], [2, 7]] = 0
    np.testing.assert_array_equal(scores, wanted)


def test_pixie_ends_early_after_the_round_in_which_enough_was_met(two_rings):
    whole = pixie(two_rings, walks_per_round=10, enough_items=0, num_walks=1_000)
    early = pixie(two_rings, walks_per_round=10, enough_items=4, num_walks=1_000)
    scores = early.scores(np.array([2]))[0]
    assert (scores >= 4).sum() >= 4
    assert scores.sum() < whole.scores(np.array([2])).sum() / 5
    # What it counted until then is what a walk of that many rounds counts.
    lengths = [n for n in range(10, 200, 10) if _sum(two_rings, n) == scores.sum()]
    assert lengths
    assert _reached(two_rings, lengths[0] - 10) < 4


def _scores(graph, num_walks):
    return pixie(graph, walks_per_round=10, enough_items=0, num_walks=num_walks).scores(
        np.array([2])
    )


def _sum(graph, num_walks):
    return _scores(graph, num_walks).sum()


def _reached(graph, num_walks):
    return (_scores(graph, num_walks) >= 4).sum() if num_walks else 0


def test_an_item_met_from_two_queries_counts_for_more_than_as_many_visits_from_one(two_rings):
    scorer = pixie(two_rings, num_walks=4_000)
    together = scorer.scores_of_several(np.array([0, 2, 7]))
    walks = np.ceil(4_000 / 3)
    alone = pixie(two_rings, num_walks=int(walks)).scores(np.array([0, 2, 7]))
    np.testing.assert_allclose(together, np.sqrt(alone).sum(axis=0) ** 2, rtol=1e-6)
    # Item 1 stands between items 0 and 2; item 6 is as near to 7 as 1 to 0.
    assert together[1] > 2.5 * together[6]


def test_pixie_of_one_query_is_the_same_by_itself_and_as_several(two_rings):
    scorer = pixie(two_rings)
    np.testing.assert_allclose(
        scorer.scores_of_several(np.array([2])), scorer.scores(np.array([2]))[0], rtol=1e-6
    )


def test_popular_queries_get_more_walks_but_less_than_in_proportion():
    degrees = np.array([0, 1, 10, 100])
    shares = shares_of_walks(degrees, np.array([0, 1, 2, 3]))
    assert shares[0] == 0
    assert shares.sum() == pytest.approx(1)
    assert 1 < shares[2] / shares[1] < 10
    assert 1 < shares[3] / shares[2] < 10
    np.testing.assert_allclose(
        shares_of_walks(degrees, np.array([1, 2]), np.array([0.0, 2.0])), [0, 1]
    )


def test_cold_queries_together_score_zero_everywhere(two_rings):
    assert not pixie(two_rings).scores_of_several(np.array([10])).any()


def test_weights_of_another_number_are_refused(two_rings):
    with pytest.raises(ValueError, match="one weight of at least 0 for each"):
        pixie(two_rings).scores_of_several(np.array([2, 3]), np.array([1.0]))


@pytest.mark.parametrize("kind", ["als", "bpr"])
def test_factors_repeat_to_the_bit_and_are_zero_for_cold_items(two_rings, kind):
    for array in (two_rings.context_items, two_rings.context_starts):
        array.flags.writeable = False  # as a published graph's are
    first, again, more_threads = (
        item_factors(kind, two_rings, SMALL[kind], num_threads=threads, seed=3)
        for threads in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first, more_threads)
    assert not first[10].any()
    assert first[:10].any(axis=1).all()


def test_a_grid_is_every_combination():
    points = grid(AlsConfig(factors=(4, 8), regularization=(0.1, 0.2, 0.3)))
    assert len(points) == 12
    assert {"factors": 8, "regularization": 0.3, "iterations": 15, "alpha": 20.0} in points


def test_tuning_keeps_the_factors_that_rank_valid_pairs_best(communities):
    valid = some_pairs(*[(n, n // 8 * 8 + (n + 1) % 8) for n in range(32)])
    points = [{"factors": 1.0}, {"factors": 2.0}, {"factors": 3.0}]
    rng = np.random.default_rng(0)
    planted = np.repeat(np.eye(4, dtype=np.float32), 8, axis=0)
    by_point = {
        1.0: rng.normal(size=(32, 4)).astype(np.float32),
        2.0: planted,
        3.0: rng.normal(size=(32, 4)).astype(np.float32),
    }
    best, tried = tuned(lambda point: by_point[point["factors"]], points, valid)
    assert best is planted
    assert [one["factors"] for one in tried] == [1.0, 2.0, 3.0]
    assert tried[1]["quality"] == max(one["quality"] for one in tried)


def test_a_point_that_cannot_be_fitted_costs_no_other_one(communities, caplog):
    def fit(point):
        return item_factors("bpr", communities, point, num_threads=1, seed=0)

    wild = SMALL["bpr"] | {"learning_rate": 1e3}
    valid = some_pairs((0, 1), (8, 9))
    for points in ([wild, SMALL["bpr"]], [SMALL["bpr"], wild]):
        best, tried = tuned(fit, points, valid)
        assert best.tolist() == fit(SMALL["bpr"]).tolist()
        assert [one["quality"] is None for one in tried] == [one is wild for one in points]
    assert "learning_rate 1000 came to no end" in caplog.text
    with pytest.raises(TrainingError, match=r"lower its learning_rate in evaluate\.bpr"):
        tuned(fit, [wild, wild], valid)


def test_one_point_needs_no_valid_pairs_and_several_say_so():
    factors = np.ones((2, 1), np.float32)
    best, tried = tuned(lambda point: factors, grid(BprConfig(factors=(4,)))[:1], some_pairs())
    assert best is factors
    assert tried[0]["quality"] is None
    with pytest.raises(DataError, match="no valid pairs to choose among 2 settings"):
        tuned(lambda point: factors, grid(BprConfig(factors=(4,))), some_pairs())


def test_without_the_package_the_error_says_how_to_get_it(two_rings, monkeypatch):
    monkeypatch.setattr(factors, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install 'pinsage"):
        item_factors("als", two_rings, SMALL["als"], num_threads=1, seed=0)


def test_methods_on_the_graph_recommend_no_item_that_they_know_nothing_of(graph_of):
    # Items 4 and 5 are in no context, and no context leads from items 0, 1 and 2 to item 3 or 6.
    graph = graph_of([[0, 1, 2], [0, 1], [3, 6]], 7)
    queries, positives = np.array([0, 3, 4]), np.array([5, 0, 0])
    of_query = {0: {1, 2}, 3: {6}, 4: set()}
    known = {
        ItemCosine(graph): of_query,
        pixie(graph): of_query,
        Popularity(graph.item_degrees): {query: {0, 1, 2, 3, 6} - {query} for query in of_query},
    }
    for scorer, wanted in known.items():
        lists = rank_and_recommend(scorer, queries, positives, k=6).top_ids
        found = [set(row[row >= 0].tolist()) for row in lists]
        assert found == list(wanted.values()), scorer
