"""The compiled heart of the walks: move walkers, count their visits, keep the top.

What makes it fast, in the order of what it buys (`python -m benchmarks.neighborhoods`):

- All walkers of a seed move in lock-step, one memory level a pass, and each pass asks for what the
  next one reads, so that cache misses overlap.
- An item's edges hold the context's packed word (where its items begin, and how many there are)
  instead of its id: one miss fewer a step.
- Nothing branches on what cannot be predicted: whether a walk goes on, whether an item is new,
  which of two keys is smaller.
- A cell holds an item's count and its id in the order they are sorted by, so that choosing the top
  is comparing cells: few enough are left by a guess to compare each with each (0.4 of 5.1 us), in
  vector registers (0.2 of 3.3 us).
- Lines are asked for into the second cache: a core can have twice as many of those requests under
  way as of such into the first (1.3 of 5.0 us).
- A seed's visits are counted while the next seed's walkers wait for memory (0.4 us).
- Only items that a walk leaves again are asked for (0.2 us).
- Draws and visits are hashed in loops of their own, which fill vector registers (0.2 us; 0.8 by
  chances).

Loop counters and positions are unsigned throughout: for a signed one Numba checks at each access
whether it counts from the end, which costs a fifth of the whole.
"""

import numpy as np
from numba import njit, prange

from pinsage.kernels.intrinsics import LANES, count_smaller, multiply_high, prefetch_far

ITEM_STRIDE = np.uint64(0x9E3779B97F4A7C15)
WALK_STRIDE = np.uint64(0xD1B54A32D192ED03)
STEP_STRIDE = np.uint64(0x8CB92BA72F3D8DD7)
NEXT_DRAW = np.uint64(0xA0761D6478BD642F)
_SLOT_STRIDE = np.uint32(0x9E3779B1)

_DEGREE_BITS = np.uint64(24)
_DEGREE_MASK = np.uint64(0xFFFFFF)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_ZERO = np.uint64(0)
_ONE = np.uint64(1)
_TWO = np.uint64(2)
_THREE = np.uint64(3)
_HALF_WORD = np.uint64(32)

# A cell is `(2**24 - 1 - count) << 40 | item`: ascending, by count descending. Most items of a
# neighborhood are met equally often: each seed puts those in an order of its own, by a hash of the
# lower 32 bits that can be undone, or a catalog's first items would be near everything.
_ITEM_BITS = np.uint64(40)
_LOW_MASK = np.uint64(2**32 - 1)
_HALF_LOW = np.uint64(16)
_ITEM_MASK = np.uint64(2**40 - 1)
_ONCE_MORE = np.uint64(1 << 40)
_NEVER = np.uint64((2**24 - 1) << 40)
_ONCE = np.uint64((2**24 - 2) << 40)
_LAST = np.uint64(2**64 - 1)
_SPREAD = np.uint64(0x9E3779B1)
_GATHER = np.uint64(0xE8B2F51)
"""What undoes it: their product is 1 modulo 2**32."""
# Place 0 of the cells is that of free slots, place 1 is the seed's own.
_FIRST_PLACE = np.uint64(2)

_GROUP = np.uint64(512)
"""Walkers that ask for memory before visits are counted: 16 took 7% longer, all of them no less."""
_COUNTED_BETWEEN = np.uint64(32)
_FEW = np.uint64(16)
_COMPARE_ALL_UP_TO = np.uint64(96)
_SLACK = np.uint64(40)


@njit(cache=True, nogil=True)
def _mix(x):  # type: ignore[no-untyped-def]
    """The splitmix64 finalizer: every input bit moves every output bit."""
    x = (x ^ (x >> np.uint64(30))) * _MIX_1
    x = (x ^ (x >> np.uint64(27))) * _MIX_2
    return x ^ (x >> np.uint64(31))


# `walkers` holds for each walk still going the sum that its draws are hashed from, a position among
# the edges (or the item it stands on), the unspent fraction of its draw, and the draw.


@njit(cache=True, nogil=True)
def _hash_first_draws(seed_draws, going, origin, draws):  # type: ignore[no-untyped-def]
    for w in range(going):
        origin[w] = seed_draws + w * WALK_STRIDE
        draws[w] = _mix(seed_draws + w * WALK_STRIDE)


