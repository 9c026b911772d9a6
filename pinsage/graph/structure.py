"""Structural features: what the training graph alone says about an item.

Beside its content, an item may carry the leading singular vectors of the degree-normalized
item-context matrix. This goes beyond the paper, whose features are content alone. The contexts'
vectors are kept beside them, so that a new item folds in at once.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Float64, Int, Int64
from pydantic import PositiveInt

from pinsage.base.config import Config
from pinsage.base.seeding import Stream, uniform_by_id
from pinsage.graph.adjacency import BipartiteAdjacency
from pinsage.graph.features import FeatureStore
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


class Structure(NamedTuple):
    """What the training graph says about its nodes."""

    items: Float32[np.ndarray, "items width"]
    """One row an item, of unit length or all zero."""
    contexts: Float32[np.ndarray, "contexts width"]
    """What an item is the sum of, but for its length: see `fold_in`."""


def structural_features(
    adjacency: BipartiteAdjacency, config: StructureConfig, *, seed: int
) -> Structure:
    """Give items of like contexts like vectors, from the edges alone.

    A is the item-context matrix of zeros and ones, B = D_i^-1/2 A D_c^-1/2 with the degrees of
    items and contexts. V is made of the leading right singular vectors of B, a column each, largest
    singular value first. They are found by randomized subspace iteration: a random start keyed by
    item, then `passes` times context pooling (B^T), item pooling (B) and orthonormalization, then
    Rayleigh-Ritz. An item's row is its row of B V, scaled to unit length, so inner products are
    cosines: the left singular vectors times their singular values, up to the iteration's error.
    Each column's entry of the largest magnitude is positive before rows are scaled. Equal arguments
    give equal bits, whatever the number of threads.

    A cold item's row is zero, and so are the columns beyond the rank of B (at most the smaller
    number of items and contexts); singular values below about 1/300 of the largest may count as
    zero.

    Time: 2 * `passes` + 2 times edges * width multiplications, and as many times rows * width^2.
    Memory beside the adjacency: 4 * width + 64 bytes for each item and context, and
    256 * width^2 + 33,000 * width (8 MiB at the default width). All of it is in this process.

    Args:
        adjacency: the training graph, and nothing of what is held out.
        config: how wide, and how many passes.
        seed: the run's seed.

    Returns:
        The items' rows, and D_c^-1/2 V, the contexts'.
    """
    item_scales = _inverse_roots(adjacency.item_degrees)
    context_scales = _inverse_roots(adjacency.context_degrees)
    items = _random_start(adjacency, config.width, seed)
    contexts = np.empty((adjacency.num_contexts, config.width), np.float32)
    to_contexts = (adjacency.context_starts, adjacency.context_items, items, item_scales)
    to_items = (adjacency.item_starts, adjacency.item_contexts, contexts)
    for _ in range(config.passes):
        pool_rows(*to_contexts, context_scales, contexts)
        pool_rows(*to_items, context_scales, item_scales, items)
        _orthonormalize(items)
    pool_rows(*to_contexts, context_scales, contexts)
    _orthonormalize(contexts)
    contexts *= context_scales[:, None]
    pool_rows(*to_items, np.ones_like(context_scales), item_scales, items)
    signs = _signs(items)
    # Not np.negative in place: NumPy 2.4 corrupts a column of few.
    items *= signs
    contexts *= signs
    _scale_rows(items)
    return Structure(items, contexts)


def fold_in(
    context_ids: Int[np.ndarray, " contexts"], context_vectors: FeatureStore
) -> Float32[np.ndarray, " width"]:
    """Give a new or changed item the structural features that the training graph implies.

    An item of the graph, folded in with its own contexts, gets its own row, bit for bit.

    Args:
        context_ids: the contexts that the item is in, in any order; repeats count once.
        context_vectors: those of the graph, as `Graph.context_vectors` gives them.

    Returns:
        A row of unit length; all zero without contexts.

    Raises:
        ValueError: there is no such context.
    """
    distinct = np.unique(context_ids)
    vectors = context_vectors.gather(distinct)
    row = np.empty((1, vectors.shape[1]), np.float32)
    pool_rows(
        np.array([0, len(distinct)]),
        np.arange(len(distinct), dtype=np.int32),
        vectors,
        np.ones(len(distinct), np.float32),
        _inverse_roots(np.array([len(distinct)])),
        row,
    )
    _scale_rows(row)
    return row[0]


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


def _signs(vectors: Float32[np.ndarray, "items width"]) -> Float32[np.ndarray, " width"]:
    """Tell which columns to turn around: those whose entry of the largest magnitude is negative."""
    tops = np.array([column[np.argmax(np.abs(column))] for column in vectors.T])
    return np.where(tops < 0, np.float32(-1), np.float32(1))


def _scale_rows(vectors: Float32[np.ndarray, "items width"]) -> None:
    for start in range(0, len(vectors), _ROWS):
        rows = vectors[start : start + _ROWS]
        lengths = np.sqrt(np.square(rows, dtype=np.float64).sum(axis=1, keepdims=True))
        rows /= np.where(lengths > 0, lengths, 1.0)
