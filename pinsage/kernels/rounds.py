"""The compiled heart of a walk by rounds: one shard's part of every step of many walks.

Step by step as `engine` walks, draw for draw; but a shard reads its own rows alone, and passes each
walk on to the shard of the node it goes to. The same three things make it fast: a pass a memory
level, each asking for what the next one reads; no branch on what cannot be predicted; and what
leaves goes straight to its shard's part of an outbox, so that it travels as few large arrays.

A walker is one number: `(seed - first seed of the batch) << walk_bits | walk`. Any shard hashes a
walk's draws from it, so that draws never travel.

`graph` is (words, edges): of each row the packed word `start << 24 | degree`, and ids of the other
side; where edges have chances, three numbers an edge: id, other id, threshold. `draws` is (first
seed, key, walk bits, step, end below), `shards` is (how many, the reciprocal of that). An outbox is
(arrays..., the next free place of every shard's part, where the parts end); a kernel that finds too
little room in one stops early.
"""

import numpy as np
from numba import njit

from pinsage.kernels.engine import ITEM_STRIDE, NEXT_DRAW, STEP_STRIDE, WALK_STRIDE
from pinsage.kernels.intrinsics import multiply_high, prefetch_far

BLOCK = 1_024
"""Walkers moved together: what they ask for stays in the second-level cache until it is read."""

BLOCK_OF_GROUPS = 1_024
"""The same for walkers that have just departed, or a few more: the groups that go together."""

_AHEAD = 16
_DEGREE_BITS = np.uint64(24)
_DEGREE_MASK = np.uint64(0xFFFFFF)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_ZERO = np.uint64(0)
_ONE = np.uint64(1)
_TWO = np.uint64(2)
_THREE = np.uint64(3)
_HALF_WORD = np.uint64(32)


@njit(cache=True, nogil=True)
def _mix(x):  # type: ignore[no-untyped-def]
    """The splitmix64 finalizer: every input bit moves every output bit."""
    x = (x ^ (x >> np.uint64(30))) * _MIX_1
    x = (x ^ (x >> np.uint64(27))) * _MIX_2
    return x ^ (x >> np.uint64(31))


@njit(cache=True, nogil=True)
def _place(node, shards):  # type: ignore[no-untyped-def]
    """Give a node's shard and its row there."""
    count, reciprocal = shards
    row = multiply_high(node, reciprocal) if count > _ONE else node
    return row, node - row * count


@njit(cache=True, nogil=True)
def _hash_draws(walkers, draws, draw):  # type: ignore[no-untyped-def]
    """Hash the draws of a step of some walkers: a loop of its own, which fills vector registers."""
    first, key, bits, step, _ = draws
    mask = (_ONE << bits) - _ONE
    base = key + (first + _ONE) * ITEM_STRIDE
    for w in range(walkers.size):
        walker = np.uint64(walkers[w])
        origin = _mix(base + (walker >> bits) * ITEM_STRIDE)
        draw[w] = _mix(origin + (walker & mask) * WALK_STRIDE + step * STEP_STRIDE)


@njit(cache=True, nogil=True)
def _hash_first_draws(origin, draw):  # type: ignore[no-untyped-def]
    """Hash the first draws of all walks of a seed."""
    for walk in range(draw.size):
        draw[walk] = _mix(origin + np.uint64(walk) * WALK_STRIDE)


@njit(cache=True, nogil=True)
def _has_room(num, outbox):  # type: ignore[no-untyped-def]
    """Tell whether so many more rows fit into every shard's part of an outbox."""
    free, ends = outbox[-2], outbox[-1]
    fits = True
    for shard in range(free.size):
        fits &= ends[shard] - free[shard] >= np.uint64(num)
    return fits


