"""How strongly items share contexts: the scores behind item-item baselines."""

import numpy as np
from jaxtyping import Float32, Int, Int32, Int64
from numba import njit, prange

from pinsage.kernels.checks import require_ids, require_starts, require_vector


def weighted_cooccurrence(
    item_starts: Int64[np.ndarray, " item_starts"],
    item_contexts: Int32[np.ndarray, " edges"],
    context_starts: Int64[np.ndarray, " context_starts"],
    context_items: Int32[np.ndarray, " edges"],
    context_weights: Float32[np.ndarray, " contexts"],
    seeds: Int[np.ndarray, " seeds"],
) -> Float32[np.ndarray, "seeds items"]:
    """Sum the weights of the contexts that each seed shares with every item.

    A seed shares all its contexts with itself; callers that don't want it in an answer leave it
    out there. Sums are taken in float32, context ids ascending, so they repeat to the bit.

    Args:
        item_starts: Row starts of the items' contexts.
        item_contexts: Contexts of every item.
        context_starts: Row starts of the contexts' items.
        context_items: Items of every context: the transpose of the above.
        context_weights: What sharing each context is worth.
        seeds: Item ids to score for.

    Returns:
        One row of scores a seed, one column an item; 0 where no context is shared.

    Raises:
        ValueError: Arrays that don't fit together, or ids out of range.
    """
    require_vector("item_contexts", item_contexts)
    require_vector("context_items", context_items)
    require_starts("item_starts", item_starts, item_contexts.size)
    require_starts("context_starts", context_starts, context_items.size)
    num_items, num_contexts = item_starts.size - 1, context_starts.size - 1
    if context_weights.shape != (num_contexts,) or context_weights.dtype != np.float32:
        raise ValueError(
            f"context_weights must be {num_contexts} float32, one a context; found shape"
            f" {context_weights.shape} of {context_weights.dtype}"
        )
    require_vector("seeds", seeds)
    require_ids("seeds", seeds, num_items)
    require_ids("item_contexts", item_contexts, num_contexts)
    require_ids("context_items", context_items, num_items)
    scores = np.zeros((seeds.size, num_items), np.float32)
    _add_up(
        item_starts,
        item_contexts,
        context_starts,
        context_items,
        context_weights,
        seeds.astype(np.int64, copy=False),
        scores,
    )
    return scores


@njit(cache=True, nogil=True, parallel=True)
def _add_up(  # type: ignore[no-untyped-def]
    item_starts, item_contexts, context_starts, context_items, context_weights, seeds, scores
):
    for row in prange(seeds.size):
        seed = seeds[row]
        for edge in range(item_starts[seed], item_starts[seed + 1]):
            context = item_contexts[edge]
            weight = context_weights[context]
            for back in range(context_starts[context], context_starts[context + 1]):
                scores[row, context_items[back]] += weight