@njit(cache=True, nogil=True)
def _hash_draws(first, stop, step_draws, origin, draws):  # type: ignore[no-untyped-def]
    for w in range(first, stop):
        draws[w] = _mix(origin[w] + step_draws)


@njit(cache=True, nogil=True)
def _hash_next_draws(first, stop, draws):  # type: ignore[no-untyped-def]
    for w in range(first, stop):
        draws[w] = _mix(draws[w] ^ NEXT_DRAW)


@njit(cache=True, nogil=True)
def _set_out(graph, own_words, seed_word, seed_draws, going, walkers):  # type: ignore[no-untyped-def]
    """Send walks to their first context, and ask for the item each goes on to."""
    _, _, context_items = graph
    origin, position, fraction, draws = walkers
    start, degree = seed_word >> _DEGREE_BITS, seed_word & _DEGREE_MASK
    _hash_first_draws(seed_draws, going, origin, draws)
    for w in range(going):
        draw = draws[w]
        word = own_words[start + multiply_high(draw, degree)]
        left = draw * degree
        size = word & _DEGREE_MASK
        position[w] = (word >> _DEGREE_BITS) + multiply_high(left, size)
        fraction[w] = left * size
        prefetch_far(context_items, position[w])


@njit(cache=True, nogil=True)
def _arrive(graph, going, end_below, not_last, walkers, arrived):  # type: ignore[no-untyped-def]
    """Write the items arrived at; keep the walks that go on, ask for their items' words."""
    item_words, _, context_items = graph
    origin, position, fraction, _ = walkers
    still_going = _ZERO
    for w in range(going):
        item = context_items[position[w]]
        goes_on = np.uint64(fraction[w] >= end_below) & not_last
        prefetch_far(item_words, np.uint64(item) * goes_on)
        arrived[w] = item
        position[still_going] = np.uint64(item)
        origin[still_going] = origin[w]
        still_going += goes_on
    return still_going


@njit(cache=True, nogil=True)
def _to_contexts(graph, first, stop, step_draws, walkers):  # type: ignore[no-untyped-def]
    """Draw where some walks go next, and ask for the words of their contexts."""
    item_words, context_words, _ = graph
    origin, position, fraction, draws = walkers
    _hash_draws(first, stop, step_draws, origin, draws)
    for w in range(first, stop):
        word = item_words[position[w]]
        draw = draws[w]
        degree = word & _DEGREE_MASK
        position[w] = (word >> _DEGREE_BITS) + multiply_high(draw, degree)
        fraction[w] = draw * degree
        prefetch_far(context_words, position[w])


@njit(cache=True, nogil=True)
def _to_items(graph, first, stop, walkers):  # type: ignore[no-untyped-def]
    """Choose an item of some walks' contexts, and ask for it."""
    _, context_words, context_items = graph
    _, position, fraction, _ = walkers
    for w in range(first, stop):
        word = context_words[position[w]]
        size = word & _DEGREE_MASK
        position[w] = (word >> _DEGREE_BITS) + multiply_high(fraction[w], size)
        fraction[w] *= size
        prefetch_far(context_items, position[w])


# The same by chances. A choice is three numbers side by side: what the slot itself leads to, what
# its other choice leads to, and below which fraction the slot itself is taken. At a context, a
# walk's fraction ends in a bit that tells whether it goes on.


@njit(cache=True, nogil=True)
def _set_out_by_chance(  # type: ignore[no-untyped-def]
    graph, own_choices, seed_word, seed_draws, end_below, going, walkers
):
    _, _, context_choices = graph
    origin, position, fraction, draws = walkers
    start, degree = seed_word >> _DEGREE_BITS, seed_word & _DEGREE_MASK
    _hash_first_draws(seed_draws, going, origin, draws)
    for w in range(going):
        position[w] = draws[w]
    _hash_next_draws(_ZERO, going, position)
    for w in range(going):
        draw = draws[w]
        slot = _THREE * (start + multiply_high(draw, degree))
        own = (draw * degree) >> _HALF_WORD < own_choices[slot + _TWO]
        word = own_choices[slot + np.uint64(not own)]
        position[w], fraction[w] = _choose_item(word, position[w], end_below)
        _prefetch_choice(context_choices, position[w])


