"""Random walks with restart over a packed bipartite graph (paper, section 3.2).

A step goes item -> context -> item, both uniformly. After each step the walk ends (restarts) with
probability `restart`; it never makes more than `walk_length` steps.

Every step spends one 64-bit draw, a hash of (key, seed item, walk number, step): who walks it, in
which order and beside which others has no influence. The draw is read as a fraction of 2**64.
Times the item's degree, its whole part picks the context, and what is left is a fraction again;
times the context's degree, that picks the item; the fraction left then ends the walk if it is
below `restart`.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, Int32, Int64, UInt64
from numba import get_num_threads, njit, prange

from pinsage.kernels.checks import (
    require_ids,
    require_positive,
    require_starts,
    require_vector,
)
from pinsage.kernels.intrinsics import multiply_high, prefetch
from pinsage.kernels.visits import top_visited

MAX_DEGREE = 2**24 - 1
"""The largest degree that fits in a packed word."""

MAX_START = 2**40 - 1
"""The largest row start that fits in a packed word."""

MAX_VISITS = 2**24
"""The most visits (num_walks * walk_length) one seed may make: counting takes 0.9 GiB a thread."""

_DEGREE_BITS = np.uint64(24)
_DEGREE_MASK = np.uint64(0xFFFFFF)
_ONE = np.uint64(1)
_ITEM_STRIDE = np.uint64(0x9E3779B97F4A7C15)
_WALK_STRIDE = np.uint64(0xD1B54A32D192ED03)
_STEP_STRIDE = np.uint64(0x8CB92BA72F3D8DD7)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)

_BLOCKS_PER_THREAD = 4
# Visits of one chunk that a thread writes, then counts while its cache still holds them.
_VISITS_PER_THREAD = 2**18


@dataclass(frozen=True)
class PackedAdjacency:
    """A bipartite graph laid out for walking: one memory access fewer in each step.

    A packed word is `start << 24 | degree`: where a node's edges begin, and how many there are.
    """

    item_words: UInt64[np.ndarray, " items"]
    """A packed word an item: its edges in `context_words`."""

    context_words: UInt64[np.ndarray, " edges"]
    """For each item's edges the packed word of the context, instead of its id."""

    context_items: Int32[np.ndarray, " edges"]
    """The item ids of each context."""

    @property
    def num_items(self) -> int:
        """How many items there are, cold ones included."""
        return int(self.item_words.size)


def pack(
    item_starts: Int64[np.ndarray, " item_starts"],
    item_contexts: Int32[np.ndarray, " edges"],
    context_starts: Int64[np.ndarray, " context_starts"],
    context_items: Int32[np.ndarray, " edges"],
) -> PackedAdjacency:
    """Pack compressed adjacency for walking.

    Args:
        item_starts: Row starts of the items' contexts.
        item_contexts: Contexts of every item.
        context_starts: Row starts of the contexts' items.
        context_items: Items of every context: the transpose of the above. Kept, not copied.

    Returns:
        The packed graph: 8 bytes an item and 12 bytes an edge, 4 of them shared with
        `context_items`.

    Raises:
        ValueError: The two directions don't describe the same edges, or a degree or row start
            is too large for a packed word.
    """
    require_vector("item_contexts", item_contexts)
    require_vector("context_items", context_items)
    require_starts("item_starts", item_starts, item_contexts.size)
    require_starts("context_starts", context_starts, context_items.size)
    require_ids("item_contexts", item_contexts, context_starts.size - 1)
    require_ids("context_items", context_items, item_starts.size - 1)
    # A walk that reached a node without edges would read past its list.
    _require_degrees("item_starts", item_starts, "context_items", context_items)
    _require_degrees("context_starts", context_starts, "item_contexts", item_contexts)
    item_words = _packed_words("item", item_starts)
    words_of_contexts = _packed_words("context", context_starts)
    return PackedAdjacency(
        item_words=item_words,
        context_words=words_of_contexts[item_contexts],
        context_items=np.ascontiguousarray(context_items, np.int32),
    )


