"""A small weighted graph, published in any number of shards."""

from pathlib import Path

import numpy as np

from pinsage.base.artifacts import publish
from pinsage.graph.adjacency import AdjacencyShard, BipartiteAdjacency
from pinsage.graph.partition import ids_in, shard_name
from pinsage.kernels.csr import EdgeRows, build_csr, transpose_rows

NUM_ITEMS, NUM_CONTEXTS, WIDTH = 701, 90, 3


def small_graph() -> BipartiteAdjacency:
    """Skewed degrees, weights and ages; some items are cold."""
    rng = np.random.default_rng(5)
    items = (NUM_ITEMS * rng.random(5_000) ** 2).astype(np.int64)
    contexts = (NUM_CONTEXTS * rng.random(5_000) ** 1.5).astype(np.int64)
    edges = np.unique(items * NUM_CONTEXTS + contexts)
    starts, cols = build_csr(edges // NUM_CONTEXTS, edges % NUM_CONTEXTS, NUM_ITEMS)
    weights = rng.integers(1, 9, len(edges)).astype(np.float32)
    ages = rng.integers(0, 50, len(edges))
    turned = transpose_rows(EdgeRows(starts, cols, weights, ages), NUM_CONTEXTS)
    extra = (values.astype(np.float32) for values in (weights, ages, *turned[2:]))
    return BipartiteAdjacency(starts, cols, *turned[:2], *extra)


def publish_graph(directory: Path, whole: BipartiteAdjacency, num_shards: int) -> Path:
    """Publish a graph whose item v has the features [v, v, v]."""
    counts = {
        "items": whole.num_items,
        "contexts": whole.num_contexts,
        "edges": whole.num_edges,
        "shards": num_shards,
        "pairs": {"train": 0, "valid": 0, "test": 0},
        "feature_groups": {"number": WIDTH},
        "cold_items": int((whole.item_degrees == 0).sum()),
        "repeated_edges": 0,
        "left_out_edges": {},
        "dropped": {},
    }
    with publish(directory, stage="graph", config={}, parents={}) as draft:
        for shard in range(num_shards):
            AdjacencyShard.cut(whole, shard, num_shards).write(draft)
            numbers = ids_in(shard, num_shards, whole.num_items).astype(np.float32)
            draft.write_array(
                f"{shard_name(shard, num_shards)}/features.npy",
                np.repeat(numbers[:, None], WIDTH, axis=1),
            )
        draft.counts |= counts
    return directory
