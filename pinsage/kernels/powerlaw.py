"""Graphs with power-law degrees and communities, drawn context by context in constant memory.

Nodes are drawn by rank: the node of rank r has a weight of `(r + HEAD) ** -exponent`. Rank r is of
community `r % num_communities`, so that every community has popular nodes and rare ones. A rank's
id is its place in a keyed permutation, so that ids tell nothing about degree or community.

A context draws most of its items from its own community, the others from the whole catalog, and
none twice. Its edges are a function of (key, rank of the context) alone.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Int64
from numba import njit

from pinsage.kernels.checks import require_ids, require_vector

HEAD = 2.0
"""Added to every rank: the larger, the less the first few nodes stand out."""

_TRIES = 8
"""Draws from the community, then from the catalog, before the next free rank is taken."""

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_ROUNDS = 4
_NOTHING = np.int64(-1)


def ids_of(ranks: Int[np.ndarray, " n"], num_nodes: int, key: int) -> Int64[np.ndarray, " n"]:
    """Give every rank its id: a keyed permutation of 0 to `num_nodes` - 1.

    Raises:
        ValueError: A rank is none of these.

    >>> sorted(ids_of(np.arange(5), 5, key=7).tolist())
    [0, 1, 2, 3, 4]
    """
    return _permuted("ranks", ranks, num_nodes, key, backward=False)


def ranks_of(ids: Int[np.ndarray, " n"], num_nodes: int, key: int) -> Int64[np.ndarray, " n"]:
    """Give every id its rank: undoes `ids_of`.

    Raises:
        ValueError: An id is none of 0 to `num_nodes` - 1.

    >>> ranks_of(ids_of(np.arange(5), 5, key=7), 5, key=7).tolist()
    [0, 1, 2, 3, 4]
    """
    return _permuted("ids", ids, num_nodes, key, backward=True)


class GraphShape(NamedTuple):
    """What a graph is drawn from."""

    num_items: int
    num_contexts: int
    num_edges: int
    exponent: float
    """How fast weights fall with the rank, on both sides; 0 makes all nodes alike."""
    num_communities: int
    stray_share: float
    """Share of a context's items that are drawn from the whole catalog. A context that would take
    more than half its community takes further items from the catalog too."""
    draw_key: np.uint64
    item_key: np.uint64
    """Key of the items' permutation, as for `ids_of`."""
    context_key: np.uint64


def context_sizes(
    ranks: Int[np.ndarray, " n"], *, num_contexts: int, num_edges: int, exponent: float
) -> Int64[np.ndarray, " n"]:
    """Count the edges of contexts: their shares of `num_edges`, rounded so that all add up to it.

    Raises:
        ValueError: A rank is none of 0 to `num_contexts` - 1.

    >>> context_sizes(np.arange(4), num_contexts=4, num_edges=10, exponent=1.0).tolist()
    [3, 3, 2, 2]
    """
    require_vector("ranks", ranks)
    require_ids("ranks", ranks, num_contexts)
    sizes = np.empty(ranks.size, np.int64)
    _sizes(ranks.astype(np.int64), num_contexts, num_edges, float(exponent), sizes)
    return sizes


def power_law_edges(
    shape: GraphShape, context_ranks: Int64[np.ndarray, " contexts"], dtype: np.dtype
) -> tuple[Int[np.ndarray, " edges"], Int[np.ndarray, " edges"]]:
    """Draw the edges of some contexts, and shuffle them as the edges of a log are.

    Args:
        shape: The whole graph.
        context_ranks: Which contexts, by rank.
        dtype: Integer type of the ids.

    Returns:
        Item ids and context ids, each edge of the graph once.

    Raises:
        ValueError: A rank out of range, or a context that would hold most of the items.
    """
    sizes = context_sizes(
        context_ranks,
        num_contexts=shape.num_contexts,
        num_edges=shape.num_edges,
        exponent=shape.exponent,
    )
    largest = int(sizes.max()) if sizes.size else 0
    if largest > shape.num_items // 2:
        raise ValueError(
            f"a context may hold half of the {shape.num_items} items; the largest would hold"
            f" {largest}: lower num_edges or exponent, or raise num_items or num_contexts"
        )
    total = int(sizes.sum())
    items, contexts = np.empty(total, dtype), np.empty(total, dtype)
    _draw_contexts(shape, context_ranks, sizes, items, contexts)
    first = int(context_ranks[0]) if context_ranks.size else 0
    _shuffle(items, contexts, shape.draw_key ^ np.uint64(first))
    return items, contexts


