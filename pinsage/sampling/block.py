"""`Block`: one layer's bipartite graph, in slots."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int32, Int64

from pinsage.kernels.reindex import extend_with_neighbors


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
    neighbor_ids: Int32[np.ndarray, "items neighbors"],
    neighbor_weights: Float32[np.ndarray, "items neighbors"],
    *,
    num_layers: int,
    scratch: Int32[np.ndarray, " items"],
) -> tuple[list[Block], Int64[np.ndarray, " inputs"]]:
    """Walk from the seeds down to the features, one block a layer (Algorithm 2, lines 1-7).

    Args:
        seeds: distinct item ids.
        neighbor_ids: the neighborhood table's ids, -1 where missing.
        neighbor_weights: the table's weights; a row is scaled to sum to 1 again, in case the
            table was cut to fewer neighbors than it was made with.
        num_layers: K.
        scratch: filled with -1; left so.

    Returns:
        The blocks from the features up, and the ids whose features layer 0 needs, in slot order.
    """
    blocks: list[Block] = []
    ids = seeds
    for _ in range(num_layers):
        sources, slots = extend_with_neighbors(ids, neighbor_ids[ids], scratch)
        weights = renormalized(neighbor_weights[ids])
        blocks.append(Block(slots, weights, len(sources)))
        ids = sources.astype(np.int64)
    return blocks[::-1], ids


def renormalized(
    weights: Float32[np.ndarray, "rows neighbors"],
) -> Float32[np.ndarray, "rows neighbors"]:
    """Scale rows to sum to 1; a row of zeros stays."""
    totals = weights.sum(axis=1, keepdims=True)
    return weights / np.where(totals > 0, totals, np.float32(1))
