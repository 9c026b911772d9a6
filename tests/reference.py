"""The obvious slow version of every kernel: plain loops, no tricks, easy to check by eye."""

from collections import Counter, defaultdict
from fractions import Fraction

import numpy as np

_WORD = 2**64


def build_csr(rows, cols, num_rows):
    """Sort the edges, then cut them into rows."""
    lists = [[] for _ in range(num_rows)]
    for row, col in sorted(zip(rows, cols, strict=True)):
        lists[row].append(col)
    starts = np.cumsum([0, *map(len, lists)], dtype=np.int64)
    return starts, np.array([col for row in lists for col in row], np.int32)


def edge_lists(starts, cols):
    """The columns of every row, as lists of Python integers."""
    return [
        [int(col) for col in cols[starts[row] : starts[row + 1]]] for row in range(len(starts) - 1)
    ]


def draw(key, seed, walk, step):
    """The 64-bit draw that one step of one walk spends."""
    at_seed = _mix(key + (seed + 1) * 0x9E3779B97F4A7C15)
    return _mix(at_seed + walk * 0xD1B54A32D192ED03 + step * 0x8CB92BA72F3D8DD7)


def walk_once(contexts_of, items_of, key, seed, walk, *, walk_length, restart):
    """The items that one walk arrives at, in order; the draws are read as exact fractions."""
    visits = []
    item = seed
    for step in range(walk_length):
        if not contexts_of[item]:
            break
        left = Fraction(draw(key, seed, walk, step), _WORD)
        context, left = _pick(contexts_of[item], left)
        item, left = _pick(items_of[context], left)
        visits.append(item)
        if left < Fraction(restart):
            break
    return visits


def walk_neighborhoods(
    contexts_of, items_of, seeds, *, key, num_walks, walk_length, restart, num_neighbors
):
    """One walk after another; then count, drop the seed, sort."""
    ids = np.full((len(seeds), num_neighbors), -1, np.int32)
    counts = np.zeros((len(seeds), num_neighbors), np.int32)
    for row, seed in enumerate(seeds):
        visits = [
            item
            for walk in range(num_walks)
            for item in walk_once(
                contexts_of, items_of, key, seed, walk, walk_length=walk_length, restart=restart
            )
        ]
        for place, (item, count) in enumerate(top_visited(visits, seed, num_neighbors)):
            ids[row, place], counts[row, place] = item, count
    return ids, counts


def top_visited(visits, seed, num_neighbors):
    """(item, count) by count descending, then in the seed's own order, without the seed."""
    visit_counts = Counter(item for item in visits if item != seed)
    salt = _splitmix((int(seed) + 1) * 0x9E3779B97F4A7C15 % 2**64) % 2**32

    def last_to_first(pair):
        high, low = divmod(pair[0], 2**32)
        mixed = (low ^ salt) * 0x9E3779B1 % 2**32
        return -pair[1], high, (mixed ^ mixed >> 16) * 0x9E3779B1 % 2**32

    return sorted(visit_counts.items(), key=last_to_first)[:num_neighbors]


def _splitmix(number):
    number = (number ^ number >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    number = (number ^ number >> 27) * 0x94D049BB133111EB % 2**64
    return number ^ number >> 31


def visit_shares(
    contexts_of, items_of, seed, *, walk_length, restart, context_weights=None, item_weights=None
):
    """The exact share of all expected visits that each item gets, the seed itself included.

    The weights are lists parallel to the other two; without them, all choices are alike.
    """
    context_weights = context_weights or [[1] * len(row) for row in contexts_of]
    item_weights = item_weights or [[1] * len(row) for row in items_of]
    expected = defaultdict(Fraction)
    standing = {seed: Fraction(1)}
    for _ in range(walk_length):
        arrived = defaultdict(Fraction)
        for item, chance in standing.items():
            for context, share in _shares(contexts_of[item], context_weights[item]):
                for reached, part in _shares(items_of[context], item_weights[context]):
                    arrived[reached] += chance * share * part
        for item, chance in arrived.items():
            expected[item] += chance
        standing = {item: chance * (1 - Fraction(restart)) for item, chance in arrived.items()}
    total = sum(expected.values())
    return {item: float(chance / total) for item, chance in expected.items()}


def importance_weights(counts):
    """Divide each row by its sum; an empty row stays zero."""
    return np.array(
        [[count / max(1, sum(row)) for count in row] for row in counts.tolist()], np.float32
    ).reshape(counts.shape)


def extend_with_neighbors(unique, neighbor_ids):
    """Append the unseen neighbors to a list, by id, and look every neighbor up in it."""
    all_ids = [int(item) for item in unique]
    all_ids += sorted({int(item) for item in neighbor_ids.flat} - {-1, *all_ids})
    slots = np.zeros(neighbor_ids.shape, np.int64)
    for place in np.ndindex(neighbor_ids.shape):
        item = int(neighbor_ids[place])
        if item == -1:
            continue
        slots[place] = all_ids.index(item)
    return np.array(all_ids, unique.dtype), slots


def layers_from_table(seeds, table_ids, num_layers):
    """Extend the seeds by their neighbors' rows, layer after layer."""
    ids, layers = seeds, []
    for _ in range(num_layers):
        ids, slots = extend_with_neighbors(ids, table_ids[ids])
        layers.append((slots, len(ids)))
    return layers, ids


def top_k(scores, k):
    """Sort each row by score descending, then id ascending; pad with -1 and -inf."""
    ids = np.full((len(scores), k), -1, np.int32)
    best = np.full((len(scores), k), -np.inf, np.float32)
    for row, candidates in enumerate(scores):
        order = sorted(range(len(candidates)), key=lambda item: (-candidates[item], item))[:k]
        ids[row, : len(order)] = order
        best[row, : len(order)] = candidates[order]
    return ids, best


def rank_bounds(scores, query_rows, query_ids, targets):
    """How many other candidates score above, and exactly as, each target."""
    better, tied = [], []
    for row, query, target in zip(query_rows, query_ids, targets, strict=True):
        rivals = [item for item in range(scores.shape[1]) if item not in {query, target}]
        better.append(sum(bool(scores[row, item] > scores[row, target]) for item in rivals))
        tied.append(sum(bool(scores[row, item] == scores[row, target]) for item in rivals))
    return better, tied


def weighted_cooccurrence(contexts_of, items_of, context_weights, seeds):
    """Add up shared contexts one at a time, in float32."""
    scores = np.zeros((len(seeds), len(contexts_of)), np.float32)
    for row, seed in enumerate(seeds):
        for context in contexts_of[seed]:
            for item in items_of[context]:
                scores[row, item] += context_weights[context]
    return scores


def _mix(x):
    x %= _WORD
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % _WORD
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % _WORD
    return x ^ (x >> 31)


def _shares(choices, weights):
    total = sum(map(Fraction, weights))
    return [(c, Fraction(weight) / total) for c, weight in zip(choices, weights, strict=True)]


def _pick(choices, fraction):
    """The choice that a fraction of one points at, and the fraction left within its share."""
    place, left = divmod(fraction * len(choices), 1)
    return choices[place], left
