"""The compiled heart of the walks: move walkers, count their visits, keep the top.

What makes it fast, in the order of what it buys:

- All walkers of a seed move in lock-step, one memory level a pass, and each pass asks for what the
  next one reads, so that cache misses overlap.
- An item's edges hold the context's packed word (where its items begin, and how many there are)
  instead of its id: one miss fewer a step.
- Nothing branches on what cannot be predicted: whether a walk goes on, whether an item is new,
  which of two keys is smaller.
- A seed is counted and its neighbors are chosen while its visits are still in the cache, in tables
  small enough to stay there.

Loop counters and positions are unsigned throughout: for a signed one Numba checks at each access
whether it counts from the end, which costs a fifth of the whole.
"""

import numpy as np
from numba import njit, prange

from pinsage.kernels.intrinsics import multiply_high, prefetch

ITEM_STRIDE = np.uint64(0x9E3779B97F4A7C15)
WALK_STRIDE = np.uint64(0xD1B54A32D192ED03)
STEP_STRIDE = np.uint64(0x8CB92BA72F3D8DD7)
NEXT_DRAW = np.uint64(0xA0761D6478BD642F)

_DEGREE_BITS = np.uint64(24)
_DEGREE_MASK = np.uint64(0xFFFFFF)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_ZERO = np.uint64(0)
_ONE = np.uint64(1)
_HALF_WORD = np.uint64(32)

# A sort key is `(_MOST - count) << 40 | item`: count descending, then item ascending.
_MOST = 1 << 23
_ITEM_BITS = 40
_ITEM_MASK = (1 << _ITEM_BITS) - 1
_LAST = np.int64(2**63 - 1)
_FEW = np.uint64(16)
_COMPARE_ALL_UP_TO = 96
_LANES = 16


@njit(cache=True, nogil=True)
def _mix(x):  # type: ignore[no-untyped-def]
    """The splitmix64 finalizer: every input bit moves every output bit."""
    x = (x ^ (x >> np.uint64(30))) * _MIX_1
    x = (x ^ (x >> np.uint64(27))) * _MIX_2
    return x ^ (x >> np.uint64(31))


@njit(cache=True, nogil=True)
def _walk_uniformly(  # type: ignore[no-untyped-def]
    graph, own_words, seed_word, seed_draws, walk_length, end_below, walkers, visited
):
    """Walk from one seed, every edge of a node alike; returns the number of visits written.

    `walkers` holds for each walk still going the sum that its draws are hashed from, the item it
    stands on, a position among the edges, and the unspent fraction of its draw.
    """
    item_words, context_words, context_items = graph
    origin, here, position, fraction = walkers
    start, degree = seed_word >> _DEGREE_BITS, seed_word & _DEGREE_MASK
    for w in range(position.size):
        origin[w] = seed_draws + np.uint64(w) * WALK_STRIDE
        draw = _mix(origin[w])
        word = own_words[start + multiply_high(draw, degree)]
        left = draw * degree
        size = word & _DEGREE_MASK
        position[w] = (word >> _DEGREE_BITS) + multiply_high(left, size)
        fraction[w] = left * size
        prefetch(context_items, position[w])
    num_visits = _ZERO
    going = np.uint64(position.size)
    for step in range(1, walk_length):
        still_going = _ZERO
        arrived = visited[num_visits:]
        for w in range(going):
            item = context_items[position[w]]
            prefetch(item_words, np.uint64(item))
            arrived[w] = item
            here[still_going] = np.uint64(item)
            origin[still_going] = origin[w]
            still_going += np.uint64(fraction[w] >= end_below)
        num_visits += going
        going = still_going
        step_draws = np.uint64(step) * STEP_STRIDE
        for w in range(going):
            word = item_words[here[w]]
            draw = _mix(origin[w] + step_draws)
            degree = word & _DEGREE_MASK
            position[w] = (word >> _DEGREE_BITS) + multiply_high(draw, degree)
            fraction[w] = draw * degree
            prefetch(context_words, position[w])
        for w in range(going):
            word = context_words[position[w]]
            size = word & _DEGREE_MASK
            position[w] = (word >> _DEGREE_BITS) + multiply_high(fraction[w], size)
            fraction[w] *= size
            prefetch(context_items, position[w])
    arrived = visited[num_visits:]
    for w in range(going):
        arrived[w] = context_items[position[w]]
    return num_visits + going