@njit(cache=True, nogil=True)
def depart(  # type: ignore[no-untyped-def]
    by_chance, graph, draws, shards, shard, first_row, num_seeds, num_walks, groups, walks
):
    """Choose the first context of every walk of a shard's seeds.

    Walks of a seed that go to one context form a group. Groups leave by the outbox `groups` (seed,
    counted from the batch's first; the seed's degree; the context's row; how many walks), and the
    walk numbers group by group by the outbox `walks`. Returns how many seeds it did.
    """
    words, edges = graph
    seeds, degrees, rows, sizes, group_free, _ = groups
    numbers, walk_free, _ = walks
    first, key, _, _, _ = draws
    count, _ = shards
    places, drawn = np.empty(num_walks, np.uint32), np.empty(num_walks, np.uint64)
    # Even and odd walks are counted apart: fewer additions wait for the one before.
    at = np.zeros((2, num_walks + 1), np.uint64)
    for done in range(num_seeds):
        own_row = np.uint64(first_row + done)
        seed = own_row * count + shard
        ahead = min(own_row + _TWO, np.uint64(words.size) - _ONE)
        prefetch_far(edges, words[ahead] >> _DEGREE_BITS)
        start, degree = words[own_row] >> _DEGREE_BITS, words[own_row] & _DEGREE_MASK
        if degree == _ZERO:
            continue
        if not (_has_room(num_walks, groups) and _has_room(num_walks, walks)):
            return np.int64(done)
        origin = _mix(key + (seed + _ONE) * ITEM_STRIDE)
        wanted = degree * _TWO if by_chance else degree
        single = wanted > np.uint64(num_walks)
        _hash_first_draws(origin, drawn)
        for walk in range(np.uint64(num_walks)):
            place = multiply_high(drawn[walk], degree)
            if by_chance:
                slot = _THREE * (start + place)
                own = (drawn[walk] * degree) >> _HALF_WORD < np.uint64(edges[slot + _TWO])
                place = place * _TWO + np.uint64(not own)
            places[walk] = place
            if not single:
                at[walk & _ONE, place] += _ONE
        num_places = np.uint64(num_walks) if single else wanted
        for place in range(num_places):
            chosen = np.uint64(places[place]) if single else place
            evens = at[0, place]
            size = _ONE if single else evens + at[1, place]
            position = start + chosen
            if by_chance:
                position = _THREE * (start + (chosen >> _ONE)) + (chosen & _ONE)
            row, shard_of_context = _place(np.uint64(edges[position]), shards)
            group = group_free[shard_of_context]
            seeds[group] = seed - first
            degrees[group] = degree
            rows[group] = row
            sizes[group] = size
            group_free[shard_of_context] = group + np.uint64(size > _ZERO)
            filled = walk_free[shard_of_context]
            at[0, place] = filled
            at[1, place] = filled + evens
            walk_free[shard_of_context] = filled + size
        for walk in range(np.uint64(num_walks)):
            place = walk if single else np.uint64(places[walk])
            numbers[at[walk & _ONE, place]] = walk
            at[walk & _ONE, place] += _ONE
        at[:, :num_places] = 0
    return num_seeds


@njit(cache=True, nogil=True)
def _arrive(  # type: ignore[no-untyped-def]
    by_chance, edges, block, end_below, goes_on, num, shards, items, going
):
    """Read the items that a block's positions lead to; walks that go on leave for their shards."""
    position, fraction, walker, nodes = block
    walkers, rows, free, _ = going
    still_going = _ZERO
    for w in range(num):
        if by_chance:
            slot = position[w]
            own = fraction[w] >> _ONE < np.uint64(edges[slot + _TWO])
            node = edges[slot + np.uint64(not own)]
            more = fraction[w] & goes_on
        else:
            node = edges[position[w]]
            more = np.uint64(fraction[w] >= end_below) & goes_on
        items[w] = node
        nodes[still_going] = node
        walker[still_going] = walker[w]
        still_going += more
    for w in range(still_going):
        row, shard = _place(np.uint64(nodes[w]), shards)
        to = free[shard]
        walkers[to] = walker[w]
        rows[to] = row
        free[shard] = to + _ONE


