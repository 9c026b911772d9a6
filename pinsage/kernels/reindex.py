"""Item ids to slots, in order of first sight: how a minibatch names its nodes (Algorithm 2)."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int, Int32, Int64
from numba import njit

from pinsage.kernels.checks import require_ids, require_vector
from pinsage.kernels.intrinsics import prefetch_far

_FAILED = -1
_NUMBERS_PER_LINE = np.uint64(16)

_ROWS_AHEAD = np.uint64(16)
_NOTES_AHEAD = np.uint64(8)


def unique_in_order(
    ids: Int[np.ndarray, " ids"], scratch: Int32[np.ndarray, " items"]
) -> tuple[Int[np.ndarray, " unique"], Int32[np.ndarray, " ids"]]:
    """Give every distinct id a slot, in the order in which the ids are first seen.

    Args:
        ids: Item ids, int64 or int32, repeats welcome.
        scratch: One int32 an item, all -1; it is all -1 again on return, so that one array
            serves a whole run and no call pays for clearing it.

    Returns:
        The distinct ids, typed as given, and the slot of every id: `unique[slots] == ids`.

    Raises:
        ValueError: Ids outside the scratch array, or a scratch array that wasn't all -1
            where this call looked (its contents are undefined from then on).

    >>> scratch = np.full(10, -1, np.int32)
    >>> unique, slots = unique_in_order(np.array([7, 3, 7, 0]), scratch)
    >>> unique.tolist(), slots.tolist()
    ([7, 3, 0], [0, 1, 0, 2])
    """
    require_vector("ids", ids)
    _require_scratch(scratch)
    require_ids("ids", ids, scratch.size)
    unique = np.empty_like(ids)
    slots = np.empty(ids.size, np.int32)
    num_unique = _number(ids, scratch, unique, slots)
    if num_unique == _FAILED:
        raise ValueError("scratch must be filled with -1; found another value")
    return unique[:num_unique].copy(), slots


class Layer(NamedTuple):
    """Who pools from whom, in slots: one layer of a minibatch."""

    neighbors: Int32[np.ndarray, "destinations neighbors"]
    """Source slot of every neighbor; 0 where there is none, whose weight is 0."""
    weights: Float32[np.ndarray, "destinations neighbors"]
    """The table's weights."""
    num_sources: int
    """How many slots the layer below fills: this layer's destinations, then their new neighbors."""


def layers_from_table(
    seeds: Int64[np.ndarray, " seeds"],
    table_ids: Int[np.ndarray, "items neighbors"],
    table_weights: Float32[np.ndarray, "items neighbors"],
    *,
    num_layers: int,
    scratch: Int32[np.ndarray, " items"],
) -> tuple[list[Layer], Int64[np.ndarray, " sources"]]:
    """Name the seeds, their neighbors, their neighbors' neighbors and so on by slots.

    A node keeps its slot in all layers: slots count up in order of first sight.

    Args:
        seeds: Distinct item ids.
        table_ids: A row of neighbor ids an item, int32 or int64, -1 where there is none. Rows are
            read in place, a memory-mapped table too.
        table_weights: Their weights.
        num_layers: How many times to go from nodes to their neighbors.
        scratch: As for `unique_in_order`, one number a row of the table.

    Returns:
        The layers, the seeds' own first, and the ids of all nodes, in order of their slots.

    Raises:
        ValueError: Arrays that don't fit together, repeats among the seeds, ids of no item among
            seeds or neighbors met, or a scratch array that wasn't all -1 where this call looked. In
            the case of bad ids, the scratch array is all -1 again.

    >>> scratch = np.full(4, -1, np.int32)
    >>> table = np.array([[1, 2], [0, -1], [3, 0], [-1, -1]], np.int32)
    >>> weights = np.array([[0.6, 0.4], [1, 0], [0.5, 0.5], [0, 0]], np.float32)
    >>> [layer], ids = layers_from_table(
    ...     np.array([2, 1]), table, weights, num_layers=1, scratch=scratch
    ... )
    >>> ids.tolist(), layer.neighbors.tolist(), layer.num_sources
    ([2, 1, 3, 0], [[2, 3], [3, 0]], 4)
    """
    require_vector("seeds", seeds)
    _require_scratch(scratch)
    require_ids("seeds", seeds, scratch.size)
    _require_table(table_ids, table_weights, scratch.size)
    most = min(scratch.size, seeds.size * (table_ids.shape[1] + 1) ** num_layers)
    # The place after the last is written to as well, and counts for nothing.
    ids = np.empty(most + 1, np.int64)
    ids[: seeds.size] = seeds
    if not _mark(ids, seeds.size, scratch):
        raise ValueError(
            "seeds must not repeat an id and scratch must be filled with -1; found otherwise"
        )
    rows_of_ids, rows_of_weights = table_ids.reshape(-1), table_weights.reshape(-1)
    layers: list[Layer] = []
    count = seeds.size
    for _ in range(num_layers):
        neighbors = np.empty((count, table_ids.shape[1]), np.int32)
        weights = np.empty(neighbors.shape, np.float32)
        num_sources = _extend(ids, rows_of_ids, rows_of_weights, scratch, neighbors, weights)
        if num_sources == _FAILED:
            scratch[:] = -1
            _explain_neighbors(ids[:count], table_ids)
        layers.append(Layer(neighbors, weights, num_sources))
        count = num_sources
    _clear(ids, count, scratch)
    return layers, ids[:count]