def random_walks(
    packed: PackedAdjacency,
    seeds: Int[np.ndarray, " seeds"],
    *,
    key: int,
    num_walks: int,
    walk_length: int,
    restart: float,
) -> Int32[np.ndarray, "seeds visits"]:
    """Walk from every seed and list the items that its walks arrive at.

    Args:
        packed: The graph.
        seeds: Item ids to walk from; repeats walk the same way again.
        key: 64-bit key of the draws, from `stream_key`.
        num_walks: Walks a seed.
        walk_length: The most steps a walk makes.
        restart: Probability that a walk ends after a step.

    Returns:
        num_walks * walk_length columns: first the visits, all walks' first steps before their
        second steps and so on, the seed itself included; then -1. A cold seed's row is all -1.

    Raises:
        ValueError: An argument out of its range.
    """
    require_vector("seeds", seeds)
    require_ids("seeds", seeds, packed.num_items)
    require_positive("num_walks", num_walks)
    require_positive("walk_length", walk_length)
    if num_walks * walk_length > MAX_VISITS:
        raise ValueError(
            f"num_walks * walk_length must be at most {MAX_VISITS}; found"
            f" {num_walks} * {walk_length}"
        )
    if not 0.0 <= restart <= 1.0:
        raise ValueError(f"restart must be a probability, 0 to 1; found {restart}")
    if not 0 <= key < 2**64:
        raise ValueError(f"key must be an unsigned 64-bit number; found {key}")
    visited = np.empty((seeds.size, num_walks * walk_length), np.int32)
    _walk_from_all(
        packed.item_words,
        packed.context_words,
        packed.context_items,
        seeds.astype(np.int64, copy=False),
        np.uint64(key),
        num_walks,
        # Certain restart is no fraction below 1: it is a limit of one step.
        walk_length if restart < 1.0 else 1,
        np.uint64(math.ceil(restart * 2**64) if restart < 1.0 else 0),
        min(get_num_threads() * _BLOCKS_PER_THREAD, max(1, seeds.size)),
        visited,
    )
    return visited


