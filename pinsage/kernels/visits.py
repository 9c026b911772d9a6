"""From visited items to neighborhoods: visit counts, the top neighbors, importance weights."""

import numpy as np
from jaxtyping import Float32, Int, Int32
from numba import get_num_threads, njit, prange

from pinsage.kernels.checks import require_positive, require_vector

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_ZERO = np.uint64(0)
_ONE = np.uint64(1)
_HALF_WORD = np.uint64(32)
_LOW_HALF = np.uint64(0xFFFFFFFF)

_BLOCKS_PER_THREAD = 4
_FEW = 16
_COMPARE_ALL_UP_TO = 96


def top_visited(
    visited: Int32[np.ndarray, "seeds visits"],
    seeds: Int[np.ndarray, " seeds"],
    num_neighbors: int,
) -> tuple[Int32[np.ndarray, "seeds neighbors"], Int32[np.ndarray, "seeds neighbors"]]:
    """Count each seed's visits and keep the items most visited (paper, section 3.2).

    Visits to the seed itself don't count.

    Args:
        visited: The items visited from each seed, in any order, then -1 to the row's end.
        seeds: The item each row was walked from.
        num_neighbors: How many items to keep (*T*).

    Returns:
        Item ids and visit counts, count descending, ties by smaller id; where fewer items were
        reached, id -1 and count 0 follow.

    Raises:
        ValueError: Fewer than one neighbor asked for, or arrays that don't fit together.

    >>> ids, counts = top_visited(np.array([[4, 2, 9, 4, -1]], np.int32), np.array([2]), 3)
    >>> ids.tolist(), counts.tolist()
    ([[4, 9, -1]], [[2, 1, 0]])
    """
    require_positive("num_neighbors", num_neighbors)
    require_vector("seeds", seeds)
    if visited.ndim != 2 or visited.dtype != np.int32 or visited.shape[0] != seeds.size:
        raise ValueError(
            f"visited must be int32 with one row for each of the {seeds.size} seeds; found shape"
            f" {visited.shape} of {visited.dtype}"
        )
    neighbor_ids = np.empty((seeds.size, num_neighbors), np.int32)
    counts = np.empty((seeds.size, num_neighbors), np.int32)
    _keep_top(
        np.ascontiguousarray(visited),
        seeds.astype(np.int64, copy=False),
        # At most a quarter full: a collision costs a mispredicted branch, not only a probe.
        max(1, (4 * visited.shape[1] - 1).bit_length()),
        min(get_num_threads() * _BLOCKS_PER_THREAD, max(1, seeds.size)),
        neighbor_ids,
        counts,
    )
    return neighbor_ids, counts


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
    # The floor of 1 only ever touches empty rows: a visited row sums to at least 1.
    total = np.maximum(counts.sum(axis=1, keepdims=True, dtype=np.int64), 1)
    return counts.astype(np.float32) / total.astype(np.float32)


@njit(cache=True, nogil=True)
def _count(items, table, table_bits, slots):  # type: ignore[no-untyped-def]
    """Count items in an open-addressing table of `(item + 1) << 32 | count`; 0 is a free slot.

    Whether an item is new can't be predicted, so nothing branches on it: every visit notes its
    slot, and only a new item's note is kept. Returns how many were kept.
    """
    shift = np.uint64(64 - table_bits)
    mask = np.uint64(table.size - 1)
    num_distinct = _ZERO
    for item in items:
        if item < 0:
            break
        tag = np.uint64(item) + _ONE
        slot = (tag * _GOLDEN) >> shift
        entry = table[slot]
        while (entry != _ZERO) & (entry >> _HALF_WORD != tag):
            slot = (slot + _ONE) & mask
            entry = table[slot]
        table[slot] = (tag << _HALF_WORD | entry & _LOW_HALF) + _ONE
        slots[num_distinct] = slot
        num_distinct += np.uint64(entry == _ZERO)
    return num_distinct


@njit(cache=True, nogil=True)
def _empty_into(table, slots, num_distinct, seed, order):  # type: ignore[no-untyped-def]
    """Clear the table, and write one sort key an item but the seed: smaller is better.

    A key is `(largest - count) << 32 | item`, so a plain comparison of keys ranks by count
    descending, then id ascending. Returns how many keys were written.
    """
    size = 0
    for place in range(num_distinct):
        entry = table[slots[place]]
        table[slots[place]] = _ZERO
        item = (entry >> _HALF_WORD) - _ONE
        order[size] = (_LOW_HALF - (entry & _LOW_HALF)) << _HALF_WORD | item
        size += item != np.uint64(seed)
    return size


@njit(cache=True, nogil=True)
def _insertion_sort(keys, low, high):  # type: ignore[no-untyped-def]
    for place in range(low + 1, high):
        key = keys[place]
        free = place
        while free > low and keys[free - 1] > key:
            keys[free] = keys[free - 1]
            free -= 1
        keys[free] = key


@njit(cache=True, nogil=True)
def _smallest_to_front(keys, size, wanted):  # type: ignore[no-untyped-def]
    """Quickselect: afterwards the `wanted` smallest of the first `size` distinct keys lead."""
    low, high = 0, size
    while high - low > _FEW:
        left, middle, right = keys[low], keys[(low + high) // 2], keys[high - 1]
        # The median of three distinct keys leaves at least one key on either side.
        pivot = max(min(left, middle), min(max(left, middle), right))
        border = low
        for place in range(low, high):
            key = keys[place]
            keys[place] = keys[border]
            keys[border] = key
            border += key < pivot
        if border == wanted:
            return
        if border > wanted:
            high = border
        else:
            low = border
    _insertion_sort(keys, low, high)


@njit(cache=True, nogil=True)
def _sort(keys, size, spare):  # type: ignore[no-untyped-def]
    """Sort the first `size` distinct keys; returns the array that holds them in order."""
    if size > _COMPARE_ALL_UP_TO:
        keys[:size].sort()
        return keys
    # Few keys: counting how many are smaller takes no branch and vectorizes.
    for place in range(size):
        key = keys[place]
        smaller = 0
        for other in range(size):
            smaller += keys[other] < key
        spare[smaller] = key
    return spare


@njit(cache=True, nogil=True, parallel=True)
def _keep_top(visited, seeds, table_bits, num_blocks, neighbor_ids, counts):  # type: ignore[no-untyped-def]
    num_seeds, num_visits = visited.shape
    num_neighbors = neighbor_ids.shape[1]
    for block in prange(num_blocks):
        table = np.zeros(1 << table_bits, np.uint64)
        slots = np.empty(num_visits, np.uint64)
        order = np.empty(num_visits + 1, np.uint64)
        spare = np.empty(min(num_visits, _COMPARE_ALL_UP_TO), np.uint64)
        for row in range(num_seeds * block // num_blocks, num_seeds * (block + 1) // num_blocks):
            num_distinct = _count(visited[row], table, table_bits, slots)
            size = _empty_into(table, slots, num_distinct, seeds[row], order)
            kept = min(size, num_neighbors)
            if kept < size:
                _smallest_to_front(order, size, kept)
            best = _sort(order, kept, spare)
            for place in range(kept):
                neighbor_ids[row, place] = np.int32(best[place] & _LOW_HALF)
                counts[row, place] = np.int32(_LOW_HALF - (best[place] >> _HALF_WORD))
            neighbor_ids[row, kept:] = -1
            counts[row, kept:] = 0
