"""The compiled loops behind `topk.py`: counting rivals, and lists of the best as heaps."""

import numpy as np
from numba import njit, prange

_STRIP = 128
"""Scores looked at together."""


@njit(cache=True, nogil=True)
def _worse(scores, ids, left, right):  # type: ignore[no-untyped-def]
    if scores[left] == scores[right]:
        return ids[left] > ids[right]
    return scores[left] < scores[right]


@njit(cache=True, nogil=True)
def _sink(scores, ids, place, size):  # type: ignore[no-untyped-def]
    """Restore the heap whose root is its worst member, below `place`."""
    while True:
        worst = place
        for child in (2 * place + 1, 2 * place + 2):
            if child < size and _worse(scores, ids, child, worst):
                worst = child
        if worst == place:
            return
        scores[place], scores[worst] = scores[worst], scores[place]
        ids[place], ids[worst] = ids[worst], ids[place]
        place = worst


@njit(cache=True, nogil=True)
def _heapify(scores, ids, size):  # type: ignore[no-untyped-def]
    for place in range(size // 2 - 1, -1, -1):
        _sink(scores, ids, place, size)


@njit(cache=True, nogil=True)
def _offer(ids, best, size, candidate, score):  # type: ignore[no-untyped-def]
    """Take a candidate into a list that has room or a worse member; give the list's new size."""
    if size < best.size:
        ids[size] = candidate
        best[size] = score
        if size + 1 == best.size:
            _heapify(best, ids, best.size)
        return size + 1
    # Ids ascend, so a candidate that only draws with the worst member loses to it.
    if score > best[0]:
        best[0] = score
        ids[0] = candidate
        _sink(best, ids, 0, size)
    return size


@njit(cache=True, nogil=True)
def _unwind(ids, best, size):  # type: ignore[no-untyped-def]
    """Turn a list into one with the best first; one that is not full is no heap yet."""
    if size < best.size:
        _heapify(best, ids, size)
    for last in range(size - 1, 0, -1):
        best[0], best[last] = best[last], best[0]
        ids[0], ids[last] = ids[last], ids[0]
        _sink(best, ids, 0, last)


@njit(cache=True, nogil=True)
def pick_row(candidates, ids, best):  # type: ignore[no-untyped-def]
    """Fill one row's list."""
    size = 0
    for candidate in range(candidates.size):
        if size < best.size or candidates[candidate] > best[0]:
            size = _offer(ids, best, size, candidate, candidates[candidate])
    _unwind(ids, best, size)


@njit(cache=True, nogil=True, parallel=True)
def pick_best(scores, all_ids, all_best):  # type: ignore[no-untyped-def]
    """Fill every row's list."""
    for row in prange(scores.shape[0]):
        pick_row(scores[row], all_ids[row], all_best[row])


@njit(cache=True, nogil=True)
def _counts(scores, low, high):  # type: ignore[no-untyped-def]
    """How many scores are above `high`, and how many from `low` to `high`."""
    above = np.int64(0)
    reach = np.int64(0)
    whole = scores.size - scores.size % _STRIP
    for start in range(0, whole, _STRIP):
        # Single bytes: the compiler then compares 32 scores at a time, and none overflows.
        strip_above = np.uint8(0)
        strip_reach = np.uint8(0)
        for place in range(start, start + _STRIP):
            strip_above = np.uint8(strip_above + np.uint8(scores[place] > high))
            strip_reach = np.uint8(strip_reach + np.uint8(scores[place] >= low))
        above += strip_above
        reach += strip_reach
    for place in range(whole, scores.size):
        above += scores[place] > high
        reach += scores[place] >= low
    return above, reach - above


@njit(cache=True, nogil=True, parallel=True)
def count_rivals(scores, query_rows, query_ids, targets, bars, better, tied):  # type: ignore[no-untyped-def]
    """Compare every pair's bar with the whole row of its query."""
    for pair in prange(targets.size):
        row = scores[query_rows[pair]]
        target = targets[pair]
        query = query_ids[pair]
        bar = bars[pair]
        above, level = _counts(row, bar, bar)
        if query >= 0 and query != target:
            above -= row[query] > bar
            level -= row[query] == bar
        better[pair] = above
        tied[pair] = level - (target >= 0)


@njit(cache=True, nogil=True)
def _dot(left, right):  # type: ignore[no-untyped-def]
    sums = (0.0, 0.0, 0.0, 0.0)
    whole = left.size - left.size % 4
    for place in range(0, whole, 4):
        sums = (
            sums[0] + np.float64(left[place]) * np.float64(right[place]),
            sums[1] + np.float64(left[place + 1]) * np.float64(right[place + 1]),
            sums[2] + np.float64(left[place + 2]) * np.float64(right[place + 2]),
            sums[3] + np.float64(left[place + 3]) * np.float64(right[place + 3]),
        )
    total = (sums[0] + sums[1]) + (sums[2] + sums[3])
    for place in range(whole, left.size):
        total += np.float64(left[place]) * np.float64(right[place])
    return np.float32(total)


@njit(cache=True, nogil=True, parallel=True)
def score_again(queries, items, query_rows, item_rows, scores):  # type: ignore[no-untyped-def]
    """Score pairs of rows one by one."""
    for pair in prange(scores.size):
        scores[pair] = _dot(queries[query_rows[pair]], items[item_rows[pair]])


@njit(cache=True, nogil=True, parallel=True)
def scan(  # type: ignore[no-untyped-def]
    approximate,
    all_slack,
    queries,
    items,
    is_known,
    first,
    own_rows,
    starts,
    bars,
    targets,
    better,
    tied,
    list_ids,
    list_scores,
    sizes,
):
    """Let every query see some items: count its pairs' rivals, and offer them to its list."""
    num_columns = approximate.shape[1]
    for row in prange(approximate.shape[0]):
        scores, query, slack = approximate[row], queries[row], all_slack[row]
        own = own_rows[row] - first
        is_exact = False
        for pair in range(starts[row], starts[row + 1]):
            bar = bars[pair]
            above, near = _counts(scores, bar - slack, bar + slack)
            # Where much is too close to call, all of it is scored again, once for all pairs.
            if 16 * near > num_columns + 64 and not is_exact:
                for column in range(num_columns):
                    scores[column] = _dot(query, items[column])
                is_exact = True
                slack = np.float32(0)
                above, near = _counts(scores, bar, bar)
            if 0 <= own < num_columns and scores[own] > bar + slack:
                above -= 1
            level = 0
            for start in range(0, num_columns if near else 0, _STRIP):
                stop = min(start + _STRIP, num_columns)
                if _counts(scores[start:stop], bar - slack, bar + slack)[1] == 0:
                    continue
                for column in range(start, stop):
                    score = scores[column]
                    if score < bar - slack or score > bar + slack:
                        continue
                    if column != own and first + column != targets[pair]:
                        if not is_exact:
                            score = _dot(query, items[column])
                        above += score > bar
                        level += score == bar
            better[pair] += above
            tied[pair] += level
        ids, best, size = list_ids[row], list_scores[row], sizes[row]
        for start in range(0, num_columns if best.size else 0, _STRIP):
            stop = min(start + _STRIP, num_columns)
            if size == best.size:
                enough = best[0] - slack
                above, near = _counts(scores[start:stop], enough, enough)
                if above + near == 0:
                    continue
            for column in range(start, stop):
                if size == best.size and scores[column] + slack < best[0]:
                    continue
                if column != own and is_known[column]:
                    score = scores[column] if is_exact else _dot(query, items[column])
                    size = _offer(ids, best, size, first + column, score)
        sizes[row] = size


@njit(cache=True, nogil=True, parallel=True)
def unwind_all(list_ids, list_scores, sizes):  # type: ignore[no-untyped-def]
    """Put every list in order."""
    for row in prange(sizes.size):
        _unwind(list_ids[row], list_scores[row], sizes[row])
