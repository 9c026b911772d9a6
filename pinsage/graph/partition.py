"""The function from id to shard: shard `id % num_shards`, row `id // num_shards`."""

import numpy as np
from jaxtyping import Int, Int64


def shards_of(ids: Int[np.ndarray, " n"], num_shards: int) -> Int[np.ndarray, " n"]:
    """Tell which shard keeps each id.

    >>> shards_of(np.array([0, 1, 2, 3]), 3).tolist()
    [0, 1, 2, 0]
    """
    return ids % num_shards


def rows_of(ids: Int[np.ndarray, " n"], num_shards: int) -> Int[np.ndarray, " n"]:
    """Tell in which row of its shard each id is kept.

    >>> rows_of(np.array([0, 1, 2, 3]), 3).tolist()
    [0, 0, 0, 1]
    """
    return ids // num_shards


def ids_in(shard: int, num_shards: int, num_ids: int) -> Int64[np.ndarray, " rows"]:
    """List the ids a shard keeps, in row order.

    >>> ids_in(1, 3, 8).tolist()
    [1, 4, 7]
    """
    return np.arange(shard, num_ids, num_shards, dtype=np.int64)


def shard_name(shard: int, num_shards: int) -> str:
    """Name a shard's directory.

    >>> shard_name(3, 16)
    'shard-00003-of-00016'
    """
    return f"shard-{shard:05d}-of-{num_shards:05d}"


def num_ids_in(shard: int, num_shards: int, num_ids: int) -> int:
    """Count the ids a shard keeps.

    >>> num_ids_in(1, 3, 8)
    3
    """
    return len(range(shard, num_ids, num_shards))