def power_law_pairs(
    shape: GraphShape, first: int, count: int
) -> tuple[Int64[np.ndarray, " pairs"], Int64[np.ndarray, " pairs"]]:
    """Draw pairs of distinct items of one community, each item by its weight.

    Args:
        shape: The graph.
        first: Number of the first pair; a pair is a function of the shape and its number.
        count: How many pairs.

    Returns:
        Item ids of queries and of positives.

    Raises:
        ValueError: A community would have a single item.
    """
    if shape.num_items < 2 * shape.num_communities:
        raise ValueError(
            f"{shape.num_communities} communities need {2 * shape.num_communities} items; found"
            f" {shape.num_items}"
        )
    queries, positives = np.empty(count, np.int64), np.empty(count, np.int64)
    _draw_pairs(shape, first, queries, positives)
    return queries, positives


def _permuted(
    name: str, numbers: np.ndarray, num_nodes: int, key: int, *, backward: bool
) -> np.ndarray:
    require_vector(name, numbers)
    require_ids(name, numbers, num_nodes)
    permuted = np.empty(numbers.size, np.int64)
    _permute(numbers.astype(np.uint64), np.uint64(num_nodes), np.uint64(key), backward, permuted)
    return permuted


@njit(cache=True, nogil=True)
def _mix(x):  # type: ignore[no-untyped-def]
    x = (x ^ (x >> np.uint64(30))) * _MIX_1
    x = (x ^ (x >> np.uint64(27))) * _MIX_2
    return x ^ (x >> np.uint64(31))


@njit(cache=True, nogil=True)
def _fraction(draw):  # type: ignore[no-untyped-def]
    return np.float64(draw >> np.uint64(11)) * 2.0**-53


@njit(cache=True, nogil=True)
def _step(number, num_nodes, key, backward):  # type: ignore[no-untyped-def]
    """Permute once within 0 to 2**bits - 1, and again while that leads out of the nodes.

    A Feistel network: each half is changed by a hash of the other, which can be undone.
    """
    one = np.uint64(1)
    bits = np.uint64(2)
    while one << bits < num_nodes:
        bits += one
    low_bits = bits // np.uint64(2)
    low_mask = (one << low_bits) - one
    high_mask = (one << (bits - low_bits)) - one
    while True:
        low, high = number & low_mask, number >> low_bits
        for turn in range(_ROUNDS):
            at = np.uint64(_ROUNDS - 1 - turn if backward else turn)
            if at & one:
                high ^= _mix(key + at * _GOLDEN + low) & high_mask
            else:
                low ^= _mix(key + at * _GOLDEN + high) & low_mask
        number = high << low_bits | low
        if number < num_nodes:
            return number


@njit(cache=True, nogil=True)
def _permute(numbers, num_nodes, key, backward, permuted):  # type: ignore[no-untyped-def]
    for place in range(numbers.size):
        permuted[place] = _step(numbers[place], num_nodes, key, backward)


@njit(cache=True, nogil=True)
def _mass(rank, exponent):  # type: ignore[no-untyped-def]
    """The integral of the weights below a rank, up to a constant."""
    if exponent == 1.0:
        return np.log(rank + HEAD)
    return (rank + HEAD) ** (1.0 - exponent) / (1.0 - exponent)


@njit(cache=True, nogil=True)
def _rank_at(fraction, low, span, size, exponent):  # type: ignore[no-untyped-def]
    """The rank at a fraction of the mass of `size` ranks."""
    mass = low + fraction * span
    if exponent == 1.0:
        rank = np.exp(mass) - HEAD
    else:
        rank = (mass * (1.0 - exponent)) ** (1.0 / (1.0 - exponent)) - HEAD
    return min(max(np.int64(rank), np.int64(0)), size - np.int64(1))


@njit(cache=True, nogil=True)
def _sizes(ranks, num_contexts, num_edges, exponent, sizes):  # type: ignore[no-untyped-def]
    low = _mass(0.0, exponent)
    scale = num_edges / (_mass(np.float64(num_contexts), exponent) - low)
    for place in range(ranks.size):
        rank = ranks[place]
        stop = num_edges
        if rank + 1 < num_contexts:
            stop = np.int64((_mass(np.float64(rank + 1), exponent) - low) * scale)
        sizes[place] = stop - np.int64((_mass(np.float64(rank), exponent) - low) * scale)