@njit(cache=True, nogil=True)
def _arrive_by_chance(graph, going, not_last, walkers, arrived):  # type: ignore[no-untyped-def]
    item_words, _, context_choices = graph
    origin, position, fraction, _ = walkers
    still_going = _ZERO
    for w in range(going):
        slot = position[w]
        own = fraction[w] >> _ONE < np.uint64(context_choices[slot + _TWO])
        item = context_choices[slot + np.uint64(not own)]
        goes_on = fraction[w] & not_last
        prefetch_far(item_words, np.uint64(item) * goes_on)
        arrived[w] = item
        position[still_going] = np.uint64(item)
        origin[still_going] = origin[w]
        still_going += goes_on
    return still_going


@njit(cache=True, nogil=True)
def _to_contexts_by_chance(graph, first, stop, step_draws, walkers):  # type: ignore[no-untyped-def]
    item_words, item_choices, _ = graph
    origin, position, fraction, draws = walkers
    _hash_draws(first, stop, step_draws, origin, draws)
    for w in range(first, stop):
        word = item_words[position[w]]
        draw = draws[w]
        degree = word & _DEGREE_MASK
        position[w] = _THREE * ((word >> _DEGREE_BITS) + multiply_high(draw, degree))
        fraction[w] = (draw * degree) >> _HALF_WORD
        _prefetch_choice(item_choices, position[w])


@njit(cache=True, nogil=True)
def _to_items_by_chance(graph, first, stop, step_draws, end_below, walkers):  # type: ignore[no-untyped-def]
    _, item_choices, context_choices = graph
    _, position, fraction, draws = walkers
    _hash_next_draws(first, stop, draws)
    for w in range(first, stop):
        slot = position[w]
        own = fraction[w] < item_choices[slot + _TWO]
        word = item_choices[slot + np.uint64(not own)]
        position[w], fraction[w] = _choose_item(word, draws[w], end_below)
        _prefetch_choice(context_choices, position[w])


@njit(cache=True, nogil=True)
def _choose_item(word, draw, end_below):  # type: ignore[no-untyped-def]
    """From a context's packed word: the slot of its choices, and the fraction with the end bit."""
    size = word & _DEGREE_MASK
    slot = _THREE * ((word >> _DEGREE_BITS) + multiply_high(draw, size))
    goes_on = np.uint64(_mix(draw ^ NEXT_DRAW) >= end_below)
    return slot, (draw * size) >> _HALF_WORD << _ONE | goes_on


@njit(cache=True, nogil=True)
def _prefetch_choice(choices, slot):  # type: ignore[no-untyped-def]
    # Three numbers lie across two cache lines as often as not.
    prefetch_far(choices, slot)
    prefetch_far(choices, slot + _TWO)


@njit(cache=True, nogil=True)
def _tally(empty_table, num_visits):  # type: ignore[no-untyped-def]
    """Make a hash table from items to places, 0 where free, and the cells at those places.

    With them come how far a hash is shifted to be a slot of the table, and the visits' slots.
    """
    bits = 0
    while (1 << bits) < empty_table.size:
        bits += 1
    table = np.zeros(empty_table.size, empty_table.dtype)
    cells = np.zeros(num_visits + 2, np.uint64)
    return table, cells, np.uint32(32 - bits), np.empty(num_visits, np.uint32)


@njit(cache=True, nogil=True)
def _slot(item, shift):  # type: ignore[no-untyped-def]
    # To Numba, the product of two uint32 is a uint64. Ids alike in their lower half may collide.
    return np.uint32(np.uint32(item) * _SLOT_STRIDE) >> shift


@njit(cache=True, nogil=True)
def _begin_count(seed, visits, tally):  # type: ignore[no-untyped-def]
    """Empty the table but for the seed, whose visits are counted apart; find the visits' slots."""
    table, cells, shift, slots = tally
    table[:] = 0
    table[np.uint64(_slot(seed, shift))] = 1
    cells[1] = _NEVER | np.uint64(seed)
    for visit in range(visits.size):
        slots[visit] = _slot(visits[visit], shift)


