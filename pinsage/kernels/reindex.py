"""Item ids to slots: how a minibatch names its nodes (Algorithm 2).

Slots count up by id. So whoever follows them through a table of neighbors or of features goes
through it from its start to its end, which memory and disks do much faster than jumping about.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int, Int32, Int64, UInt64
from numba import njit

from pinsage.kernels.checks import require_ids, require_vector
from pinsage.kernels.intrinsics import lowest_one, prefetch_far

_MOST_ITEMS = 2**32 - 1
_NUMBERS_PER_LINE = np.uint64(16)
_WORD = 64

_LINES_AHEAD = np.uint64(96)
"""Cache lines of table rows that are under way at a time."""


@dataclass(frozen=True)
class Scratch:
    """Where one thread notes slots while it gives them out, kept from call to call.

    Sets of items are bits, which stay in the near caches where a number an item would not. Between
    calls all sets are empty. A call pays for the items that it met, and for looking at a bit for
    every 64 items there are, 64 of them at a time; with many neighbors, a word instead of a bit.

    Attributes:
        slots: The slot of each item met; anything for others, and 0 in one place more, which stands
            for a neighbor that is not there.
        known: The items that have a slot.
        met: The items met since slots were last given out.
        words_met: Which words of `met` may have a bit set.
    """

    slots: Int32[np.ndarray, " items+1"]
    known: UInt64[np.ndarray, " words"]
    met: UInt64[np.ndarray, " words"]
    words_met: UInt64[np.ndarray, " words_of_words"]

    @classmethod
    def of(cls, num_items: int) -> "Scratch":
        """Make room for items 0 to `num_items` - 1.

        Raises:
            ValueError: More than 4,294,967,295 items, whose ids don't fit 32 bits.
        """
        if num_items > _MOST_ITEMS:
            raise ValueError(
                f"minibatches are of at most {_MOST_ITEMS:,} items; found {num_items:,}"
            )
        words_of_words = num_items // _WORD**2 + 1
        return cls(
            slots=np.zeros(num_items + 1, np.int32),
            known=np.zeros(words_of_words * _WORD, np.uint64),
            met=np.zeros(words_of_words * _WORD, np.uint64),
            words_met=np.zeros(words_of_words, np.uint64),
        )

    @property
    def num_items(self) -> int:
        """How many items there is room for."""
        return len(self.slots) - 1

    def clear(self) -> None:
        """Empty all sets, whatever is in them."""
        for words in (self.known, self.met, self.words_met):
            words[:] = 0


def unique_ids(
    ids: Int[np.ndarray, " ids"], scratch: Scratch
) -> tuple[Int64[np.ndarray, " unique"], Int32[np.ndarray, " ids"]]:
    """Give every distinct id a slot, by id: `np.unique` without sorting.

    Args:
        ids: Item ids, repeats welcome.
        scratch: Room for all items.

    Returns:
        The distinct ids, ascending, and the slot of every id: `unique[slots] == ids`.

    Raises:
        ValueError: Ids that are no integers, or of items there is no room for.

    >>> unique, slots = unique_ids(np.array([7, 3, 7, 0]), Scratch.of(10))
    >>> unique.tolist(), slots.tolist()
    ([0, 3, 7], [2, 1, 2, 0])
    """
    require_vector("ids", ids)
    require_ids("ids", ids, scratch.num_items)
    unique = np.empty(min(ids.size, scratch.num_items), np.int64)
    _meet(ids, scratch.met, scratch.words_met)
    sets = (scratch.known, scratch.met, scratch.words_met)
    unique = unique[: _number(unique, 0, *sets, scratch.slots)]
    _forget(unique, scratch.known)
    return unique, scratch.slots[ids]


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
    scratch: Scratch,
) -> tuple[list[Layer], Int64[np.ndarray, " sources"]]:
    """Name the seeds, their neighbors, their neighbors' neighbors and so on by slots.

    A node keeps its slot in all layers. The seeds come first, in the order given, then the nodes
    that each layer adds, by id.

    Args:
        seeds: Distinct item ids.
        table_ids: A row of neighbor ids an item, int32 or int64, -1 where there is none. Rows are
            read in place, a memory-mapped table too.
        table_weights: Their weights.
        num_layers: How many times to go from nodes to their neighbors.
        scratch: Room for as many items as the table has rows.

    Returns:
        The layers, the seeds' own first, and the ids of all nodes, in order of their slots.

    Raises:
        ValueError: Arrays that don't fit together, repeats among the seeds, or ids of no item among
            seeds or neighbors met. The scratch can be used again all the same.

    >>> table = np.array([[1, 2], [0, -1], [3, 0], [-1, -1]], np.int32)
    >>> weights = np.array([[0.6, 0.4], [1, 0], [0.5, 0.5], [0, 0]], np.float32)
    >>> [layer], ids = layers_from_table(
    ...     np.array([2, 1]), table, weights, num_layers=1, scratch=Scratch.of(4)
    ... )
    >>> ids.tolist(), layer.neighbors.tolist(), layer.num_sources
    ([2, 1, 0, 3], [[3, 2], [2, 0]], 4)
    """
    require_vector("seeds", seeds)
    require_ids("seeds", seeds, scratch.num_items)
    _require_table(table_ids, table_weights, scratch.num_items)
    most = min(scratch.num_items, seeds.size * (table_ids.shape[1] + 1) ** num_layers)
    ids = np.empty(max(most, seeds.size), np.int64)
    ids[: seeds.size] = seeds
    if not _know(seeds, scratch.known, scratch.slots):
        scratch.clear()
        raise ValueError("seeds must not repeat an id; found otherwise")
    sets = (scratch.known, scratch.met, scratch.words_met)
    rows_of_ids, rows_of_weights = table_ids.reshape(-1), table_weights.reshape(-1)
    last = table_ids.dtype.type(min(scratch.num_items - 1, np.iinfo(table_ids.dtype).max))
    none = np.uint64(scratch.num_items)
    layers: list[Layer] = []
    count = seeds.size
    for _ in range(num_layers):
        neighbors = np.empty((count, table_ids.shape[1]), np.int32)
        weights = np.empty(neighbors.shape, np.float32)
        if not _meet_neighbors(ids, rows_of_ids, neighbors, last, none, *sets[1:]):
            scratch.clear()
            _explain_neighbors(ids[:count], table_ids)
        num_sources = _number(ids, count, *sets, scratch.slots)
        _name_neighbors(neighbors, scratch.slots)
        _copy_weights(ids, rows_of_weights, weights)
        layers.append(Layer(neighbors, weights, num_sources))
        count = num_sources
    _forget(ids[:count], scratch.known)
    return layers, ids[:count]


def _require_table(ids: np.ndarray, weights: np.ndarray, num_items: int) -> None:
    if ids.ndim != 2 or ids.shape != weights.shape or ids.shape[0] != num_items:
        raise ValueError(
            f"the table must have a row of neighbors for each of the {num_items} items, and as many"
            f" weights; found ids of shape {ids.shape} and weights of shape {weights.shape}"
        )
    if ids.dtype not in (np.int32, np.int64) or weights.dtype != np.float32:
        raise ValueError(
            f"the table must be of int32 or int64 ids and float32 weights; found {ids.dtype} and"
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


@njit(cache=True, nogil=True)
def _know(seeds, known, slots):  # type: ignore[no-untyped-def]
    """Give the seeds the first slots; False if one of them repeats another."""
    repeats = False
    for slot in range(seeds.size):
        item = np.uint64(seeds[slot])
        bit = np.uint64(1) << (item & np.uint64(63))
        repeats |= (known[item >> np.uint64(6)] & bit) != 0
        known[item >> np.uint64(6)] |= bit
        slots[item] = slot
    return not repeats


@njit(cache=True, nogil=True)
def _forget(ids, known):  # type: ignore[no-untyped-def]
    if ids.size > known.size:
        known[:] = 0
        return
    for item in ids:
        known[np.uint64(item) >> np.uint64(6)] = 0


@njit(cache=True, nogil=True)
def _meet(ids, met, words_met):  # type: ignore[no-untyped-def]
    for place in range(ids.size):
        item = np.uint64(ids[place])
        word = item >> np.uint64(6)
        met[word] |= np.uint64(1) << (item & np.uint64(63))
        words_met[word >> np.uint64(6)] |= np.uint64(1) << (word & np.uint64(63))


@njit(cache=True, nogil=True)
def _rows_ahead(width):  # type: ignore[no-untyped-def]
    return _LINES_AHEAD // (width // _NUMBERS_PER_LINE + np.uint64(2))


@njit(cache=True, nogil=True)
def _ask_for_row(table, at, width):  # type: ignore[no-untyped-def]
    for column in range(np.uint64(0), width, _NUMBERS_PER_LINE):
        prefetch_far(table, at + column)
    prefetch_far(table, at + width - np.uint64(1))


@njit(cache=True, nogil=True)
def _meet_neighbors(ids, table_ids, neighbors, last, none, met, words_met):  # type: ignore[no-untyped-def]
    """Meet the neighbors of the first ids, and copy their ids, `none` where there is no neighbor.

    False if one is above the `last` item, or below -1. The table's rows are asked for some rows
    ahead. Nothing branches on what a neighbor is, which nobody can predict. Where there are fewer
    words than neighbors, all of them are looked at later.
    """
    num_rows, width = np.uint64(neighbors.shape[0]), np.uint64(neighbors.shape[1])
    copied, ahead = neighbors.reshape(-1), _rows_ahead(width)
    few = num_rows * width < np.uint64(met.size)
    if not few:
        words_met[:] = ~np.uint64(0)
    for row in range(num_rows):
        if row + ahead < num_rows:
            _ask_for_row(table_ids, np.uint64(ids[row + ahead]) * width, width)
        start, at = row * width, np.uint64(ids[row]) * width
        strangers = False
        for column in range(width):
            told = table_ids[at + column]
            strangers |= (told > last) | (told < -1)
            # Ids of up to 32 bits, whatever a signed one of them stands for.
            copied[start + column] = np.int32(min(np.uint64(np.int64(told)), none))
        if strangers:
            return False
        for column in range(width):
            item = np.uint64(np.uint32(copied[start + column]))
            met[item >> np.uint64(6)] |= np.uint64(1) << (item & np.uint64(63))
            if few:
                word = item >> np.uint64(6)
                words_met[word >> np.uint64(6)] |= np.uint64(1) << (word & np.uint64(63))
    met[none >> np.uint64(6)] &= ~(np.uint64(1) << (none & np.uint64(63)))
    return True


@njit(cache=True, nogil=True)
def _number(ids, count, known, met, words_met, slots):  # type: ignore[no-untyped-def]
    """Append the items met that have no slot yet to the first ids, by id; the number of all."""
    slot = np.uint64(count)
    for place in range(np.uint64(words_met.size)):
        words = words_met[place]
        words_met[place] = 0
        while words:
            word = place * np.uint64(64) + lowest_one(words)
            words &= words - np.uint64(1)
            added = met[word] & ~known[word]
            met[word] = 0
            known[word] |= added
            while added:
                item = word * np.uint64(64) + lowest_one(added)
                added &= added - np.uint64(1)
                ids[slot] = item
                slots[item] = slot
                slot += np.uint64(1)
    return np.int64(slot)


@njit(cache=True, nogil=True)
def _name_neighbors(neighbors, slots):  # type: ignore[no-untyped-def]
    """Put slots in the place of ids."""
    named = neighbors.reshape(-1)
    for place in range(np.uint64(named.size)):
        named[place] = slots[np.uint64(np.uint32(named[place]))]


@njit(cache=True, nogil=True)
def _copy_weights(ids, table_weights, weights):  # type: ignore[no-untyped-def]
    num_rows, width = np.uint64(weights.shape[0]), np.uint64(weights.shape[1])
    copied, ahead = weights.reshape(-1), _rows_ahead(width)
    for row in range(num_rows):
        if row + ahead < num_rows:
            _ask_for_row(table_weights, np.uint64(ids[row + ahead]) * width, width)
        start, at = row * width, np.uint64(ids[row]) * width
        for column in range(width):
            copied[start + column] = table_weights[at + column]
