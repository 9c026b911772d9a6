"""From visited items to neighborhoods: visit counts, the top neighbors, importance weights."""

import numpy as np
from jaxtyping import Float32, Int, Int32, Int64, UInt
from numba import get_num_threads, njit, prange

from pinsage.kernels.checks import require_ids, require_positive, require_vector
from pinsage.kernels.engine import top_of_all

MAX_ITEMS = 2**40 - 1
"""The most items whose ids fit in a cell of counts."""

_BLOCKS_PER_THREAD = 4


def top_visited(
    visited: Int[np.ndarray, "seeds visits"],
    seeds: Int[np.ndarray, " seeds"],
    num_neighbors: int,
) -> tuple[Int[np.ndarray, "seeds neighbors"], Int32[np.ndarray, "seeds neighbors"]]:
    """Count each seed's visits and keep the items most visited (paper, section 3.2).

    Visits to the seed itself don't count.

    Args:
        visited: The items visited from each seed, int32 or int64, in any order, then -1 to the
            row's end.
        seeds: The item each row was walked from.
        num_neighbors: How many items to keep (*T*).

    Returns:
        Item ids, typed as `visited`, and visit counts, count descending, ties in an order that
        looks random and is the seed's own; where fewer items were reached, id -1 and count 0
        follow.

    Raises:
        ValueError: Fewer than one neighbor asked for, or arrays that don't fit together.

    >>> ids, counts = top_visited(np.array([[4, 2, 9, 4, -1]], np.int32), np.array([2]), 3)
    >>> ids.tolist(), counts.tolist()
    ([[4, 9, -1]], [[2, 1, 0]])
    """
    require_positive("num_neighbors", num_neighbors)
    require_vector("seeds", seeds)
    if (
        visited.ndim != 2
        or visited.dtype not in (np.int32, np.int64)
        or visited.shape[0] != seeds.size
    ):
        raise ValueError(
            f"visited must be int32 or int64 with one row for each of the {seeds.size} seeds;"
            f" found shape {visited.shape} of {visited.dtype}"
        )
    require_ids("visited", visited, MAX_ITEMS, lowest=-1)
    return top_of_visits(np.ascontiguousarray(visited), _num_visits(visited), seeds, num_neighbors)


def top_of_visits(
    visited: Int[np.ndarray, "seeds visits"],
    num_visits: Int[np.ndarray, " seeds"],
    seeds: Int[np.ndarray, " seeds"],
    num_neighbors: int,
) -> tuple[Int[np.ndarray, "seeds neighbors"], Int32[np.ndarray, "seeds neighbors"]]:
    """Do the same for visits that are known to be of items; nothing is looked through for errors.

    Args:
        visited: As in `top_visited`, contiguous; what follows a row's visits does not count.
        num_visits: How many visits each row has, no more than fit in it.
        seeds: The item each row was walked from.
        num_neighbors: How many items to keep, at least one.

    Returns:
        As `top_visited`.
    """
    ids = np.empty((seeds.size, num_neighbors), visited.dtype)
    counts = np.empty((seeds.size, num_neighbors), np.int32)
    top_of_all(
        visited,
        num_visits,
        seeds.astype(np.int64, copy=False),
        min(get_num_threads() * _BLOCKS_PER_THREAD, max(1, seeds.size)),
        count_table(visited.shape[1]),
        ids,
        counts,
    )
    return ids, counts