@njit(cache=True, nogil=True)
def _count(visits, first, stop, tally, end):  # type: ignore[no-untyped-def]
    """Count the visits from `first` to `stop`, at most to the end; `end` is the first free cell.

    Returns how far it counted, and the first free cell.
    """
    table, cells, _, slots = tally
    mask = np.uint64(table.size - 1)
    stop = min(stop, np.uint64(visits.size))
    for visit in range(first, stop):
        item = np.uint64(visits[visit])
        slot = np.uint64(slots[visit])
        place = np.uint64(table[slot])
        # Place 0 is made to hold the item: "is free or holds the item" as two conditions would be
        # two branches, and whether an item is new cannot be predicted.
        cells[0] = _NEVER | item
        cell = cells[place]
        while (cell ^ item) & _ITEM_MASK != _ZERO:
            slot = (slot + _ONE) & mask
            place = np.uint64(table[slot])
            cell = cells[place]
        is_new = np.uint64(place == _ZERO)
        place += end * is_new
        table[slot] = place
        cells[place] = cell - _ONCE_MORE
        end += is_new
    return stop, end


@njit(cache=True, nogil=True)
def _count_below(cells, end, limit):  # type: ignore[no-untyped-def]
    found = _ZERO
    for place in range(_FIRST_PLACE, end):
        found += np.uint64(cells[place] < limit)
    return found


@njit(cache=True, nogil=True)
def _salt(seed):  # type: ignore[no-untyped-def]
    return _mix((np.uint64(seed) + _ONE) * ITEM_STRIDE) & _LOW_MASK


@njit(cache=True, nogil=True)
def _spread_ties(cells, end, salt):  # type: ignore[no-untyped-def]
    """Put ties in the seed's order; give the number of items met more than once."""
    often = _ZERO
    for place in range(_FIRST_PLACE, end):
        cell = cells[place]
        mixed = (((cell ^ salt) & _LOW_MASK) * _SPREAD) & _LOW_MASK
        mixed = ((mixed ^ (mixed >> _HALF_LOW)) * _SPREAD) & _LOW_MASK
        cells[place] = (cell & ~_LOW_MASK) | mixed
        often += np.uint64(cell < _ONCE)
    return often


@njit(cache=True, nogil=True)
def _limit_of_top(cells, end, often, wanted):  # type: ignore[no-untyped-def]
    """Find a limit that the `wanted` smallest cells, and not many others, lie below."""
    if often >= wanted:
        return _ONCE
    distinct = end - _FIRST_PLACE
    if distinct <= wanted + _SLACK:
        return _NEVER
    # Most items are visited once, and only the smallest of them are wanted. They are spread evenly
    # over 32 bits, so the first guess at the largest of them is right; else it is bisected.
    more = wanted - often
    low, high = _ZERO, _ITEM_MASK
    guess = _LOW_MASK // (distinct - often) * (more + more // np.uint64(4) + np.uint64(8))
    while True:
        found = _count_below(cells, end, _ONCE | guess)
        if found < wanted:
            low = guess
        elif found > wanted + _SLACK:
            high = guess
        else:
            return _ONCE | guess
        guess = (low + high) >> _ONE


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
def _keep_top(seed, tally, end, scratch, ids, counts):  # type: ignore[no-untyped-def]
    """Write the top items of the cells before `end`, without the seed."""
    cells = tally[1]
    keys, ranks, ordered = scratch
    wanted, salt = np.uint64(ids.size), _salt(seed)
    often = _spread_ties(cells, end, salt)
    limit = _limit_of_top(cells, end, often, wanted)
    size = _ZERO
    for place in range(_FIRST_PLACE, end):
        keys[size] = cells[place]
        size += np.uint64(cells[place] < limit)
    if size <= _COMPARE_ALL_UP_TO:
        _sort_few(keys, size, ranks, ordered)
        keys, size = ordered, min(size, wanted)
    else:
        if size > wanted:
            _smallest_to_front(keys, size, wanted)
            size = wanted
        keys[:size].sort()
    for place in range(size):
        key = keys[place]
        mixed = ((key & _LOW_MASK) * _GATHER) & _LOW_MASK
        mixed = ((mixed ^ (mixed >> _HALF_LOW)) * _GATHER) & _LOW_MASK
        ids[place] = (key & _ITEM_MASK & ~_LOW_MASK) | (mixed ^ salt)
        counts[place] = (_LAST - keys[place]) >> _ITEM_BITS
    ids[size:] = -1
    counts[size:] = 0


