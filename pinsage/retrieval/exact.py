"""The truth: every item is compared with the query."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float32, Int32, Integer

from pinsage.base.artifacts import Draft
from pinsage.kernels.topk import top_k

_SCORES_PER_CHUNK = 1 << 26


class ExactIndex:
    """Inner products with all vectors, best k of them."""

    def __init__(self, vectors: Float32[np.ndarray, "items width"]) -> None:
        """Hold the vectors; they may be memory-mapped."""
        self.vectors = vectors

    def search(
        self,
        queries: Float32[np.ndarray, "queries width"],
        k: int,
        exclude: Sequence[Integer[np.ndarray, " _"]] | None = None,
        allowed: Bool[np.ndarray, " items"] | None = None,
    ) -> tuple[Int32[np.ndarray, "queries k"], Float32[np.ndarray, "queries k"]]:
        """See `Index.search`; equal scores are ordered by smaller id."""
        ids = np.full((len(queries), k), -1, np.int32)
        scores = np.full((len(queries), k), -np.inf, np.float32)
        width = min(k, len(self.vectors))
        rows = max(_SCORES_PER_CHUNK // max(len(self.vectors), 1), 1)
        for start in range(0, len(queries), rows):
            part = slice(start, min(start + rows, len(queries)))
            products = queries[part] @ self.vectors.T
            if allowed is not None:
                products[:, ~allowed] = -np.inf
            if exclude is not None:
                for row, banned in zip(products, exclude[part], strict=True):
                    row[banned] = -np.inf
            ids[part, :width], scores[part, :width] = top_k(products, width)
        ids[np.isneginf(scores)] = -1
        return ids, scores

    def save(self, draft: Draft) -> None:
        """Add nothing: the vectors are all there is."""
