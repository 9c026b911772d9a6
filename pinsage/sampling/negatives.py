"""Negative examples: shared by a minibatch, and hard ones of each query (paper, section 3.3)."""

import numpy as np
from jaxtyping import Int, Int64

from pinsage.base.seeding import Stream, stream, uniform_by_id


def shared_negatives(
    num_items: int,
    count: int,
    *,
    seed: int,
    epoch: int,
    step: int,
    unseen: Int64[np.ndarray, " unseen"] | None = None,
) -> Int64[np.ndarray, " negatives"]:
    """Draw the items that every pair of one minibatch uses, on every rank the same.

    Args:
        num_items: size of the catalog.
        count: how many to draw, with replacement.
        seed: the run's seed.
        epoch: counted from 0.
        step: counted from 0.
        unseen: ascending ids of items that training must not see; None has none.
    """
    rng = stream(seed, Stream.SHARED_NEGATIVES, epoch, step)
    if unseen is None:
        return rng.integers(num_items, size=count)
    draws = rng.integers(num_items - len(unseen), size=count)
    # The n-th item that is seen has as many unseen ones before it as stand below it.
    return draws + np.searchsorted(unseen - np.arange(len(unseen)), draws, side="right")


def hard_negatives(
    candidates: Int[np.ndarray, "pairs candidates"],
    pair_ids: Int64[np.ndarray, " pairs"],
    count: int,
    *,
    seed: int,
    epoch: int,
) -> Int[np.ndarray, "pairs hard"]:
    """Draw each pair's hard negatives from its query's candidates, with replacement.

    Args:
        candidates: the candidates of each pair's query, -1 behind the real ones.
        pair_ids: the pairs' places in the training set; a pair draws the same on any rank.
        count: hard negatives a pair.
        seed: the run's seed.
        epoch: counted from 0.

    Returns:
        Item ids, typed as the candidates; -1 where the query has no candidate.
    """
    if count == 0 or candidates.shape[1] == 0:
        return np.full((len(pair_ids), count), -1, candidates.dtype)
    available = (candidates >= 0).sum(axis=1)
    draws = np.stack(
        [
            uniform_by_id(seed, Stream.HARD_NEGATIVES, pair_ids, epoch, column)
            for column in range(count)
        ],
        axis=1,
    )
    columns = (draws * available[:, None]).astype(np.int64)
    chosen = np.take_along_axis(candidates, columns, axis=1)
    return np.where(available[:, None] > 0, chosen, candidates.dtype.type(-1))
