"""Embeddings of contexts: the mean of their items' embeddings, at unit length."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

from pinsage.graph.adjacency import AdjacencyShard, rows_between
from pinsage.kernels.pooling import pool_rows
from pinsage.kernels.unit_rows import exact_unit_rows


def context_embeddings(
    shards: Sequence[AdjacencyShard],
    embeddings: Float32[np.ndarray, "items width"],
    start: int,
    stop: int,
) -> Float32[np.ndarray, "contexts width"]:
    """Embed the contexts with ids in [start, stop).

    Args:
        shards: the graph's edges.
        embeddings: every item's, mapped or in memory.
        start: the first context.
        stop: one more than the last context.

    Returns:
        A row a context: its items' mean, scaled to unit length; zeros where that has no length.
    """
    starts, items = rows_between(shards, "context", start, stop)
    sums = np.empty((stop - start, embeddings.shape[1]), np.float32)
    scales = (1 / np.maximum(np.diff(starts), 1)).astype(np.float32)
    pool_rows(starts, items, embeddings, scales, sums)
    return exact_unit_rows(sums)
