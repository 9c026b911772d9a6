"""The best k by score, and where one target stands among all candidates."""

import numpy as np
from jaxtyping import Float32, Int, Int32, Int64
from numba import njit, prange

from pinsage.kernels.checks import require_ids, require_positive, require_vector


def top_k(
    scores: Float32[np.ndarray, "queries candidates"], k: int
) -> tuple[Int32[np.ndarray, "queries k"], Float32[np.ndarray, "queries k"]]:
    """Pick each row's k best candidates, best first, ties by smaller id.

    Args:
        scores: One row a query; higher is better; -inf is a score like any other.
        k: How many to pick.

    Returns:
        Ids and scores; where there are fewer than k candidates, id -1 and score -inf follow.

    Raises:
        ValueError: k below 1, scores of another shape or type, or a NaN among them.

    >>> ids, best = top_k(np.array([[0.5, 2.0, 2.0]], np.float32), 2)
    >>> ids.tolist(), best.tolist()
    ([[1, 2]], [[2.0, 2.0]])
    """
    require_positive("k", k)
    _require_scores(scores)
    ids = np.full((scores.shape[0], k), -1, np.int32)
    best = np.full((scores.shape[0], k), -np.inf, np.float32)
    _pick_best(np.ascontiguousarray(scores), ids, best)
    return ids, best


def rank_bounds(
    scores: Float32[np.ndarray, "queries candidates"],
    query_rows: Int[np.ndarray, " pairs"],
    query_ids: Int[np.ndarray, " pairs"],
    targets: Int[np.ndarray, " pairs"],
) -> tuple[Int64[np.ndarray, " pairs"], Int64[np.ndarray, " pairs"]]:
    """Count, for each pair, the other candidates that beat its target or draw with it.

    The target's rank is `better + 1` at best and `better + tied + 1` at worst. Neither the target
    nor the query item itself is counted.

    Args:
        scores: One row a query, one column a candidate item; higher is better.
        query_rows: The row of scores that belongs to each pair.
        query_ids: The item each pair asks about; -1 if it isn't among the candidates.
        targets: The item whose standing is wanted.

    Returns:
        `better` and `tied`, one number a pair.

    Raises:
        ValueError: Arrays of unequal length, ids out of range, or a NaN score.

    >>> row = np.array([[9.0, 3.0, 3.0, 5.0]], np.float32)
    >>> better, tied = rank_bounds(row, np.array([0]), np.array([0]), np.array([1]))
    >>> better.tolist(), tied.tolist()
    ([1], [1])
    """
    _require_scores(scores)
    for name, ids in (("query_rows", query_rows), ("query_ids", query_ids), ("targets", targets)):
        require_vector(name, ids)
    if not query_rows.size == query_ids.size == targets.size:
        raise ValueError(
            "query_rows, query_ids and targets must pair up; found"
            f" {query_rows.size}, {query_ids.size} and {targets.size}"
        )
    require_ids("query_rows", query_rows, scores.shape[0])
    require_ids("query_ids", query_ids, scores.shape[1], lowest=-1)
    require_ids("targets", targets, scores.shape[1])
    better = np.empty(targets.size, np.int64)
    tied = np.empty(targets.size, np.int64)
    _count_rivals(
        np.ascontiguousarray(scores),
        query_rows.astype(np.int64, copy=False),
        query_ids.astype(np.int64, copy=False),
        targets.astype(np.int64, copy=False),
        better,
        tied,
    )
    return better, tied


def _require_scores(scores: np.ndarray) -> None:
    if scores.ndim != 2 or scores.dtype != np.float32:
        raise ValueError(
            f"scores must be a two-dimensional float32 array; found shape {scores.shape} of"
            f" {scores.dtype}"
        )
    # The minimum carries a NaN along without a second array of this size.
    if bool(np.isnan(scores.min(initial=np.inf))):
        row, column = np.argwhere(np.isnan(scores))[0]
        raise ValueError(f"scores must be numbers; found NaN at row {row}, candidate {column}")


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


@njit(cache=True, nogil=True, parallel=True)
def _pick_best(scores, all_ids, all_best):  # type: ignore[no-untyped-def]
    num_candidates = scores.shape[1]
    for row in prange(scores.shape[0]):
        candidates, ids, best = scores[row], all_ids[row], all_best[row]
        size = min(best.size, num_candidates)
        for candidate in range(size):
            ids[candidate] = candidate
            best[candidate] = candidates[candidate]
        for place in range(size // 2 - 1, -1, -1):
            _sink(best, ids, place, size)
        # Ids ascend, so a candidate that only draws with the worst member loses to it.
        for candidate in range(size, num_candidates):
            if candidates[candidate] > best[0]:
                best[0] = candidates[candidate]
                ids[0] = candidate
                _sink(best, ids, 0, size)
        for last in range(size - 1, 0, -1):
            best[0], best[last] = best[last], best[0]
            ids[0], ids[last] = ids[last], ids[0]
            _sink(best, ids, 0, last)


@njit(cache=True, nogil=True, parallel=True)
def _count_rivals(scores, query_rows, query_ids, targets, better, tied):  # type: ignore[no-untyped-def]
    for pair in prange(targets.size):
        row = scores[query_rows[pair]]
        target = targets[pair]
        query = query_ids[pair]
        bar = row[target]
        above = 0
        level = 0
        for score in row:
            above += score > bar
            level += score == bar
        if query >= 0 and query != target:
            above -= row[query] > bar
            level -= row[query] == bar
        better[pair] = above
        tied[pair] = level - 1
