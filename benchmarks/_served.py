"""A made-up generation to serve: clustered vectors under an HNSW graph, a random item graph."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float32

from pinsage.base.artifacts import publish
from pinsage.cluster.generations import publish_generation
from pinsage.graph.catalog import TITLE_NOTE
from pinsage.retrieval import IndexConfig, build_index, save_index

_NEIGHBORS = 10
_PER_CLUSTER = 200
_CONTEXTS_PER_ITEM = 2


@dataclass(frozen=True)
class Served:
    """What was written.

    Attributes:
        generation: the `generation.json`.
        index: the directory of the index, for who wants to open it without us.
        num_items: how many items.
    """

    generation: Path
    index: Path
    num_items: int

    def key(self, item_id: int) -> str:
        """Give an item's key."""
        return _key(item_id)


def write_served(output: Path, *, num_items: int, width: int, seed: int = 0) -> Served:
    """Publish everything a server needs.

    Args:
        output: the run's folder.
        num_items: how many items.
        width: width of their embeddings.
        seed: where the randomness begins.
    """
    rng = np.random.default_rng(seed)
    vectors = clustered(rng, num_items, width)
    parts = {
        "graph": _write_graph(output / "graph" / "made-up", rng, num_items),
        "neighborhoods": _write_neighborhoods(output / "neighborhoods" / "made-up", num_items),
        "index": _write_index(output / "index" / "made-up", vectors),
    }
    generation = publish_generation(output, parts)
    return Served(generation, parts["index"], num_items)


def clustered(
    rng: np.random.Generator, num_items: int, width: int
) -> Float32[np.ndarray, "items width"]:
    """Draw unit vectors in clusters, as trained embeddings are."""
    centers = rng.normal(size=(max(num_items // _PER_CLUSTER, 1), width)).astype(np.float32)
    noise = rng.normal(size=(num_items, width)).astype(np.float32)
    vectors = centers[rng.integers(0, len(centers), num_items)] + noise
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _key(item_id: int) -> str:
    return f"item-{item_id:07d}"


def _write_index(directory: Path, vectors: Float32[np.ndarray, "items width"]) -> Path:
    with publish(directory, stage="index", config={}, parents={}) as draft:
        save_index(build_index(vectors, IndexConfig(kind="hnsw")), draft)
    return directory


def _write_neighborhoods(directory: Path, num_items: int) -> Path:
    ids = (np.arange(num_items)[:, None] + np.arange(1, _NEIGHBORS + 1)) % num_items
    with publish(directory, stage="neighborhoods", config={}, parents={}) as draft:
        draft.write_array("neighbor_ids.npy", ids.astype(np.int32))
        draft.write_array(
            "weights.npy", np.full((num_items, _NEIGHBORS), 1 / _NEIGHBORS, np.float32)
        )
        draft.write_array("hard_negatives.npy", np.empty((num_items, 0), np.int32))
    return directory


def _write_graph(directory: Path, rng: np.random.Generator, num_items: int) -> Path:
    num_contexts = max(num_items // 10, 1)
    contexts = rng.integers(0, num_contexts, (num_items, _CONTEXTS_PER_ITEM)).ravel()
    items = np.repeat(np.arange(num_items), _CONTEXTS_PER_ITEM)
    by_context = np.argsort(contexts, kind="stable")
    context_starts = np.zeros(num_contexts + 1, np.int64)
    np.cumsum(np.bincount(contexts, minlength=num_contexts), out=context_starts[1:])
    table = pa.table({
        "item_key": [_key(item_id) for item_id in range(num_items)],
        "title": [f"A thing made up, number {item_id}" for item_id in range(num_items)],
        "year": pa.array(rng.integers(1900, 2025, num_items)),
        "brand": pa.array([f"brand {brand}" for brand in rng.integers(0, 50, num_items)]),
    }).replace_schema_metadata({TITLE_NOTE: b"title"})
    with publish(directory, stage="graph", config={}, parents={}) as draft:
        shard = "shard-00000-of-00001"
        starts = np.arange(0, len(items) + 1, _CONTEXTS_PER_ITEM, dtype=np.int64)
        draft.write_array(f"{shard}/item_starts.npy", starts)
        draft.write_array(f"{shard}/item_contexts.npy", contexts.astype(np.int32))
        draft.write_array(f"{shard}/context_starts.npy", context_starts)
        draft.write_array(f"{shard}/context_items.npy", items[by_context].astype(np.int32))
        draft.write_array(f"{shard}/features.npy", np.full((num_items, 1), np.log1p(2), np.float32))
        with draft.file("items.parquet") as path:
            pq.write_table(table, path)
        with draft.file("contexts.parquet") as path:
            keys = [f"context-{context}" for context in range(num_contexts)]
            pq.write_table(pa.table({"context_key": keys}), path)
        draft.counts = {
            "items": num_items,
            "contexts": num_contexts,
            "edges": len(items),
            "shards": 1,
            "pairs": {"train": 0, "valid": 0, "test": 0},
            "feature_groups": {"log_degree": 1},
            "cold_items": 0,
            "repeated_edges": 0,
            "left_out_edges": {},
            "dropped": {},
        }
    return directory
