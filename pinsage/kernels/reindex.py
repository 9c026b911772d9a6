"""Item ids to slots, in order of first sight: how a minibatch names its nodes (Algorithm 2)."""

import numpy as np
from jaxtyping import Int, Int32
from numba import njit

from pinsage.kernels.checks import require_ids, require_vector

_FAILED = -1


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


def extend_with_neighbors(
    unique: Int[np.ndarray, " unique"],
    neighbor_ids: Int32[np.ndarray, "unique neighbors"],
    scratch: Int32[np.ndarray, " items"],
) -> tuple[Int[np.ndarray, " extended"], Int32[np.ndarray, "unique neighbors"]]:
    """Append the neighbors not yet seen, and name every neighbor by its slot.

    Args:
        unique: Distinct item ids, int64 or int32: the nodes of the layer above.
        neighbor_ids: A row of neighbors for each of them; -1 where there is none.
        scratch: As for `unique_in_order`.

    Returns:
        `all_ids`, which starts with `unique` and goes on with new neighbors in order of first
        sight, and the slot of every neighbor in it. A missing neighbor gets slot 0, which is
        harmless because its importance weight is 0.

    Raises:
        ValueError: Ids outside the scratch array, repeats in `unique`, rows that don't match
            it, or a scratch array that wasn't all -1 where this call looked.

    >>> scratch = np.full(10, -1, np.int32)
    >>> neighbors = np.array([[5, 8], [7, -1]], np.int32)
    >>> all_ids, slots = extend_with_neighbors(np.array([7, 5]), neighbors, scratch)
    >>> all_ids.tolist(), slots.tolist()
    ([7, 5, 8], [[1, 2], [0, 0]])
    """
    require_vector("unique", unique)
    _require_scratch(scratch)
    require_ids("unique", unique, scratch.size)
    if neighbor_ids.ndim != 2 or neighbor_ids.shape[0] != unique.size:
        raise ValueError(
            f"neighbor_ids must have one row for each of the {unique.size} ids; found shape"
            f" {neighbor_ids.shape}"
        )
    require_ids("neighbor_ids", neighbor_ids, scratch.size, lowest=-1)
    most = min(unique.size + neighbor_ids.size, scratch.size)
    all_ids = np.empty(max(most, unique.size), unique.dtype)
    slots = np.empty(neighbor_ids.shape, np.int32)
    num_ids = _extend(unique, np.ascontiguousarray(neighbor_ids), scratch, all_ids, slots)
    if num_ids == _FAILED:
        raise ValueError(
            "unique must not repeat an id and scratch must be filled with -1; found otherwise"
        )
    return all_ids[:num_ids].copy(), slots


def _require_scratch(scratch: np.ndarray) -> None:
    if scratch.ndim != 1 or scratch.dtype != np.int32:
        raise ValueError(
            f"scratch must be a one-dimensional int32 array; found shape {scratch.shape} of"
            f" {scratch.dtype}"
        )


@njit(cache=True, nogil=True)
def _clear(ids, count, scratch):  # type: ignore[no-untyped-def]
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
def _extend(unique, neighbor_ids, scratch, all_ids, slots):  # type: ignore[no-untyped-def]
    for slot in range(unique.size):
        if scratch[unique[slot]] != -1:
            _clear(unique, slot, scratch)
            return _FAILED
        scratch[unique[slot]] = slot
        all_ids[slot] = unique[slot]
    count = unique.size
    for row in range(neighbor_ids.shape[0]):
        for column in range(neighbor_ids.shape[1]):
            item = neighbor_ids[row, column]
            slot = 0
            if item >= 0:
                slot = scratch[item]
                if slot < 0:
                    slot = count
                    scratch[item] = slot
                    all_ids[slot] = item
                    count += 1
            slots[row, column] = slot
    _clear(all_ids, count, scratch)
    return count
