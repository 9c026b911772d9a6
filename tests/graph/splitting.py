"""Tables of edges and pairs to split, and graphs made of them."""

import numpy as np

from pinsage.graph import DataConfig

NUM_ITEMS = 40
KEYS = np.array([f"i{number:02d}" for number in range(NUM_ITEMS)])


def edge_columns(num_contexts=60, size=6):
    """Contexts of random items, every row on a day of its own."""
    draw = np.random.default_rng(0)
    rows = num_contexts * size
    return {
        "item_id": KEYS[draw.integers(NUM_ITEMS, size=rows)],
        "context_id": np.repeat([f"c{number:03d}" for number in range(num_contexts)], size),
        "day": draw.permutation(rows),
    }


def pair_columns(rows=200):
    draw = np.random.default_rng(1)
    queries = draw.integers(NUM_ITEMS, size=rows)
    return {
        "query_item": KEYS[queries],
        "positive_item": KEYS[(queries + draw.integers(1, NUM_ITEMS, size=rows)) % NUM_ITEMS],
        "day": draw.permutation(rows) * 2,
    }


def concatenated(*tables):
    return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}


def make(
    bench,
    edges,
    *,
    timestamp=None,
    weight=None,
    pairs=None,
    pairs_config=None,
    seed=0,
    structure=None,
    split=None,
):
    """Write tables and ingest them."""
    items = {"item_id": KEYS, "size": [[float(number)] for number in range(NUM_ITEMS)]}
    tree = {
        "items": {
            "path": bench.write("items.parquet", items),
            "features": [{"name": "size", "column": "size"}],
        },
        "edges": [
            {
                "path": bench.write("edges.parquet", edges),
                "timestamp": timestamp,
                "weight": weight,
            }
        ],
    }
    if pairs is not None:
        tree["pairs"] = {"path": bench.write("pairs.parquet", pairs)} | (pairs_config or {})
    if split is not None:
        tree["split"] = split
    return bench.ingest(DataConfig.model_validate(tree), seed=seed, structure=structure)


TIMED = {"timestamp": "day", "pairs": pair_columns(), "pairs_config": {"timestamp": "day"}}