@njit(cache=True, nogil=True)
def _walk_by_chance(  # type: ignore[no-untyped-def]
    graph, own_choices, seed_word, seed_draws, walk_length, end_below, walkers, visited
):
    """Walk from one seed, edges by their chances; returns the number of visits written.

    A choice is three numbers side by side: what the slot itself leads to, what its other choice
    leads to, and below which fraction the slot itself is taken. `fraction` ends in a bit that
    tells whether the walk goes on.
    """
    item_words, item_choices, context_choices = graph
    origin, here, position, fraction = walkers
    start, degree = seed_word >> _DEGREE_BITS, seed_word & _DEGREE_MASK
    three = np.uint64(3)
    for w in range(position.size):
        origin[w] = seed_draws + np.uint64(w) * WALK_STRIDE
        draw = _mix(origin[w])
        slot = three * (start + multiply_high(draw, degree))
        own = (draw * degree) >> _HALF_WORD < own_choices[slot + np.uint64(2)]
        word = own_choices[slot + np.uint64(not own)]
        draw = _mix(draw ^ NEXT_DRAW)
        size = word & _DEGREE_MASK
        position[w] = three * ((word >> _DEGREE_BITS) + multiply_high(draw, size))
        goes_on = np.uint64(_mix(draw ^ NEXT_DRAW) >= end_below)
        fraction[w] = (draw * size) >> _HALF_WORD << _ONE | goes_on
        prefetch(context_choices, position[w])
    num_visits = _ZERO
    going = np.uint64(position.size)
    for step in range(1, walk_length + 1):
        still_going = _ZERO
        arrived = visited[num_visits:]
        for w in range(going):
            slot = position[w]
            own = fraction[w] >> _ONE < np.uint64(context_choices[slot + np.uint64(2)])
            item = context_choices[slot + np.uint64(not own)]
            prefetch(item_words, np.uint64(item))
            arrived[w] = item
            here[still_going] = np.uint64(item)
            origin[still_going] = origin[w]
            still_going += fraction[w] & _ONE
        num_visits += going
        if step == walk_length:
            break
        going = still_going
        step_draws = np.uint64(step) * STEP_STRIDE
        for w in range(going):
            word = item_words[here[w]]
            draw = _mix(origin[w] + step_draws)
            degree = word & _DEGREE_MASK
            position[w] = three * ((word >> _DEGREE_BITS) + multiply_high(draw, degree))
            here[w] = draw
            fraction[w] = (draw * degree) >> _HALF_WORD
            prefetch(item_choices, position[w])
        for w in range(going):
            slot = position[w]
            own = fraction[w] < item_choices[slot + np.uint64(2)]
            word = item_choices[slot + np.uint64(not own)]
            draw = _mix(here[w] ^ NEXT_DRAW)
            size = word & _DEGREE_MASK
            position[w] = three * ((word >> _DEGREE_BITS) + multiply_high(draw, size))
            goes_on = np.uint64(_mix(draw ^ NEXT_DRAW) >= end_below)
            fraction[w] = (draw * size) >> _HALF_WORD << _ONE | goes_on
            prefetch(context_choices, position[w])
    return num_visits


@njit(cache=True, nogil=True)
def _count(visits, table, items, counts):  # type: ignore[no-untyped-def]
    """Count visits: afterwards `items` and `counts` hold the distinct items from place 1 on.

    `table` maps hashes to places, 0 where free, all 0 before and after. Returns one more than the
    number of distinct items; their `counts` must have been 0.
    """
    mask = np.uint64(table.size - 1)
    bits = _ZERO
    while (_ONE << bits) < np.uint64(table.size):
        bits += _ONE
    shift = np.uint64(64) - bits
    free = _ONE
    for visit in range(visits.size):
        item = visits[visit]
        slot = ((np.uint64(item) + _ONE) * ITEM_STRIDE) >> shift
        place = np.uint64(table[slot])
        # One condition: "is free or holds the item" as two would be two branches, and whether an
        # item is new cannot be predicted.
        while min(place, np.uint64(items[place] ^ item)) != _ZERO:
            slot = (slot + _ONE) & mask
            place = np.uint64(table[slot])
        is_new = place == _ZERO
        place = free if is_new else place
        table[slot] = place
        items[place] = item
        counts[place] += 1
        free += np.uint64(is_new)
    table[:] = 0
    return free