@njit(cache=True, nogil=True)
def _choose_item(by_chance, word, draw, degree, end_below):  # type: ignore[no-untyped-def]
    """Give the position of a context's choice, and the fraction that decides the rest."""
    start, size = word >> _DEGREE_BITS, word & _DEGREE_MASK
    if by_chance:
        draw = _mix(draw ^ NEXT_DRAW)
        goes_on = np.uint64(_mix(draw ^ NEXT_DRAW) >= end_below)
        position = _THREE * (start + multiply_high(draw, size))
        return position, (draw * size) >> _HALF_WORD << _ONE | goes_on
    left = draw * degree
    return start + multiply_high(left, size), left * size


@njit(cache=True, nogil=True)
def pass_groups(by_chance, graph, draws, shards, goes_on, groups, walks, items, going):  # type: ignore[no-untyped-def]
    """Move walks that have just departed from their contexts to items.

    Writes the item of every walk, in the order they came; those that go on leave by the outbox
    `going`, of walkers and their items' rows. Returns how many groups and how many walks it moved.
    """
    words, edges = graph
    seeds, degrees, rows, sizes = groups
    first, key, bits, _, end_below = draws
    most = np.uint64(BLOCK_OF_GROUPS) + (np.uint64(sizes.max()) if sizes.size else _ZERO)
    room = min(most, np.uint64(walks.size))
    position, fraction = np.empty(room, np.uint64), np.empty(room, np.uint64)
    walker, nodes = np.empty(room, np.uint32), np.empty(room, edges.dtype)
    block = (position, fraction, walker, nodes)
    taken, written, waiting = _ZERO, _ZERO, _ZERO
    last = np.uint64(seeds.size) - _ONE
    for group in range(np.uint64(seeds.size)):
        if waiting == _ZERO and not _has_room(room, going):
            return group, written
        prefetch_far(words, np.uint64(rows[min(group + np.uint64(_AHEAD), last)]))
        word, degree = words[rows[group]], np.uint64(degrees[group])
        seed = np.uint64(seeds[group])
        origin = _mix(key + (first + seed + _ONE) * ITEM_STRIDE)
        size = np.uint64(sizes[group])
        for place in range(size):
            walk = np.uint64(walks[taken + place])
            fraction[waiting + place] = _mix(origin + walk * WALK_STRIDE)
            walker[waiting + place] = seed << bits | walk
        for place in range(waiting, waiting + size):
            chosen, rest = _choose_item(by_chance, word, fraction[place], degree, end_below)
            prefetch_far(edges, chosen)
            position[place] = chosen
            fraction[place] = rest
        waiting += size
        taken += size
        if waiting >= np.uint64(BLOCK_OF_GROUPS) or group == last:
            _arrive(
                by_chance, edges, block, end_below, goes_on, waiting, shards, items[written:], going
            )
            written += waiting
            waiting = _ZERO
    return np.uint64(seeds.size), written


@njit(cache=True, nogil=True)
def pass_walkers(by_chance, graph, draws, shards, goes_on, arriving, first_row, visits, going):  # type: ignore[no-untyped-def]
    """Move walkers from contexts to items, as `pass_groups`.

    A visit leaves by the outbox `visits`, of the seed's row, counted from the batch's first, and
    the item. Returns how many walkers it moved.
    """
    words, edges = graph
    came, rows, degrees = arriving
    seed_rows, items, free, _ = visits
    first, _, bits, _, end_below = draws
    position, fraction = np.empty(BLOCK, np.uint64), np.empty(BLOCK, np.uint64)
    walker, nodes = np.empty(BLOCK, np.uint32), np.empty(BLOCK, edges.dtype)
    arrived = np.empty(BLOCK, edges.dtype)
    for begin in range(_ZERO, np.uint64(came.size), np.uint64(BLOCK)):
        num = min(np.uint64(BLOCK), np.uint64(came.size) - begin)
        if not (_has_room(num, visits) and _has_room(num, going)):
            return begin
        for w in range(num):
            prefetch_far(words, np.uint64(rows[begin + w]))
        _hash_draws(came[begin : begin + num], draws, fraction)
        for w in range(num):
            degree = _ONE if by_chance else np.uint64(degrees[begin + w])
            word = words[rows[begin + w]]
            chosen, rest = _choose_item(by_chance, word, fraction[w], degree, end_below)
            prefetch_far(edges, chosen)
            position[w] = chosen
            fraction[w] = rest
            walker[w] = came[begin + w]
        _arrive(
            by_chance, edges, (position, fraction, walker, nodes), end_below, goes_on, num, shards,
            arrived, going,
        )  # fmt: skip
        for w in range(num):
            row, home = _place(first + (np.uint64(came[begin + w]) >> bits), shards)
            to = free[home]
            seed_rows[to] = row - first_row
            items[to] = arrived[w]
            free[home] = to + _ONE
    return np.uint64(came.size)


