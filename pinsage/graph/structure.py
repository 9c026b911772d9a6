"""Structural features: what the training graph alone says about an item.

Beside its content, an item may carry the leading singular vectors of the degree-normalized
item-context matrix. This goes beyond the paper, whose features are content alone.
"""

import numpy as np
from jaxtyping import Float32, Float64, Int64
from pydantic import PositiveInt

from pinsage.base.config import Config
from pinsage.base.seeding import Stream, uniform_by_id
from pinsage.graph.adjacency import BipartiteAdjacency
from pinsage.kernels.pooling import gram, pool_rows, rotate, symmetric_eigen

_NEGLIGIBLE = 1e-10
"""Squared lengths this far below the longest one are rounding errors, not directions."""

_ROWS = 4_096
"""How many rows are scaled at a time."""


class StructureConfig(Config):
    """Structural features: singular vectors of the training graph."""

    width: PositiveInt = 128
    """Numbers an item gets."""

    passes: PositiveInt = 6
    """Times that vectors are pooled from items into contexts and back; more separate singular
    vectors better whose values are close together."""


def structural_features(
    adjacency: BipartiteAdjacency, config: StructureConfig, *, seed: int
) -> Float32[np.ndarray, "items width"]:
    """Give items of like contexts like vectors, from the edges alone.

    A is the item-context matrix of zeros and ones, B = D_i^-1/2 A D_c^-1/2 with the degrees of
    items and contexts. The columns are the leading left singular vectors of B times their singular
    values, largest first, found by randomized subspace iteration: a random start keyed by item,
    then `passes` times context pooling (B^T), item pooling (B) and orthonormalization, then
    Rayleigh-Ritz. Each column's entry of the largest magnitude is positive. Then every row is
    scaled to unit length, so inner products are cosines. Equal arguments give equal bits, whatever
    the number of threads.

    A cold item's row is zero, and so are the columns beyond the rank of B (at most the smaller
    number of items and contexts); singular values below about 1/300 of the largest may count as
    zero.

    Time: 2 * `passes` + 1 times edges * width multiplications, and as many times rows * width^2.
    Memory beside the adjacency: 4 * width + 64 bytes for each item and context, and
    256 * width^2 + 33,000 * width (8 MiB at the default width). All of it is in this process.

    A new item can be folded in later as the mean of its contexts' vectors, scaled to unit length.

    Args:
        adjacency: the training graph, and nothing of what is held out.
        config: how wide, and how many passes.
        seed: the run's seed.

    Returns:
        One row an item, of unit length or all zero.
    """
    item_scales = _inverse_roots(adjacency.item_degrees)
    context_scales = _inverse_roots(adjacency.context_degrees)
    vectors = _random_start(adjacency, config.width, seed)
    pooled = np.empty((adjacency.num_contexts, config.width), np.float32)
    to_contexts = (adjacency.context_starts, adjacency.context_items, vectors, item_scales)
    to_items = (adjacency.item_starts, adjacency.item_contexts, pooled, context_scales)
    for _ in range(config.passes):
        pool_rows(*to_contexts, context_scales, pooled)
        pool_rows(*to_items, item_scales, vectors)
        _orthonormalize(vectors)
    pool_rows(*to_contexts, context_scales, pooled)
    squares, rotation = _directions(pooled)
    rotate(vectors, rotation * np.sqrt(squares))
    _fix_signs(vectors)
    _scale_rows(vectors)
    return vectors


def _inverse_roots(degrees: Int64[np.ndarray, " nodes"]) -> Float32[np.ndarray, " nodes"]:
    # The floor of 1 only touches nodes without edges, whose sums are zero.
    return (1.0 / np.sqrt(np.maximum(degrees, 1))).astype(np.float32)


def _random_start(
    adjacency: BipartiteAdjacency, width: int, seed: int
) -> Float32[np.ndarray, "items width"]:
    item_ids = np.arange(adjacency.num_items)
    vectors = np.empty((adjacency.num_items, width), np.float32)
    for column in range(width):
        vectors[:, column] = uniform_by_id(seed, Stream.STRUCTURE, item_ids, column) - 0.5
    return vectors


def _orthonormalize(vectors: Float32[np.ndarray, "items width"]) -> None:
    """Make the columns orthogonal and of length 1, longest direction first, in place.

    A Cholesky factor would do, were the columns never dependent; here those left over become zero.
    """
    squares, rotation = _directions(vectors)
    rotate(vectors, rotation / np.sqrt(np.where(squares > 0, squares, np.inf)))


def _directions(
    vectors: Float32[np.ndarray, "rows width"],
) -> tuple[Float64[np.ndarray, " width"], Float64[np.ndarray, "width width"]]:
    """Find the principal directions: squared lengths (negligible ones zero), and the rotation."""
    squares, rotation = symmetric_eigen(gram(vectors))
    return np.where(squares > _NEGLIGIBLE * squares[0], squares, 0.0), rotation


def _fix_signs(vectors: Float32[np.ndarray, "items width"]) -> None:
    tops = np.array([column[np.argmax(np.abs(column))] for column in vectors.T])
    # Not np.negative in place: NumPy 2.4 corrupts a column of few.
    vectors *= np.where(tops < 0, np.float32(-1), np.float32(1))


def _scale_rows(vectors: Float32[np.ndarray, "items width"]) -> None:
    for start in range(0, len(vectors), _ROWS):
        rows = vectors[start : start + _ROWS]
        lengths = np.sqrt(np.square(rows, dtype=np.float64).sum(axis=1, keepdims=True))
        rows /= np.where(lengths > 0, lengths, 1.0)