@njit(cache=True, nogil=True)
def _smallest_to_front(keys, size, wanted):  # type: ignore[no-untyped-def]
    """Quickselect: afterwards the `wanted` smallest of the first `size` distinct keys lead."""
    low, high = _ZERO, size
    while high - low > _FEW:
        left, middle, right = keys[low], keys[(low + high) >> _ONE], keys[high - _ONE]
        # The median of three distinct keys leaves at least one key on either side.
        pivot = max(min(left, middle), min(max(left, middle), right))
        border = low
        for place in range(low, high):
            key = keys[place]
            keys[place] = keys[border]
            keys[border] = key
            border += np.uint64(key < pivot)
        if border == wanted:
            return
        if border > wanted:
            high = border
        else:
            low = border
    for place in range(low + _ONE, high):
        key = keys[place]
        hole = np.uint64(place)
        while hole > low and keys[hole - _ONE] > key:
            keys[hole] = keys[hole - _ONE]
            hole -= _ONE
        keys[hole] = key


@njit(cache=True, nogil=True)
def _write_in_order(keys, size, ranks, ids, counts):  # type: ignore[no-untyped-def]
    """Write the items and counts of the first `size` distinct keys, the smallest key first."""
    if size > _COMPARE_ALL_UP_TO:
        keys[:size].sort()
        for place in range(size):
            ids[place] = keys[place] & _ITEM_MASK
            counts[place] = _MOST - (keys[place] >> _ITEM_BITS)
        return
    # Few keys: counting how many are smaller takes no branch, and fills whole vector registers.
    padded = (np.int64(size) + _LANES - 1) // _LANES * _LANES
    keys[size:padded] = _LAST
    for place in range(size):
        key = keys[place]
        smaller = np.int64(0)
        for other in range(padded):
            smaller += np.int64(keys[other] < key)
        ranks[place] = smaller
    for place in range(size):
        rank = np.uint64(ranks[place])
        ids[rank] = keys[place] & _ITEM_MASK
        counts[rank] = _MOST - (keys[place] >> _ITEM_BITS)