@njit(cache=True, nogil=True)
def _sort_few(keys, size, ranks, ordered):  # type: ignore[no-untyped-def]
    """Put each key where as many others are smaller: no branch, and whole vector registers."""
    for first in range(_ZERO, size, LANES):
        count_smaller(keys, size, first, ranks)
    for place in range(size):
        ordered[ranks[place]] = keys[place]


@njit(cache=True, nogil=True)
def _scratch(num_visits):  # type: ignore[no-untyped-def]
    return (
        np.empty(num_visits + 1 + np.int64(LANES), np.uint64),
        np.empty(_COMPARE_ALL_UP_TO, np.uint64),
        np.empty(_COMPARE_ALL_UP_TO, np.uint64),
    )


@njit(cache=True, nogil=True)
def _walk(job, row, walkers, visited, earlier, tally):  # type: ignore[no-untyped-def]
    """Walk from the seed of one row, and count the visits of an earlier one.

    Returns the number of visits written, and how many cells the earlier seed fills.
    """
    by_chance, uniform, weighted, own, seeds, seed_words, key, limits, num_walks = job
    walk_length, end_below = limits
    word = seed_words[row]
    draws = _mix(key + (np.uint64(seeds[row]) + _ONE) * ITEM_STRIDE)
    going = np.uint64(num_walks) if word & _DEGREE_MASK != _ZERO else _ZERO
    if by_chance:
        _set_out_by_chance(weighted, own, word, draws, end_below, going, walkers)
    else:
        _set_out(uniform, own, word, draws, going, walkers)
    num_visits, counted, end = _ZERO, _ZERO, _FIRST_PLACE
    for step in range(1, walk_length + 1):
        not_last = np.uint64(step < walk_length)
        if not not_last:
            counted, end = _count(earlier, counted, _LAST, tally, end)
        arrived = visited[num_visits:]
        num_visits += going
        if by_chance:
            going = _arrive_by_chance(weighted, going, not_last, walkers, arrived)
        else:
            going = _arrive(uniform, going, end_below, not_last, walkers, arrived)
        step_draws = np.uint64(step) * STEP_STRIDE
        for group in range(_ZERO, going, _GROUP):
            stop = min(group + _GROUP, going)
            if by_chance:
                _to_contexts_by_chance(weighted, group, stop, step_draws, walkers)
            else:
                _to_contexts(uniform, group, stop, step_draws, walkers)
            counted, end = _count(earlier, counted, counted + _COUNTED_BETWEEN, tally, end)
        for group in range(_ZERO, going, _GROUP):
            stop = min(group + _GROUP, going)
            if by_chance:
                _to_items_by_chance(weighted, group, stop, step_draws, end_below, walkers)
            else:
                _to_items(uniform, group, stop, walkers)
            counted, end = _count(earlier, counted, counted + _COUNTED_BETWEEN, tally, end)
    return num_visits, end


@njit(cache=True, nogil=True)
def _prefetch_own_edges(seed_word, own, by_chance):  # type: ignore[no-untyped-def]
    start = seed_word >> _DEGREE_BITS
    if by_chance:
        start *= _THREE
    for line in range(4):
        prefetch_far(own, start + np.uint64(8 * line))


@njit(cache=True, nogil=True)
def _walkers(num_walks):  # type: ignore[no-untyped-def]
    # A walk that has ended may be written once behind the last that goes on.
    return (
        np.empty(num_walks, np.uint64),
        np.empty(num_walks, np.uint64),
        np.empty(num_walks, np.uint64),
        np.empty(num_walks, np.uint64),
    )


