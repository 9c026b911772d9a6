"""What needs no training: popularity, and cosines of vectors that are there (paper, 4.1)."""

import numpy as np
from jaxtyping import Float32, Int64, Integer

from pinsage.kernels.unit_rows import unit_rows


class Popularity:
    """The same list for every query: items by how many contexts they are in.

    Args:
        item_degrees: contexts of each item.
    """

    unknown_score = 0.0

    def __init__(self, item_degrees: Integer[np.ndarray, " items"]) -> None:
        self._degrees = item_degrees.astype(np.float32)

    def scores(
        self, query_ids: Int64[np.ndarray, " queries"]
    ) -> Float32[np.ndarray, "queries items"]:
        """Give every item its degree."""
        return np.tile(self._degrees, (len(query_ids), 1))


class EmbeddingCosine:
    """Inner products of unit-length embeddings, such as PinSage's (paper, section 3.5).

    Args:
        embeddings: one row an item; used as they are.
    """

    def __init__(self, embeddings: Float32[np.ndarray, "items width"]) -> None:
        self.vectors = np.ascontiguousarray(embeddings)

    def scores(
        self, query_ids: Int64[np.ndarray, " queries"]
    ) -> Float32[np.ndarray, "queries items"]:
        """Give every item its inner product with the query."""
        return self.vectors[query_ids] @ self.vectors.T


class FeatureCosine(EmbeddingCosine):
    """Cosine of content features: the paper's Visual and Annotation baselines.

    Of an item whose features are all zero nothing is known (see `VectorScorer`).

    Args:
        features: one row an item, of any length; scaled to unit length here.
    """

    def __init__(self, features: Float32[np.ndarray, "items width"]) -> None:
        super().__init__(unit_rows(features))
