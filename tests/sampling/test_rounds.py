"""Walks by rounds over shards against walks over the whole graph."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pinsage.base.errors import ArtifactError
from pinsage.graph.adjacency import AdjacencyShard, BipartiteAdjacency
from pinsage.graph.choice import ChoiceConfig, edge_chances
from pinsage.kernels.csr import EdgeRows, transpose_rows
from pinsage.kernels.packing import pack
from pinsage.kernels.walks import walk_neighborhoods
from pinsage.sampling import rounds
from pinsage.sampling.messages import SeedRange, ranges_of
from pinsage.sampling.rounds import PackedShard, ShardWalk, walk_in_turn
from tests.kernels.graphs import graph_of, power_law_graph

CHOICES = (
    ChoiceConfig(by_weight=False),
    ChoiceConfig(),
    ChoiceConfig(half_life=3.0),
    ChoiceConfig(by_weight=False, degree_power=-0.5),
)


def weighted(graph, seed):
    """The graph with weights and ages of its edges, both ways."""
    rng = np.random.default_rng(seed)
    num = len(graph.item_contexts)
    weights = rng.integers(1, 9, num).astype(np.float32)
    ages = rng.integers(0, 20, num).astype(np.float32)
    rows = EdgeRows(graph.item_starts, graph.item_contexts, weights, ages.astype(np.int64))
    turned = transpose_rows(rows, graph.num_contexts)
    extra = (values.astype(np.float32) for values in turned[2:])
    return BipartiteAdjacency(*rows[:2], *turned[:2], weights, ages, *extra)


def both_ways(whole, choice, num_shards, wide=False):
    """The graph packed as one, and in shards."""
    chances = edge_chances(whole, choice, whole.item_degrees)
    item_contexts, context_items = whole.item_contexts, whole.context_items
    if wide:
        item_contexts, context_items = (
            item_contexts.astype(np.int64),
            context_items.astype(np.int64),
        )
    arrays = (whole.item_starts, item_contexts, whole.context_starts, context_items)
    packed = pack(*arrays, item_chances=chances[0], context_chances=chances[1])
    extra = (whole.item_weights, whole.item_ages, whole.context_weights, whole.context_ages)
    shards = []
    for number in range(num_shards):
        shard = AdjacencyShard.cut(BipartiteAdjacency(*arrays, *extra), number, num_shards)
        shards.append(PackedShard(shard, *edge_chances(shard, choice, whole.item_degrees)))
    return packed, shards


@st.composite
def walks(draw):
    """A small graph, cold items and lone edges among it, and walks over some of its items."""
    num_items, num_contexts = draw(st.integers(1, 14)), draw(st.integers(1, 6))
    edge = st.tuples(st.integers(0, num_items - 1), st.integers(0, num_contexts - 1))
    graph = graph_of(draw(st.lists(edge, max_size=40, unique=True)), num_items, num_contexts)
    first = draw(st.integers(0, num_items - 1))
    seeds = SeedRange(
        first,
        draw(st.integers(first + 1, num_items)),
        key=draw(st.integers(0, 2**64 - 1)),
        num_walks=draw(st.integers(1, 12) | st.just(300)),
        walk_length=draw(st.integers(1, 4)),
        restart=draw(st.sampled_from([0.0, 0.5, 1.0]) | st.floats(0, 1)),
    )
    return graph, seeds


@settings(deadline=None, max_examples=200)
@given(
    case=walks(),
    choice=st.sampled_from(CHOICES),
    num_shards=st.integers(1, 8),
    num_neighbors=st.integers(1, 16),
    wide=st.booleans(),
)
def test_rounds_over_any_number_of_shards_equal_the_walk_over_the_whole_graph(
    case, choice, num_shards, num_neighbors, wide
):
    graph, seeds = case
    num_shards = min(num_shards, graph.num_items)
    packed, shards = both_ways(weighted(graph, 1), choice, num_shards, wide)
    expected = walk_neighborhoods(
        packed,
        np.arange(seeds.first, seeds.stop),
        key=seeds.key,
        num_walks=seeds.num_walks,
        walk_length=seeds.walk_length,
        restart=seeds.restart,
        num_neighbors=num_neighbors,
    )
    found = walk_in_turn(shards, seeds, num_neighbors)
    for one, two in zip(found, expected, strict=True):
        assert one.dtype == two.dtype
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("choice", CHOICES)
def test_long_walks_over_a_larger_graph_equal_too(choice):
    packed, shards = both_ways(weighted(power_law_graph(3_000, 400, 20_000, seed=3), 2), choice, 3)
    walk = {"key": 5, "num_walks": 300, "walk_length": 8, "restart": 0.2}
    expected = walk_neighborhoods(packed, np.arange(501, 990), num_neighbors=400, **walk)
    found = walk_in_turn(shards, SeedRange(501, 990, **walk), 400)
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


def test_walks_that_all_go_to_one_shard_equal_too(monkeypatch):
    grown = []
    grow = rounds._Outbox._grow
    monkeypatch.setattr(rounds._Outbox, "_grow", lambda *box: [grown.append(box), grow(*box)])
    edges = [(item, context) for item in range(0, 90, 3) for context in range(0, 9, 3)]
    packed, shards = both_ways(weighted(graph_of(edges, 90, 9), 4), CHOICES[0], 3)
    walk = {"key": 6, "num_walks": 700, "walk_length": 3, "restart": 0.1}
    expected = walk_neighborhoods(packed, np.arange(90), num_neighbors=20, **walk)
    found = walk_in_turn(shards, SeedRange(0, 90, **walk), 20)
    assert grown
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


def test_a_shard_that_all_walks_go_to_does_not_make_the_others_take_memory():
    def peak_bytes(num_shards):
        num_items, num_contexts = 30 * num_shards, 3 * num_shards
        edges = [
            (item, context)
            for item in range(0, num_items, num_shards)
            for context in range(0, num_contexts, num_shards)
        ]
        graph = weighted(graph_of(edges, num_items, num_contexts), 4)
        _, shards = both_ways(graph, CHOICES[0], num_shards)
        seeds = SeedRange(0, num_items, key=6, num_walks=2_000, walk_length=3, restart=0.1)
        walks = [ShardWalk(shard, seeds) for shard in shards]
        departed = [walk.depart()[0] for walk in walks]
        tracemalloc.start()
        walks[0].at_items(1, walks[0].at_contexts(0, departed)[:1])
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    assert peak_bytes(64) < 6 * peak_bytes(1)


@given(
    first=st.integers(0, 50),
    size=st.integers(1, 500),
    num_walks=st.sampled_from([1, 200, 2**20, 2**24]),
    num_shards=st.integers(1, 8),
    visits=st.integers(1, 10_000),
)
def test_ranges_cover_every_seed_once_and_their_walkers_can_be_numbered(
    first, size, num_walks, num_shards, visits
):
    seeds = SeedRange(first, first + size, key=0, num_walks=num_walks, walk_length=1, restart=0.5)
    parts = ranges_of(seeds, num_shards=num_shards, visits_per_shard=visits)
    covered = [seed for part in parts for seed in range(part.first, part.stop)]
    assert covered == list(range(first, first + size))
    assert all((part.stop - part.first) << part.walk_bits <= 2**32 for part in parts)
    assert all((part.stop - part.first - 1) // num_shards * num_walks <= visits for part in parts)


def test_more_walkers_than_can_be_numbered_are_refused():
    _, shards = both_ways(weighted(graph_of([(0, 0)], 3, 1), 0), CHOICES[0], 1)
    with pytest.raises(ValueError, match="257 seeds of 16777216 walks are above 4294967296"):
        ShardWalk(
            shards[0],
            SeedRange(0, 257, key=0, num_walks=2**24, walk_length=1, restart=0.5),
        )


def test_shards_of_two_graphs_are_refused_by_the_walk_that_meets_their_difference():
    _, ours = both_ways(weighted(graph_of([(0, 0), (1, 0)], 2, 1), 0), CHOICES[0], 2)
    _, theirs = both_ways(weighted(graph_of([(0, 0)], 2, 1), 0), CHOICES[0], 2)
    walk = SeedRange(0, 2, key=0, num_walks=20, walk_length=3, restart=0.0)
    with pytest.raises(ArtifactError, match="shard 1 of 2: a walk came to an item that has no"):
        walk_in_turn([ours[0], theirs[1]], walk, 2)
