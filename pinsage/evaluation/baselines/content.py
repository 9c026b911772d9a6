"""What needs no training: popularity, and cosines of vectors that are there (paper, 4.1)."""

import numpy as np
from jaxtyping import Float32, Int64, Integer


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


_SQUARES = (1e-15, 1e15)
"""Lengths between which the squares of a row are well inside float32."""


class FeatureCosine(EmbeddingCosine):
    """Cosine of content features: the paper's Visual and Annotation baselines.

    An item whose features are all zero is at cosine 0 from everything.

    Args:
        features: one row an item, of any length; scaled to unit length here.
    """

    def __init__(self, features: Float32[np.ndarray, "items width"]) -> None:
        super().__init__(unit_rows(features))


def unit_rows(
    features: Float32[np.ndarray, "items width"],
) -> Float32[np.ndarray, "items width"]:
    """Scale every row to unit length, whatever its length; a row of zeros stays.

    Takes several times the memory of the rows, so give many of them a chunk at a time.
    """
    with np.errstate(over="ignore"):
        lengths = np.linalg.norm(features, axis=1, keepdims=True)
    vectors = features / np.where(lengths > 0, lengths, np.float32(1))
    far = np.flatnonzero(~((lengths > _SQUARES[0]) & (lengths < _SQUARES[1])))
    rows = features[far].astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    vectors[far] = rows / np.where(lengths > 0, lengths, 1.0)
    return vectors