@njit(cache=True, nogil=True)
def _is_new(rank, seen, mask):  # type: ignore[no-untyped-def]
    slot = _mix(np.uint64(rank)) & mask
    while seen[slot] != _NOTHING:
        if seen[slot] == rank:
            return False
        slot = (slot + np.uint64(1)) & mask
    seen[slot] = rank
    return True


@njit(cache=True, nogil=True)
def _capacity(size):  # type: ignore[no-untyped-def]
    """A power of two at least twice the size."""
    capacity = np.int64(16)
    while capacity < 2 * size:
        capacity *= 2
    return capacity


@njit(cache=True, nogil=True)
def _draw_contexts(shape, ranks, sizes, items, contexts):  # type: ignore[no-untyped-def]
    largest = np.int64(0)
    for size in sizes:
        largest = max(largest, size)
    seen = np.empty(_capacity(largest), np.int64)
    num_contexts = np.uint64(shape.num_contexts)
    place = 0
    for number in range(ranks.size):
        drawn = items[place : place + sizes[number]]
        _draw_items(shape, ranks[number], drawn, seen[: _capacity(drawn.size)])
        contexts[place : place + drawn.size] = _step(
            np.uint64(ranks[number]), num_contexts, shape.context_key, backward=False
        )
        place += drawn.size


@njit(cache=True, nogil=True)
def _draw_items(shape, context, drawn, seen):  # type: ignore[no-untyped-def]
    """Fill `drawn` with the ids of one context's items; `seen` is a hash table to work with."""
    seen[:] = _NOTHING
    mask = np.uint64(seen.size - 1)
    low = _mass(0.0, shape.exponent)
    span = _mass(np.float64(shape.num_items), shape.exponent) - low
    community = context % shape.num_communities
    members = (shape.num_items - 1 - community) // shape.num_communities + 1
    own_span = _mass(np.float64(members), shape.exponent) - low
    own_left = members // 2
    num_items = np.uint64(shape.num_items)
    draws = _mix(shape.draw_key + (np.uint64(context) + np.uint64(1)) * _GOLDEN)
    for place in range(drawn.size):
        draws += _GOLDEN
        own = own_left > 0 and _fraction(_mix(draws)) >= shape.stray_share
        rank = _NOTHING
        for attempt in range(2 * _TRIES):
            own = own and attempt < _TRIES
            draws += _GOLDEN
            fraction = _fraction(_mix(draws))
            if own:
                rank = _rank_at(fraction, low, own_span, members, shape.exponent)
                rank = rank * shape.num_communities + community
            else:
                rank = _rank_at(fraction, low, span, shape.num_items, shape.exponent)
            if _is_new(rank, seen, mask):
                own_left -= np.int64(own)
                break
        else:
            rank = (rank + 1) % shape.num_items
            while not _is_new(rank, seen, mask):
                rank = (rank + 1) % shape.num_items
        drawn[place] = _step(np.uint64(rank), num_items, shape.item_key, backward=False)


@njit(cache=True, nogil=True)
def _draw_pairs(shape, first, queries, positives):  # type: ignore[no-untyped-def]
    low = _mass(0.0, shape.exponent)
    num_items = np.uint64(shape.num_items)
    span = _mass(np.float64(shape.num_items), shape.exponent) - low
    for place in range(queries.size):
        draws = _mix(~shape.draw_key + (np.uint64(first + place) + np.uint64(1)) * _GOLDEN)
        query = _rank_at(_fraction(_mix(draws)), low, span, shape.num_items, shape.exponent)
        community = query % shape.num_communities
        members = (shape.num_items - 1 - community) // shape.num_communities + 1
        own_span = _mass(np.float64(members), shape.exponent) - low
        own = query // shape.num_communities
        other = own
        for _ in range(_TRIES):
            draws += _GOLDEN
            other = _rank_at(_fraction(_mix(draws)), low, own_span, members, shape.exponent)
            if other != own:
                break
        if other == own:
            other = (own + 1) % members
        positive = other * shape.num_communities + community
        queries[place] = _step(np.uint64(query), num_items, shape.item_key, backward=False)
        positives[place] = _step(np.uint64(positive), num_items, shape.item_key, backward=False)


@njit(cache=True, nogil=True)
def _shuffle(items, contexts, key):  # type: ignore[no-untyped-def]
    draws = _mix(key)
    for place in range(items.size - 1, 0, -1):
        draws += _GOLDEN
        other = np.int64(_fraction(_mix(draws)) * (place + 1))
        items[place], items[other] = items[other], items[place]
        contexts[place], contexts[other] = contexts[other], contexts[place]
