"""Embeddings of contexts: the mean of their items' embeddings, at unit length."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

from pinsage.graph.adjacency import AdjacencyShard, rows_between
from pinsage.kernels.pooling import pool_rows


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
    sizes = np.maximum(np.diff(starts), 1)
    pool_rows(
        starts,
        np.ascontiguousarray(items),
        embeddings,
        np.ones(len(embeddings), np.float32),
        (1 / sizes).astype(np.float32),
        sums,
    )
    lengths = np.sqrt(np.square(sums, dtype=np.float64).sum(axis=1, keepdims=True))
    sums /= np.where(lengths > 0, lengths, 1.0)
    return sums