@njit(cache=True, nogil=True)
def _keep_top(seed, num_items, distinct, scratch, ids, counts):  # type: ignore[no-untyped-def]
    """Write the top items but the seed; clears the counts of `_count`."""
    items, visits, keys, ranks = scratch
    wanted = np.uint64(ids.size)
    num_often, num_self = _ZERO, _ZERO
    for place in range(_ONE, distinct):
        item, count = np.int64(items[place]), np.int64(visits[place])
        keys[num_often] = (_MOST - count) << _ITEM_BITS | item
        num_often += np.uint64((count > 1) & (item != seed))
        num_self += np.uint64(item == seed)
    kept = min(num_often, wanted)
    if num_often > wanted:
        _smallest_to_front(keys, num_often, wanted)
    _write_in_order(keys, kept, ranks, ids, counts)
    num_once = distinct - _ONE - num_often - num_self
    more = min(wanted - kept, num_once)
    if more > _ZERO:
        # Most items are visited once and only the smallest ids of them are wanted, so most are left
        # out by a guess at the largest. It may be wrong, if ids are not spread evenly.
        guess = np.uint64(num_items) * (more + more // np.uint64(4) + np.uint64(8)) // num_once
        found = _visited_once(items, visits, distinct, seed, np.int64(guess), keys)
        if found < more:
            found = _visited_once(items, visits, distinct, seed, _ITEM_MASK, keys)
        if found > more:
            _smallest_to_front(keys, found, more)
        _write_in_order(keys, more, ranks, ids[kept:], counts[kept:])
        kept += more
    visits[:distinct] = 0
    ids[kept:] = -1
    counts[kept:] = 0


@njit(cache=True, nogil=True)
def _visited_once(items, visits, distinct, seed, below, keys):  # type: ignore[no-untyped-def]
    """List the keys of items under `below` that were visited once; returns how many."""
    found = _ZERO
    for place in range(_ONE, distinct):
        item = np.int64(items[place])
        keys[found] = (_MOST - 1) << _ITEM_BITS | item
        found += np.uint64((visits[place] == 1) & (item < below) & (item != seed))
    return found


@njit(cache=True, nogil=True)
def _scratch(num_visits, like):  # type: ignore[no-untyped-def]
    """Make what counting and choosing need for seeds of at most so many visits."""
    return (
        np.zeros(num_visits + 1, like.dtype),
        np.zeros(num_visits + 1, np.int32),
        np.empty(num_visits + 1 + _LANES, np.int64),
        np.empty(_COMPARE_ALL_UP_TO, np.int64),
    )


@njit(cache=True, nogil=True)
def _walk(by_chance, uniform, weighted, own, seed_word, draws, limits, walkers, visited):  # type: ignore[no-untyped-def]
    walk_length, end_below = limits
    if seed_word & _DEGREE_MASK == _ZERO:
        return _ZERO
    if by_chance:
        return _walk_by_chance(
            weighted, own, seed_word, draws, walk_length, end_below, walkers, visited
        )
    return _walk_uniformly(uniform, own, seed_word, draws, walk_length, end_below, walkers, visited)


@njit(cache=True, nogil=True)
def _prefetch_own_edges(seed_word, own, by_chance):  # type: ignore[no-untyped-def]
    start = seed_word >> _DEGREE_BITS
    if by_chance:
        start *= np.uint64(3)
    for line in range(4):
        prefetch(own, start + np.uint64(8 * line))


@njit(cache=True, nogil=True)
def _walkers(num_walks):  # type: ignore[no-untyped-def]
    # A walk that has ended may be written once behind the last that goes on.
    return (
        np.empty(num_walks + 1, np.uint64),
        np.empty(num_walks + 1, np.uint64),
        np.empty(num_walks, np.uint64),
        np.empty(num_walks, np.uint64),
    )


@njit(cache=True, nogil=True, parallel=True)
def visits_of_all(job, num_blocks, visited):  # type: ignore[no-untyped-def]
    """Write the visits of every seed, then -1; see `pinsage.kernels.walks.random_walks`."""
    by_chance, uniform, weighted, own, seeds, seed_words, key, limits, num_walks = job
    for block in prange(num_blocks):
        walkers = _walkers(num_walks)
        last = seeds.size * (block + 1) // num_blocks
        for row in range(seeds.size * block // num_blocks, last):
            draws = _mix(key + (np.uint64(seeds[row]) + _ONE) * ITEM_STRIDE)
            num_visits = _walk(
                by_chance,
                uniform,
                weighted,
                own,
                seed_words[row],
                draws,
                limits,
                walkers,
                visited[row],
            )
            visited[row, num_visits:] = -1


@njit(cache=True, nogil=True, parallel=True)
def neighborhoods_of_all(job, num_blocks, empty_table, ids, counts):  # type: ignore[no-untyped-def]
    """Write the neighborhood of every seed; see `pinsage.kernels.walks.walk_neighborhoods`."""
    by_chance, uniform, weighted, own, seeds, seed_words, key, limits, num_walks = job
    num_items = uniform[0].size
    for block in prange(num_blocks):
        walkers = _walkers(num_walks)
        visited = np.empty(num_walks * limits[0], ids.dtype)
        scratch = _scratch(visited.size, ids)
        table = np.zeros(empty_table.size, empty_table.dtype)
        last = seeds.size * (block + 1) // num_blocks
        for row in range(seeds.size * block // num_blocks, last):
            if row + 2 < last:
                _prefetch_own_edges(seed_words[row + 2], own, by_chance)
            draws = _mix(key + (np.uint64(seeds[row]) + _ONE) * ITEM_STRIDE)
            num_visits = _walk(
                by_chance, uniform, weighted, own, seed_words[row], draws, limits, walkers, visited
            )
            distinct = _count(visited[:num_visits], table, scratch[0], scratch[1])
            _keep_top(seeds[row], num_items, distinct, scratch, ids[row], counts[row])


@njit(cache=True, nogil=True, parallel=True)
def top_of_all(visited, seeds, num_items, num_blocks, empty_table, ids, counts):  # type: ignore[no-untyped-def]
    """Count every row's visits and keep the top; see `pinsage.kernels.visits.top_visited`."""
    num_seeds, most = visited.shape
    for block in prange(num_blocks):
        scratch = _scratch(most, ids)
        table = np.zeros(empty_table.size, empty_table.dtype)
        for row in range(num_seeds * block // num_blocks, num_seeds * (block + 1) // num_blocks):
            num_visits = 0
            while num_visits < most and visited[row, num_visits] >= 0:
                num_visits += 1
            distinct = _count(visited[row, :num_visits], table, scratch[0], scratch[1])
            _keep_top(seeds[row], num_items, distinct, scratch, ids[row], counts[row])
