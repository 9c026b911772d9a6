"""Weak AND over posting lists: the items with the largest sums of weights of terms they carry.

Broder et al., "Efficient query evaluation using a two-level retrieval process" (CIKM 2003). Lists
are read side by side, in order of item. The lists that stand at small items, taken together, bound
what any of those items can score: where that is not above the least score still wanted, they skip
ahead without being scored, and with them whole packed blocks unread. An item carries a term or does
not, so a term's bound is its weight, and the answer is exact.
"""

import numpy as np
from jaxtyping import Int32, Int64
from numba import njit, prange

from pinsage.kernels.checks import require_positive
from pinsage.kernels.postings import BLOCK, PostingLists, unpack_block

_END = 2**31 - 1
_LOW = 2**32 - 1


def weak_and(
    lists: PostingLists,
    terms: Int64[np.ndarray, "queries terms"],
    weights: Int32[np.ndarray, "queries terms"],
    limit: int,
) -> tuple[Int32[np.ndarray, "queries limit"], Int32[np.ndarray, "queries limit"]]:
    """Find the items with the largest sums of weights, ties by smaller id.

    Args:
        lists: the items of every term.
        terms: each query's terms, none of them twice.
        weights: what each adds to the score of an item that carries it, above 0; the sum of a
            query's weights stays below 2**31.
        limit: how many items a query.

    Returns:
        Item ids, best first, and their scores; -1 and 0 where no more items carry any of the terms.

    Raises:
        ValueError: a term that isn't in the lists, or a weight that isn't positive.
    """
    require_positive("limit", limit)
    if terms.shape != weights.shape:
        raise ValueError(f"terms and weights must pair up; found {terms.shape}, {weights.shape}")
    if terms.size and not 0 <= int(terms.min()) <= int(terms.max()) < len(lists.starts) - 1:
        raise ValueError(f"terms must lie in 0..{len(lists.starts) - 2}")
    if terms.size and (
        int(weights.min()) < 1 or int(weights.sum(axis=1, dtype=np.int64).max()) > _END
    ):
        raise ValueError("weights must be above 0, and a query's sum below 2**31")
    ids = np.full((len(terms), limit), -1, np.int32)
    scores = np.zeros((len(terms), limit), np.int32)
    _search_all(
        np.ascontiguousarray(terms),
        np.ascontiguousarray(weights),
        lists.starts,
        lists.blocks,
        lists.block_last,
        lists.block_width,
        lists.block_words,
        lists.words,
        ids,
        scores,
    )
    return ids, scores


@njit(cache=True, nogil=True, parallel=True)
def _search_all(  # type: ignore[no-untyped-def]
    terms, weights, starts, blocks, last, width, offsets, words, ids, scores
):
    for query in prange(terms.shape[0]):
        _search_one(
            terms[query],
            weights[query],
            (starts, blocks, last, width, offsets, words),
            ids[query],
            scores[query],
        )


@njit(cache=True, nogil=True)
def _search_one(terms, weights, lists, ids, scores):  # type: ignore[no-untyped-def]
    num_terms = terms.size
    # A list's state: the item it stands at, its place in the unpacked block, and that block.
    at = np.full(num_terms, -1, np.int64)
    place = np.full(num_terms, BLOCK, np.int64)
    block = np.empty(num_terms, np.int64)
    unpacked = np.empty((num_terms, BLOCK), np.int32)
    for number in range(num_terms):
        block[number] = lists[1][terms[number]] - 1
        _advance(number, 0, terms, at, place, block, unpacked, lists)
    order = np.argsort(at)
    # The best so far: a heap of scores above inverted ids, the worst at its root.
    heap = np.empty(ids.size, np.int64)
    size = 0
    least = np.int64(0)
    while True:
        pivot = _pivot(order, at, weights, least)
        if pivot < 0:
            break
        item = at[order[pivot]]
        moved = pivot
        target = item
        if at[order[0]] == item:
            score = np.int64(0)
            moved = 0
            while moved < num_terms and at[order[moved]] == item:
                score += weights[order[moved]]
                moved += 1
            if score > least:
                size = _push(heap, size, (score << 32) | (_LOW - item))
                if size == heap.size:
                    least = heap[0] >> 32
            target = item + 1
        for number in order[:moved]:
            _advance(number, target, terms, at, place, block, unpacked, lists)
        _settle(order, at, moved)
    found = np.sort(heap[:size])
    for rank in range(size):
        key = found[size - 1 - rank]
        ids[rank] = _LOW - (key & _LOW)
        scores[rank] = key >> 32


@njit(cache=True, nogil=True)
def _pivot(order, at, weights, least):  # type: ignore[no-untyped-def]
    """Give the first place at which an item could score above `least`; -1 if none can."""
    bound = np.int64(0)
    for number in range(order.size):
        if at[order[number]] == _END:
            return -1
        bound += weights[order[number]]
        if bound > least:
            return number
    return -1


@njit(cache=True, nogil=True)
def _advance(number, target, terms, at, place, block, unpacked, lists):  # type: ignore[no-untyped-def]
    """Move one list to its first item that is at least `target`."""
    starts, blocks, last, width, offsets, words = lists
    term = terms[number]
    current = block[number]
    if at[number] < 0 or last[current] < target:
        first, end = blocks[term], blocks[term + 1]
        current += 1
        while current < end and last[current] < target:
            current += 1
        block[number] = current
        if current == end:
            at[number] = _END
            return
        count = min(BLOCK, starts[term + 1] - starts[term] - (current - first) * BLOCK)
        before = np.int64(-1)
        if current > first:
            before = np.int64(last[current - 1])
        start = np.int64(offsets[current])
        unpack_block(words, start, np.int64(width[current]), before, count, unpacked[number])
        place[number] = 0
    here = place[number]
    while unpacked[number, here] < target:
        here += 1
    place[number] = here
    at[number] = unpacked[number, here]


@njit(cache=True, nogil=True)
def _settle(order, at, moved):  # type: ignore[no-untyped-def]
    """Put the first `moved` lists back in order; the others are."""
    for first in range(moved - 1, -1, -1):
        number = order[first]
        spot = first
        while spot + 1 < order.size and at[order[spot + 1]] < at[number]:
            order[spot] = order[spot + 1]
            spot += 1
        order[spot] = number


@njit(cache=True, nogil=True)
def _push(heap, size, key):  # type: ignore[no-untyped-def]
    """Take a key into the heap, in place of the smallest if it is full; give its size."""
    if size < heap.size:
        spot = size
        while spot and heap[(spot - 1) // 2] > key:
            heap[spot] = heap[(spot - 1) // 2]
            spot = (spot - 1) // 2
        heap[spot] = key
        return size + 1
    spot = 0
    while True:
        child = 2 * spot + 1
        if child >= size:
            break
        if child + 1 < size and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= key:
            break
        heap[spot] = heap[child]
        spot = child
    heap[spot] = key
    return size