def add_visits(
    visited: Int[np.ndarray, "rows visits"],
    rows: Int64[np.ndarray, " rows"],
    totals: Float32[np.ndarray, "all_rows items"],
    *,
    enough_visits: int,
) -> Int64[np.ndarray, " rows"]:
    """Add visits to a table of totals, in place.

    Args:
        visited: The items visited, with -1 at any place counting for nothing.
        rows: The row of `totals` that each row of `visited` belongs to, each once.
        totals: Visits so far; float32 counts exactly up to 2**24.
        enough_visits: How often an item is to be met.

    Returns:
        How many items each of the rows has met `enough_visits` times or more by now.

    Raises:
        ValueError: Rows or visited items out of range, or one row twice.

    >>> totals = np.zeros((1, 3), np.float32)
    >>> add_visits(np.array([[2, 0, 2, -1]]), np.array([0]), totals, enough_visits=2).tolist()
    [1]
    >>> totals.tolist()
    [[1.0, 0.0, 2.0]]
    """
    require_positive("enough_visits", enough_visits)
    require_vector("rows", rows)
    require_ids("rows", rows, len(totals))
    require_ids("visited", visited, totals.shape[1], lowest=-1)
    if len(visited) != len(rows) or len(np.unique(rows)) != len(rows):
        raise ValueError(
            f"rows must name a row of totals for each of {len(visited)} rows, each once; found"
            f" {rows.tolist()[:8]}"
        )
    enough = np.empty(len(rows), np.int64)
    _add_visits(visited, rows, totals, np.float32(enough_visits), enough)
    return enough


def count_table(num_visits: int) -> UInt[np.ndarray, " slots"]:
    """Make a table for counting up to so many visits: a power of two slots, for places of items.

    A few visits fill at most an eighth of it: a collision costs a mispredicted branch, not only a
    probe. Of many visits a larger part meets the same items again, and a quarter is enough.
    """
    slots = 1 << max(1, ((8 if num_visits < 2**10 else 4) * num_visits - 1).bit_length())
    return np.empty(slots, np.uint16 if num_visits < 2**16 - 1 else np.uint32)


def importance_weights(
    counts: Int32[np.ndarray, "seeds neighbors"],
) -> Float32[np.ndarray, "seeds neighbors"]:
    """Scale each seed's visit counts to sum to one (paper, section 3.2).

    A row without visits stays all zero, so a cold item pools to zeros, not NaN.

    Args:
        counts: Visit counts, none negative.

    Returns:
        Importance weights, one row a seed.

    Raises:
        ValueError: A negative count, or an array of another shape or type.

    >>> importance_weights(np.array([[3, 1], [0, 0]], np.int32)).tolist()
    [[0.75, 0.25], [0.0, 0.0]]
    """
    if counts.ndim != 2 or not np.issubdtype(counts.dtype, np.integer):
        raise ValueError(
            f"counts must be a two-dimensional integer array; found shape {counts.shape} of"
            f" {counts.dtype}"
        )
    if counts.size and int(counts.min()) < 0:
        raise ValueError(f"counts must not be negative; found {int(counts.min())}")
    weights = np.empty(counts.shape, np.float32)
    _scale(counts, weights)
    return weights


def _num_visits(visited: Int[np.ndarray, "seeds visits"]) -> Int64[np.ndarray, " seeds"]:
    """Count the visits of each row: those before the first -1."""
    ends = np.column_stack([visited < 0, np.ones(len(visited), bool)])
    return ends.argmax(axis=1)


@njit(cache=True, nogil=True)
def _scale(counts, weights):  # type: ignore[no-untyped-def]
    for row in range(counts.shape[0]):
        total = np.int64(0)
        for place in range(counts.shape[1]):
            total += counts[row, place]
        # The floor of 1 only ever touches empty rows: a visited row sums to at least 1.
        total = max(total, np.int64(1))
        for place in range(counts.shape[1]):
            weights[row, place] = np.float32(counts[row, place]) / np.float32(total)


@njit(cache=True, nogil=True, parallel=True)
def _add_visits(visited, rows, totals, enough_visits, enough):  # type: ignore[no-untyped-def]
    for row in prange(visited.shape[0]):
        sums = totals[rows[row]]
        for place in range(visited.shape[1]):
            if visited[row, place] >= 0:
                sums[visited[row, place]] += np.float32(1)
        found = 0
        for item in range(sums.size):
            found += sums[item] >= enough_visits
        enough[row] = found
