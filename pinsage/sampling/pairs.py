"""Which training pairs each step of each rank takes."""

import numpy as np
from jaxtyping import Int64

from pinsage.base.seeding import Stream, stream


def steps_per_epoch(num_pairs: int, minibatch_size: int) -> int:
    """Count the minibatches of an epoch; a rest too small for one waits for the next order.

    >>> steps_per_epoch(10, 4), steps_per_epoch(3, 4)
    (2, 1)
    """
    return max(num_pairs // minibatch_size, 1)


def pairs_per_step(num_pairs: int, minibatch_size: int) -> int:
    """Count the pairs of a minibatch: all there are, if they don't fill one.

    >>> pairs_per_step(10, 4), pairs_per_step(3, 4)
    (4, 3)
    """
    return min(num_pairs, minibatch_size)


def epoch_order(num_pairs: int, *, seed: int, epoch: int) -> Int64[np.ndarray, " pairs"]:
    """Shuffle the pairs, anew every epoch, the same way for every rank and resumed run."""
    return stream(seed, Stream.PAIR_ORDER, epoch).permutation(num_pairs)


def rank_share(
    order: Int64[np.ndarray, " pairs"],
    step: int,
    *,
    minibatch_size: int,
    world_rank: int,
    world_size: int,
) -> Int64[np.ndarray, " share"]:
    """Cut one rank's share out of the minibatch of one step.

    The shares of all ranks, one after another, are the minibatch, whatever their number.

    >>> rank_share(np.arange(8), 1, minibatch_size=4, world_rank=1, world_size=2).tolist()
    [6, 7]
    """
    minibatch = order[step * minibatch_size : (step + 1) * minibatch_size]
    share = share_of_rank(len(minibatch), world_rank, world_size)
    return minibatch[share.start : share.stop]


def share_of_rank(num_pairs: int, world_rank: int, world_size: int) -> range:
    """Tell which of a minibatch's pairs are one rank's; shares differ by one pair at most.

    >>> [share_of_rank(8, rank, 3) for rank in range(3)]
    [range(0, 2), range(2, 5), range(5, 8)]
    """
    return range(num_pairs * world_rank // world_size, num_pairs * (world_rank + 1) // world_size)
