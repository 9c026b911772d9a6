"""Small tables whose right answers are known: items live in communities, and pairs stay in one."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int64

from pinsage.base.seeding import Stream, stream
from pinsage.graph.schema import (
    SPLITS,
    DataConfig,
    EdgesConfig,
    FeatureConfig,
    ItemsConfig,
    PairsConfig,
)

_FEATURES, _EDGES, _PAIRS = range(3)


def write_tables(
    folder: Path,
    *,
    num_items: int = 300,
    num_communities: int = 10,
    num_contexts: int = 900,
    context_size: int = 8,
    num_pairs: int = 3_000,
    num_cold: int = 5,
    feature_width: int = 16,
    feature_noise: float = 1.0,
    stray_share: float = 0.1,
    seed: int = 0,
) -> DataConfig:
    """Write `items.parquet`, `edges.parquet` and `pairs.parquet` into a folder.

    Item number i has the key `item-0000i` and belongs to community `i % num_communities`, which is
    also its metadata column `community`. A context draws its items from one community, but for a
    share of strays. A pair is two distinct items of one community. The last `num_cold` items are in
    no context and in no pair. Equal arguments write equal tables.

    Args:
        folder: where to write; made if missing.
        num_items: items, cold ones included.
        num_communities: how many groups there are.
        num_contexts: contexts; number c is of community `c % num_communities`.
        context_size: items drawn for each context; one drawn twice counts once.
        num_pairs: pairs, of which every tenth is for valid and every tenth for test.
        num_cold: items without edges.
        feature_width: width of the features, group `content`.
        feature_noise: standard deviation of an item's features around its community's center, whose
            own numbers have standard deviation 1.
        stray_share: share of a context's items drawn from the whole catalog.
        seed: decides everything drawn.

    Returns:
        The configuration that reads these tables.

    Raises:
        ValueError: a community has fewer than two items that are not cold.
    """
    num_warm = num_items - num_cold
    if num_warm < 2 * num_communities:
        raise ValueError(
            f"{num_communities} communities need {2 * num_communities} items that are not cold, "
            f"found {num_warm}; raise num_items"
        )
    folder.mkdir(parents=True, exist_ok=True)
    communities = np.arange(num_items) % num_communities
    draw = stream(seed, Stream.SYNTHETIC, _FEATURES)
    centers = draw.standard_normal((num_communities, feature_width))
    features = centers[communities]
    features = features + feature_noise * draw.standard_normal(features.shape)
    key_array = pa.array([f"item-{number:05d}" for number in range(num_items)])
    config = _config(folder)
    _write(
        config.items.path,
        {
            "item_id": key_array,
            "title": pa.array([f"Item {number}" for number in range(num_items)]),
            "community": pa.array(communities),
            "content": _lists(features),
        },
    )
    contexts, items = _edges(
        num_warm, num_communities, num_contexts, context_size, stray_share, seed
    )
    _write(
        config.edges[0].path,
        {
            "item_id": key_array.take(pa.array(items)),
            "context_id": pa.array([f"context-{context:05d}" for context in contexts]),
        },
    )
    queries, positives = _pairs(num_warm, num_communities, num_pairs, seed)
    splits = np.zeros(num_pairs, np.int64)
    splits[8::10], splits[9::10] = 1, 2
    _write(
        str(folder / "pairs.parquet"),
        {
            "query_item": key_array.take(pa.array(queries)),
            "positive_item": key_array.take(pa.array(positives)),
            "split": pa.array(SPLITS).take(pa.array(splits)),
        },
    )
    return config


def _config(folder: Path) -> DataConfig:
    return DataConfig(
        items=ItemsConfig(
            path=str(folder / "items.parquet"),
            title="title",
            metadata=("title", "community"),
            features=(FeatureConfig(name="content", column="content"),),
        ),
        edges=(EdgesConfig(path=str(folder / "edges.parquet")),),
        pairs=PairsConfig(path=str(folder / "pairs.parquet"), split="split"),
    )


def _edges(
    num_warm: int,
    num_communities: int,
    num_contexts: int,
    context_size: int,
    stray_share: float,
    seed: int,
) -> tuple[Int64[np.ndarray, " edges"], Int64[np.ndarray, " edges"]]:
    """Draw every context's items; each (context, item) once."""
    draw = stream(seed, Stream.SYNTHETIC, _EDGES)
    contexts = np.repeat(np.arange(num_contexts), context_size)
    items = _members(draw, contexts % num_communities, num_warm, num_communities)
    strays = draw.random(len(items)) < stray_share
    items = np.where(strays, draw.integers(num_warm, size=len(items)), items)
    distinct = np.unique(contexts * num_warm + items)
    return distinct // num_warm, distinct % num_warm


def _pairs(
    num_warm: int, num_communities: int, num_pairs: int, seed: int
) -> tuple[Int64[np.ndarray, " pairs"], Int64[np.ndarray, " pairs"]]:
    """Draw two distinct items of one community for each pair."""
    draw = stream(seed, Stream.SYNTHETIC, _PAIRS)
    queries = draw.integers(num_warm, size=num_pairs)
    communities = queries % num_communities
    sizes = (num_warm - 1 - communities) // num_communities + 1
    # A step of 1 to size - 1 around the community never comes back to the query.
    steps = 1 + np.floor(draw.random(num_pairs) * (sizes - 1)).astype(np.int64)
    places = (queries // num_communities + steps) % sizes
    return queries, places * num_communities + communities


def _members(
    draw: np.random.Generator,
    communities: Int64[np.ndarray, " n"],
    num_warm: int,
    num_communities: int,
) -> Int64[np.ndarray, " n"]:
    """Draw one item of each community named."""
    sizes = (num_warm - 1 - communities) // num_communities + 1
    places = np.floor(draw.random(len(communities)) * sizes).astype(np.int64)
    return places * num_communities + communities


def _lists(values: np.ndarray) -> pa.Array:
    flat = pa.array(values.astype(np.float32).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


def _write(path: str, columns: dict[str, pa.Array]) -> None:
    pq.write_table(pa.table(columns), path, compression="zstd")