def _require_table(ids: np.ndarray, weights: np.ndarray, num_items: int) -> None:
    if ids.ndim != 2 or ids.shape != weights.shape or ids.shape[0] != num_items:
        raise ValueError(
            f"the table must have a row of neighbors for each of the {num_items} items, and as many"
            f" weights; found ids of shape {ids.shape} and weights of shape {weights.shape}"
        )
    if not np.issubdtype(ids.dtype, np.integer) or weights.dtype != np.float32:
        raise ValueError(
            f"the table must be of integer ids and float32 weights; found {ids.dtype} and"
            f" {weights.dtype}"
        )
    for name, array in (("ids", ids), ("weights", weights)):
        if not array.flags.c_contiguous:
            raise ValueError(
                f"the table's {name} must stand row after row in memory; found other strides: copy"
                " them by np.ascontiguousarray"
            )


def _explain_neighbors(ids: np.ndarray, table_ids: np.ndarray) -> None:
    """Raise the error for the first bad neighbor of some items."""
    for item in ids.tolist():
        row = table_ids[item]
        bad = (row < -1) | (row >= len(table_ids))
        if bad.any():
            raise ValueError(
                f"neighbor ids must lie in -1..{len(table_ids) - 1}; found {int(row[bad][0])} among"
                f" those of item {item}: walk again, or check the digest of the table"
            )


def _require_scratch(scratch: np.ndarray) -> None:
    if scratch.ndim != 1 or scratch.dtype != np.int32:
        raise ValueError(
            f"scratch must be a one-dimensional int32 array; found shape {scratch.shape} of"
            f" {scratch.dtype}"
        )


@njit(cache=True, nogil=True)
def _clear(ids, count, scratch):  # type: ignore[no-untyped-def]
    # Where many are set, running through all is faster than jumping to each.
    if count > scratch.size // 16:
        scratch[:] = -1
        return
    for slot in range(count):
        scratch[ids[slot]] = -1


@njit(cache=True, nogil=True)
def _number(ids, scratch, unique, slots):  # type: ignore[no-untyped-def]
    count = 0
    for place in range(ids.size):
        item = ids[place]
        slot = scratch[item]
        if slot < 0:
            slot = count
            scratch[item] = slot
            unique[slot] = item
            count += 1
        elif slot >= count:
            _clear(unique, count, scratch)
            return _FAILED
        slots[place] = slot
    _clear(unique, count, scratch)
    return count


@njit(cache=True, nogil=True)
def _mark(ids, count, scratch):  # type: ignore[no-untyped-def]
    """Note the slots of the first ids; False, and nothing noted, if one is noted already."""
    for slot in range(count):
        if scratch[ids[slot]] != -1:
            _clear(ids, slot, scratch)
            return False
        scratch[ids[slot]] = slot
    return True


@njit(cache=True, nogil=True)
def _ask_for_row(table_ids, table_weights, at, width):  # type: ignore[no-untyped-def]
    for column in range(np.uint64(0), width, _NUMBERS_PER_LINE):
        prefetch_far(table_ids, at + column)
        prefetch_far(table_weights, at + column)
    prefetch_far(table_ids, at + width - np.uint64(1))
    prefetch_far(table_weights, at + width - np.uint64(1))


@njit(cache=True, nogil=True)
def _extend(ids, table_ids, table_weights, scratch, neighbors, weights):  # type: ignore[no-untyped-def]
    """Append the new neighbors of the first ids to them; the number of all, or a failure.

    The table's rows are asked for some rows ahead, and the notes about the neighbors in them a few
    rows ahead. Nothing branches on whether a neighbor is new, which nobody can predict.
    """
    num_rows, width = np.uint64(neighbors.shape[0]), np.uint64(neighbors.shape[1])
    slots, copied = neighbors.reshape(-1), weights.reshape(-1)
    limit = np.uint64(scratch.size)
    count = num_rows
    for row in range(num_rows):
        if row + _ROWS_AHEAD < num_rows:
            _ask_for_row(table_ids, table_weights, np.uint64(ids[row + _ROWS_AHEAD]) * width, width)
        if row + _NOTES_AHEAD < num_rows:
            at = np.uint64(ids[row + _NOTES_AHEAD]) * width
            for column in range(width):
                prefetch_far(scratch, np.uint64(table_ids[at + column]))
        start, at = row * width, np.uint64(ids[row]) * width
        for column in range(width):
            copied[start + column] = table_weights[at + column]
        for column in range(width):
            item = np.int64(table_ids[at + column])
            if np.uint64(item) >= limit:
                if item != -1:
                    return _FAILED
                slots[start + column] = 0
                continue
            noted = scratch[np.uint64(item)]
            is_new = noted < 0
            slot = np.int32(count) if is_new else noted
            scratch[np.uint64(item)] = slot
            ids[count] = item
            count += np.uint64(is_new)
            slots[start + column] = slot
    return np.int64(count)
