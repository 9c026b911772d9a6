"""The truth: every item is compared with the query."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int32, Integer

from pinsage.base.artifacts import Draft
from pinsage.kernels.topk import top_k
from pinsage.retrieval.strategy import Found, StrategyCounts, merge_found, require_allowed

_SCORES_PER_CHUNK = 1 << 26
_ROWS_PER_GATHER = 1 << 16


class ExactIndex:
    """Inner products with all vectors, best k of them."""

    def __init__(self, vectors: Float32[np.ndarray, "items width"]) -> None:
        """Hold the vectors; they may be memory-mapped."""
        self.vectors = vectors
        self.counts = StrategyCounts()

    def search(
        self,
        queries: Float32[np.ndarray, "queries width"],
        k: int,
        exclude: Sequence[Integer[np.ndarray, " _"]] | None = None,
        allowed: Bool[np.ndarray, " items"] | None = None,
    ) -> tuple[Int32[np.ndarray, "queries k"], Float32[np.ndarray, "queries k"]]:
        """See `Index.search`; equal scores are ordered by smaller id."""
        if allowed is None:
            self.counts.add("plain", len(queries))
            return self._scan(queries, k, exclude, None)
        require_allowed(allowed, len(self.vectors))
        self.counts.add("brute", len(queries))
        if 2 * np.count_nonzero(allowed) > len(allowed):
            return self._scan(queries, k, exclude, allowed)
        return search_few(self.vectors, np.flatnonzero(allowed), queries, k, exclude)

    def widened(self) -> None:
        """Nothing is left to raise."""

    def about(self) -> dict[str, Any]:
        """Say what this is."""
        return {"kind": "exact"}

    def save(self, draft: Draft) -> None:
        """Add nothing: the vectors are all there is."""

    def _scan(
        self,
        queries: Float32[np.ndarray, "queries width"],
        k: int,
        exclude: Sequence[Integer[np.ndarray, " _"]] | None,
        allowed: Bool[np.ndarray, " items"] | None,
    ) -> Found:
        """Compare with every item, a bounded number of scores at a time."""
        ids = np.full((len(queries), k), -1, np.int32)
        scores = np.full((len(queries), k), -np.inf, np.float32)
        width = min(k, len(self.vectors))
        rows = max(_SCORES_PER_CHUNK // max(len(self.vectors), 1), 1)
        for start in range(0, len(queries) if width else 0, rows):
            part = slice(start, min(start + rows, len(queries)))
            products = _products(queries[part], self.vectors)
            if allowed is not None:
                products[:, ~allowed] = -np.inf
            if exclude is not None:
                for row, banned in zip(products, exclude[part], strict=True):
                    row[banned] = -np.inf
            ids[part, :width], scores[part, :width] = top_k(products, width)
        ids[np.isneginf(scores)] = -1
        return ids, scores


def search_few(
    vectors: Float32[np.ndarray, "items width"],
    item_ids: Integer[np.ndarray, " few"],
    queries: Float32[np.ndarray, "queries width"],
    k: int,
    exclude: Sequence[Integer[np.ndarray, " _"]] | None = None,
) -> tuple[Int32[np.ndarray, "queries k"], Float32[np.ndarray, "queries k"]]:
    """Search some items exactly, gathering their vectors a bounded part at a time.

    Args:
        vectors: all vectors.
        item_ids: the items to compare with, ascending.
        queries: the vectors to search for.
        k: how many items.
        exclude: for each query, ids that must not be answered.

    Returns:
        As `Index.search`; equal scores are ordered by smaller id.
    """
    best = (
        np.full((len(queries), k), -1, np.int32),
        np.full((len(queries), k), -np.inf, np.float32),
    )
    step = max(min(_ROWS_PER_GATHER, _SCORES_PER_CHUNK // max(len(queries), 1)), 1)
    for start in range(0, len(item_ids), step):
        part = item_ids[start : start + step]
        products = _products(queries, vectors[part])
        if exclude is not None:
            for row, banned in zip(products, exclude, strict=True):
                places = np.minimum(np.searchsorted(part, banned), len(part) - 1)
                row[places[part[places] == banned]] = -np.inf
        places, scores = top_k(products, min(k, len(part)))
        ids = np.where(np.isneginf(scores), -1, part[places]).astype(np.int32)
        best = merge_found(best, (ids, scores), k)
    return best


def _products(
    queries: Float32[np.ndarray, "queries width"], vectors: Float32[np.ndarray, "items width"]
) -> Float32[np.ndarray, "queries items"]:
    """Multiply; one query reads the vectors in order, as one matrix-vector product."""
    if len(queries) == 1:
        return (vectors @ queries[0])[None, :]
    return queries @ vectors.T
