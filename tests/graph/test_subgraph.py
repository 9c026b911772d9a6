import numpy as np
import pyarrow.parquet as pq
import pytest

from pinsage.base.artifacts import publish
from pinsage.base.errors import DataError
from pinsage.graph import Graph
from pinsage.graph.adjacency import AdjacencyShard
from pinsage.graph.subgraph import SubgraphConfig, take_subgraph


def edges_by_key(graph):
    """Every edge as (context key, item key), with its weight and age."""
    adjacency = graph.adjacency()
    keys = graph.catalog().keys
    contexts = pq.read_table(graph.artifact.path / "contexts.parquet")["context_key"].to_pylist()
    rows = np.repeat(np.arange(adjacency.num_contexts), adjacency.context_degrees)
    return {
        (contexts[row], keys[col]): (
            None if adjacency.context_weights is None else adjacency.context_weights[place],
            None if adjacency.context_ages is None else adjacency.context_ages[place],
        )
        for place, (row, col) in enumerate(zip(rows, adjacency.context_items, strict=True))
    }


def take(bench, graph, share, seed=0):
    directory = bench.folder / "part"
    with publish(directory, stage="graph", config={}, parents={}) as draft:
        take_subgraph(graph, draft, SubgraphConfig(contexts=share), seed=seed)
    return Graph.open(directory, check_digests=True)


def random_tables(bench, changed, rng):
    items = np.array([f"item {v}" for v in range(40)])
    edges = {
        "item_id": items[rng.integers(40, size=200)],
        "context_id": [f"context {v}" for v in rng.integers(30, size=200)],
        "weight": rng.uniform(0.5, 2, size=200),
        "when": rng.integers(1_000, size=200),
    }
    queries = rng.integers(40, size=300)
    pairs = {
        "query_item": items[queries],
        "positive_item": items[(queries + rng.integers(1, 40, size=300)) % 40],
        "split": rng.choice(["train", "valid", "test"], size=300),
    }
    tables = {
        "items": {"item_id": items, "title": items, "size": rng.normal(size=(40, 2)).tolist()},
        "edges": edges,
        "pairs": pairs,
    }
    config = bench.six(**tables)
    timed = {"weight": "weight", "timestamp": "when"}
    return changed(config, {"edges": [config.edges[0].model_dump() | timed]})


@pytest.mark.parametrize("num_shards", [1, 3])
def test_a_subgraph_is_some_contexts_with_all_their_items_features_and_pairs(
    bench, changed, num_shards
):
    graph = bench.ingest(
        random_tables(bench, changed, np.random.default_rng(0)), num_shards=num_shards
    )
    part = take(bench, graph, 0.4)

    edges, whole = edges_by_key(part), edges_by_key(graph)
    contexts, items = ({edge[side] for edge in edges} for side in (0, 1))
    assert 0 < len(contexts) < graph.num_contexts
    assert edges == {edge: extra for edge, extra in whole.items() if edge[0] in contexts}
    assert set(part.catalog().keys) == items
    assert part.artifact.manifest.counts["edges"] == len(edges)

    keys, part_keys = graph.catalog().keys, part.catalog().keys
    rows = graph.features().gather(np.array([keys.index(key) for key in part_keys]))
    np.testing.assert_array_equal(part.features().gather(np.arange(part.num_items)), rows)
    for split in ("train", "valid", "test"):
        of_whole, of_part = graph.pairs(split), part.pairs(split)
        wanted = [
            (keys[q], keys[p])
            for q, p in zip(of_whole.queries, of_whole.positives, strict=True)
            if keys[q] in items and keys[p] in items
        ]
        found = [
            (part_keys[q], part_keys[p])
            for q, p in zip(of_part.queries, of_part.positives, strict=True)
        ]
        assert found == wanted
    for shard in range(part.num_shards):
        AdjacencyShard.open(part.artifact.path, shard, part.num_shards).check(
            part.num_items, part.num_contexts
        )


def test_too_small_a_share_is_refused_with_what_it_would_hold(bench):
    graph = bench.ingest(bench.six())
    with pytest.raises(DataError, match=r"0 of 3 contexts .* raise subgraph.contexts"):
        take(bench, graph, 1e-9)
