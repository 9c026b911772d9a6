"""`Block`: one layer's bipartite graph, in slots."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int, Int32, Int64

from pinsage.kernels.reindex import Scratch, layers_from_table

_COPIED_BYTES = 2**29
"""Whole tables of up to this size are copied by whoever builds minibatches from them."""


@dataclass(frozen=True)
class Block:
    """Who pools from whom in one convolution.

    The destinations are the first source slots: slot i is the same item on both sides.

    Attributes:
        neighbors: source slots of each destination's neighbors; 0 where there are fewer than T.
        weights: importance weights, 0 where there is no neighbor.
        num_sources: how many slots the layer below must fill.
    """

    neighbors: Int32[np.ndarray, "destinations neighbors"]
    weights: Float32[np.ndarray, "destinations neighbors"]
    num_sources: int


def build_blocks(
    seeds: Int64[np.ndarray, " seeds"],
    neighbor_ids: Int[np.ndarray, "items neighbors"],
    neighbor_weights: Float32[np.ndarray, "items neighbors"],
    *,
    num_layers: int,
    scratch: Scratch,
) -> tuple[list[Block], Int64[np.ndarray, " inputs"]]:
    """Walk from the seeds down to the features, one block a layer (Algorithm 2, lines 1-7).

    Args:
        seeds: distinct item ids.
        neighbor_ids: the neighborhood table's ids, -1 where missing; see `cut_table`.
        neighbor_weights: the table's weights.
        num_layers: K.
        scratch: room for as many items as the table has rows.

    Returns:
        The blocks from the features up, and the ids whose features layer 0 needs, in slot order.

    Raises:
        ValueError: seeds that repeat, or an id of no item among seeds or neighbors.
    """
    layers, ids = layers_from_table(
        seeds, neighbor_ids, neighbor_weights, num_layers=num_layers, scratch=scratch
    )
    return [Block(*layer) for layer in reversed(layers)], ids


def cut_table(
    ids: Int[np.ndarray, "items neighbors"],
    weights: Float32[np.ndarray, "items neighbors"],
    width: int,
) -> tuple[Int[np.ndarray, "items width"], Float32[np.ndarray, "items width"]]:
    """Keep the first neighbors of every item, whose weights sum to 1 again.

    A table kept whole is read in place if it is large. A small one is copied, because memory has
    larger pages than a mapped file, which makes minibatches half again as fast.
    """
    if width == ids.shape[1] and ids.nbytes + weights.nbytes > _COPIED_BYTES:
        return np.ascontiguousarray(ids), np.ascontiguousarray(weights)
    if width == ids.shape[1]:
        return np.array(ids), np.array(weights)
    return np.ascontiguousarray(ids[:, :width]), renormalized(np.asarray(weights[:, :width]))


def cut_rows(
    seeds: Int64[np.ndarray, " seeds"],
    ids: Int[np.ndarray, "items neighbors"],
    weights: Float32[np.ndarray, "items neighbors"],
    width: int,
    *,
    num_layers: int,
) -> tuple[
    Int64[np.ndarray, " met"],
    Int[np.ndarray, "met width"],
    Float32[np.ndarray, "met width"],
]:
    """As `cut_table`, but only the rows that `build_blocks` reads for some seeds.

    Args:
        seeds: item ids.
        ids: the neighborhood table's ids, -1 where missing.
        weights: the table's weights.
        width: neighbors kept.
        num_layers: K of `build_blocks`.

    Returns:
        The items met, ascending, and their table, whose neighbors are places among those items. The
        rows of items that are met only in the last layer are zeros.
    """
    met = read = np.unique(seeds)
    for _ in range(num_layers):
        read, neighbors = met, ids[met, :width]
        met = np.union1d(met, neighbors[neighbors >= 0]).astype(np.int64)
    # Zeros that nobody reads take no memory.
    rows, neighbors, kept = np.searchsorted(met, read), ids[read, :width], weights[read, :width]
    own_ids = np.zeros((len(met), neighbors.shape[1]), ids.dtype)
    own_weights = np.zeros(own_ids.shape, np.float32)
    own_ids[rows] = np.where(neighbors >= 0, np.searchsorted(met, neighbors), -1)
    own_weights[rows] = kept if width == ids.shape[1] else renormalized(kept)
    return met, own_ids, own_weights


def renormalized(
    weights: Float32[np.ndarray, "rows neighbors"],
) -> Float32[np.ndarray, "rows neighbors"]:
    """Scale rows to sum to 1; a row of zeros stays."""
    totals = weights.sum(axis=1, keepdims=True)
    return weights / np.where(totals > 0, totals, np.float32(1))