@njit(cache=True, nogil=True)
def _visits_of_some(job, first, last, empty_table, visited):  # type: ignore[no-untyped-def]
    walkers, tally = _walkers(job[8]), _tally(empty_table, 0)
    for row in range(first, last):
        num_visits, _ = _walk(job, row, walkers, visited[row], visited[row, :0], tally)
        visited[row, num_visits:] = -1


@njit(cache=True, nogil=True, parallel=True)
def visits_of_all(job, num_blocks, empty_table, visited):  # type: ignore[no-untyped-def]
    """Write the visits of every seed, then -1; see `pinsage.kernels.walks.random_walks`."""
    # Numba cannot pass tuples of tuples to its threads.
    by_chance, uniform, weighted, own, seeds, seed_words, key, limits, num_walks = job
    for block in prange(num_blocks):
        part = (by_chance, uniform, weighted, own, seeds, seed_words, key, limits, num_walks)
        first, last = seeds.size * block // num_blocks, seeds.size * (block + 1) // num_blocks
        _visits_of_some(part, first, last, empty_table, visited)


@njit(cache=True, nogil=True)
def _neighborhoods_of_some(job, first, last, empty_table, ids, counts):  # type: ignore[no-untyped-def]
    """Walk from the seeds of some rows, each while the one before is counted."""
    by_chance, _, _, own, seeds, seed_words, _, limits, num_walks = job
    walkers = _walkers(num_walks)
    visited = np.empty(num_walks * limits[0], ids.dtype)
    earlier = np.empty(num_walks * limits[0], ids.dtype)
    num_earlier = _ZERO
    tally, scratch = _tally(empty_table, visited.size), _scratch(visited.size)
    for row in range(first, last):
        if row + 2 < last:
            _prefetch_own_edges(seed_words[row + 2], own, by_chance)
        _begin_count(seeds[max(row - 1, first)], earlier[:num_earlier], tally)
        num_visits, end = _walk(job, row, walkers, visited, earlier[:num_earlier], tally)
        if row > first:
            _keep_top(seeds[row - 1], tally, end, scratch, ids[row - 1], counts[row - 1])
        visited, earlier = earlier, visited
        num_earlier = num_visits
    _begin_count(seeds[last - 1], earlier[:num_earlier], tally)
    _, end = _count(earlier, _ZERO, num_earlier, tally, _FIRST_PLACE)
    _keep_top(seeds[last - 1], tally, end, scratch, ids[last - 1], counts[last - 1])


@njit(cache=True, nogil=True, parallel=True)
def neighborhoods_of_all(job, num_blocks, empty_table, ids, counts):  # type: ignore[no-untyped-def]
    """Write the neighborhood of every seed; see `pinsage.kernels.walks.walk_neighborhoods`."""
    # Numba cannot pass tuples of tuples to its threads.
    by_chance, uniform, weighted, own, seeds, seed_words, key, limits, num_walks = job
    for block in prange(num_blocks):
        part = (by_chance, uniform, weighted, own, seeds, seed_words, key, limits, num_walks)
        first, last = seeds.size * block // num_blocks, seeds.size * (block + 1) // num_blocks
        if first < last:
            _neighborhoods_of_some(part, first, last, empty_table, ids, counts)


@njit(cache=True, nogil=True, parallel=True)
def top_of_all(visited, num_visits, seeds, num_blocks, empty_table, ids, counts):  # type: ignore[no-untyped-def]
    """Count every row's visits and keep the top; see `pinsage.kernels.visits.top_of_visits`."""
    num_seeds, most = visited.shape
    for block in prange(num_blocks):
        tally, scratch = _tally(empty_table, most), _scratch(most)
        for row in range(num_seeds * block // num_blocks, num_seeds * (block + 1) // num_blocks):
            stop = np.uint64(num_visits[row])
            _begin_count(seeds[row], visited[row, :stop], tally)
            _, end = _count(visited[row], _ZERO, stop, tally, _FIRST_PLACE)
            _keep_top(seeds[row], tally, end, scratch, ids[row], counts[row])