@njit(cache=True, nogil=True)
def leave_items(by_chance, graph, draws, shards, arriving, going):  # type: ignore[no-untyped-def]
    """Choose the next context of walkers that stand on a shard's items.

    They leave by the outbox `going`, of walkers, their contexts' rows and, unless edges have
    chances, their items' degrees. Returns how many it moved, and the smallest degree; 0 stands for
    edges that two shards don't agree on.
    """
    words, edges = graph
    came, rows = arriving
    walkers, to_rows, degrees, free, _ = going
    position, draw = np.empty(BLOCK, np.uint64), np.empty(BLOCK, np.uint64)
    sizes = np.empty(BLOCK, np.uint32)
    smallest = _DEGREE_MASK
    for begin in range(_ZERO, np.uint64(came.size), np.uint64(BLOCK)):
        num = min(np.uint64(BLOCK), np.uint64(came.size) - begin)
        if not _has_room(num, going):
            return begin, smallest
        for w in range(num):
            prefetch_far(words, np.uint64(rows[begin + w]))
        _hash_draws(came[begin : begin + num], draws, draw)
        for w in range(num):
            word = words[rows[begin + w]]
            degree = word & _DEGREE_MASK
            smallest = min(smallest, degree)
            position[w] = (word >> _DEGREE_BITS) + multiply_high(draw[w], degree)
            if by_chance:
                position[w] *= _THREE
            draw[w] = (draw[w] * degree) >> _HALF_WORD
            sizes[w] = degree
            prefetch_far(edges, position[w])
        if smallest == _ZERO:
            return begin, smallest
        for w in range(num):
            slot = position[w]
            if by_chance:
                slot += np.uint64(draw[w] >= np.uint64(edges[slot + _TWO]))
            position[w] = edges[slot]
        for w in range(num):
            row, shard = _place(position[w], shards)
            to = free[shard]
            walkers[to] = came[begin + w]
            to_rows[to] = row
            if not by_chance:
                degrees[to] = sizes[w]
            free[shard] = to + _ONE
    return np.uint64(came.size), smallest


@njit(cache=True, nogil=True)
def take_first_visits(seeds, sizes, items, draws, shards, first_row, visited, filled):  # type: ignore[no-untyped-def]
    """Add the visits of departed groups to their seeds' rows; one group's follow the other's."""
    first, _, _, _, _ = draws
    taken = _ZERO
    for group in range(np.uint64(seeds.size)):
        row, _ = _place(first + np.uint64(seeds[group]), shards)
        row -= first_row
        at, size = np.uint64(filled[row]), np.uint64(sizes[group])
        for place in range(size):
            visited[row, at + place] = items[taken + place]
        filled[row] += size
        taken += size


@njit(cache=True, nogil=True)
def take_visits(rows, skipped, items, visited, filled):  # type: ignore[no-untyped-def]
    """Add visits to their seeds' rows; `skipped` rows of the batch are not of this shard."""
    for visit in range(np.uint64(rows.size)):
        row = np.uint64(rows[visit]) - skipped
        visited[row, np.uint64(filled[row])] = items[visit]
        filled[row] += 1