def walk_neighborhoods(
    packed: PackedAdjacency,
    seeds: Int[np.ndarray, " seeds"],
    *,
    key: int,
    num_walks: int,
    walk_length: int,
    restart: float,
    num_neighbors: int,
) -> tuple[Int32[np.ndarray, "seeds neighbors"], Int32[np.ndarray, "seeds neighbors"]]:
    """Find each seed's neighborhood: the items its walks visit most (paper, section 3.2).

    Visits to the seed itself don't count. A row depends on the graph, the seed and the settings
    alone: not on the other seeds, their order, or the number of threads.

    Args:
        packed: The graph.
        seeds: Item ids to walk from.
        key: 64-bit key of the draws, from `stream_key`.
        num_walks: Walks a seed.
        walk_length: The most steps a walk makes.
        restart: Probability that a walk ends after a step.
        num_neighbors: How many items to keep (*T*).

    Returns:
        Neighbor ids and visit counts, count descending, ties by smaller id; where fewer items
        were reached, id -1 and count 0 follow. A seed that reaches no other item has an empty
        row.

    Raises:
        ValueError: An argument out of its range.
    """
    require_positive("num_neighbors", num_neighbors)
    require_positive("num_walks", num_walks)
    require_positive("walk_length", walk_length)
    require_vector("seeds", seeds)
    require_ids("seeds", seeds, packed.num_items)
    neighbor_ids = np.empty((seeds.size, num_neighbors), np.int32)
    counts = np.empty((seeds.size, num_neighbors), np.int32)
    rows_per_thread = max(1, _VISITS_PER_THREAD // (num_walks * walk_length))
    chunk = rows_per_thread * get_num_threads()
    # An empty array of seeds is one empty chunk, so that its settings are checked too.
    for first in range(0, max(1, seeds.size), chunk):
        rows = slice(first, first + chunk)
        visited = random_walks(
            packed,
            seeds[rows],
            key=key,
            num_walks=num_walks,
            walk_length=walk_length,
            restart=restart,
        )
        neighbor_ids[rows], counts[rows] = top_visited(visited, seeds[rows], num_neighbors)
    return neighbor_ids, counts


def _packed_words(name: str, starts: np.ndarray) -> UInt64[np.ndarray, " nodes"]:
    degrees = np.diff(starts)
    if degrees.size and int(degrees.max()) > MAX_DEGREE:
        node = int(degrees.argmax())
        raise ValueError(
            f"a degree must be at most {MAX_DEGREE}; {name} {node} has {int(degrees[node])} edges:"
            " leave it out, or sample its edges"
        )
    if int(starts[-1]) > MAX_START:
        raise ValueError(
            f"a graph must have at most {MAX_START} edges; found {int(starts[-1])}: split it"
        )
    return starts[:-1].astype(np.uint64) << _DEGREE_BITS | degrees.astype(np.uint64)


def _require_degrees(starts_name: str, starts: np.ndarray, ids_name: str, ids: np.ndarray) -> None:
    found = _occurrences(ids, starts.size - 1)
    wrong = found != np.diff(starts)
    if bool(wrong.any()):
        node = int(wrong.argmax())
        raise ValueError(
            f"{starts_name} and {ids_name} must describe the same edges; node {node} has"
            f" {int(starts[node + 1] - starts[node])} and {int(found[node])}"
        )


@njit(cache=True, nogil=True)
def _occurrences(ids, num_nodes):  # type: ignore[no-untyped-def]
    found = np.zeros(num_nodes, np.int64)
    for node in ids:
        found[node] += 1
    return found


@njit(cache=True, nogil=True)
def _mix(x):  # type: ignore[no-untyped-def]
    """The splitmix64 finalizer: every input bit moves every output bit."""
    x = (x ^ (x >> np.uint64(30))) * _MIX_1
    x = (x ^ (x >> np.uint64(27))) * _MIX_2
    return x ^ (x >> np.uint64(31))


@njit(cache=True, nogil=True)
def _walk_from(  # type: ignore[no-untyped-def]
    item_words, context_words, context_items, seed_draws, walk_length, end_below, walkers, visited
):
    """Move all walkers of one seed in lock-step; returns the number of visits written.

    Each pass asks for the memory that the next pass reads, so that its misses overlap. `walkers`
    holds, for each walk still going, the item it stands on, its walk number, a position among the
    edges and the unspent fraction of its draw.
    """
    here, walk, position, fraction = walkers
    going = here.size
    num_visits = 0
    for step in range(walk_length):
        step_draws = seed_draws + np.uint64(step) * _STEP_STRIDE
        for w in range(going):
            word = item_words[here[w]]
            draw = _mix(step_draws + walk[w] * _WALK_STRIDE)
            degree = word & _DEGREE_MASK
            position[w] = (word >> _DEGREE_BITS) + multiply_high(draw, degree)
            fraction[w] = draw * degree
            prefetch(context_words, position[w])
        for w in range(going):
            word = context_words[position[w]]
            degree = word & _DEGREE_MASK
            position[w] = (word >> _DEGREE_BITS) + multiply_high(fraction[w], degree)
            fraction[w] *= degree
            prefetch(context_items, position[w])
        still_going = 0
        for w in range(going):
            item = context_items[position[w]]
            visited[num_visits + w] = item
            here[still_going] = item
            walk[still_going] = walk[w]
            still_going += fraction[w] >= end_below
        num_visits += going
        going = still_going
        for w in range(going):
            prefetch(item_words, here[w])
    return num_visits


@njit(cache=True, nogil=True, parallel=True)
def _walk_from_all(  # type: ignore[no-untyped-def]
    item_words,
    context_words,
    context_items,
    seeds,
    key,
    num_walks,
    walk_length,
    end_below,
    num_blocks,
    visited,
):
    for block in prange(num_blocks):
        walkers = np.empty((4, num_walks), np.uint64)
        last = seeds.size * (block + 1) // num_blocks
        for row in range(seeds.size * block // num_blocks, last):
            # The words of a seed four ahead, then the edges of a seed two ahead.
            if row + 4 < last:
                prefetch(item_words, np.uint64(seeds[row + 4]))
            if row + 2 < last:
                start = item_words[seeds[row + 2]] >> _DEGREE_BITS
                prefetch(context_words, start)
                prefetch(context_words, start + np.uint64(8))
            seed = np.uint64(seeds[row])
            num_visits = 0
            if item_words[seed] & _DEGREE_MASK:
                walkers[0] = seed
                for w in range(num_walks):
                    walkers[1, w] = w
                num_visits = _walk_from(
                    item_words,
                    context_words,
                    context_items,
                    _mix(key + (seed + _ONE) * _ITEM_STRIDE),
                    walk_length,
                    end_below,
                    (walkers[0], walkers[1], walkers[2], walkers[3]),
                    visited[row],
                )
            visited[row, num_visits:] = -1
