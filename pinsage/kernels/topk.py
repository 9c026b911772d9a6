"""The best k by score, and where one target stands among all candidates.

Two ways: `top_k` and `rank_bounds` read a whole row of scores a query. `scan_items` sees some items
at a time, and takes scores that are only nearly right, as a fast matrix product gives them: what
lies too close to call is scored again, in one order of adding up, so that its results are those of
`exact_scores`, whatever made the scores and however the items were cut.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int, Int32, Int64

from pinsage.kernels.checks import require_ids, require_matrix, require_positive, require_vector
from pinsage.kernels.rivals import count_rivals, pick_best, pick_row, scan, score_again, unwind_all


class BestLists(NamedTuple):
    """The best items of each query so far: heaps until `sort_lists` puts the best first."""

    ids: Int32[np.ndarray, "queries k"]
    scores: Float32[np.ndarray, "queries k"]
    sizes: Int64[np.ndarray, " queries"]

    @classmethod
    def empty(cls, num_queries: int, k: int) -> "BestLists":
        """Make lists with nothing in them: ids -1, scores -inf."""
        return cls(
            np.full((num_queries, k), -1, np.int32),
            np.full((num_queries, k), -np.inf, np.float32),
            np.zeros(num_queries, np.int64),
        )


class Rivals(NamedTuple):
    """How many items beat each pair's bar or draw with it so far; pairs stand query by query."""

    starts: Int64[np.ndarray, " queries_and_1"]
    """Where each query's pairs begin."""
    bars: Float32[np.ndarray, " pairs"]
    """The exact score of each pair's target."""
    targets: Int64[np.ndarray, " pairs"]
    """The row of each target, which is no rival of itself; -1 if it is not among the items."""
    better: Int64[np.ndarray, " pairs"]
    tied: Int64[np.ndarray, " pairs"]


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
    if len(scores) == 1:
        # Waking threads takes longer than one row.
        pick_row(np.ascontiguousarray(scores[0]), ids[0], best[0])
    else:
        pick_best(np.ascontiguousarray(scores), ids, best)
    return ids, best


def rank_bounds(
    scores: Float32[np.ndarray, "queries candidates"],
    query_rows: Int[np.ndarray, " pairs"],
    query_ids: Int[np.ndarray, " pairs"],
    targets: Int[np.ndarray, " pairs"],
    bars: Float32[np.ndarray, " pairs"] | None = None,
) -> tuple[Int64[np.ndarray, " pairs"], Int64[np.ndarray, " pairs"]]:
    """Count, for each pair, the other candidates that beat its target or draw with it.

    The target's rank is `better + 1` at best and `better + tied + 1` at worst. Neither the target
    nor the query item itself is counted.

    Args:
        scores: One row a query, one column a candidate item; higher is better.
        query_rows: The row of scores that belongs to each pair.
        query_ids: The item each pair asks about; -1 if it isn't among the candidates.
        targets: The item whose standing is wanted; with bars, -1 if it isn't among the candidates.
        bars: The score of each target; None reads it from the target's column.

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
    require_ids("targets", targets, scores.shape[1], lowest=0 if bars is None else -1)
    if bars is None:
        bars = scores[query_rows, targets]
    elif bars.shape != targets.shape or bars.dtype != np.float32 or np.isnan(bars).any():
        raise ValueError(
            f"bars must be {targets.size} float32 numbers; found shape {bars.shape} of {bars.dtype}"
        )
    better = np.empty(targets.size, np.int64)
    tied = np.empty(targets.size, np.int64)
    count_rivals(
        np.ascontiguousarray(scores),
        query_rows.astype(np.int64, copy=False),
        query_ids.astype(np.int64, copy=False),
        targets.astype(np.int64, copy=False),
        bars,
        better,
        tied,
    )
    return better, tied


def exact_scores(
    queries: Float32[np.ndarray, "queries width"],
    items: Float32[np.ndarray, "items width"],
    query_rows: Int[np.ndarray, " pairs"],
    item_rows: Int[np.ndarray, " pairs"],
) -> Float32[np.ndarray, " pairs"]:
    """Take inner products in float64, added up in one order, and round them to float32.

    Products of float32 numbers are exact in float64, so equal rows give equal scores everywhere,
    and which of the two rows comes first does not matter.

    Raises:
        ValueError: Matrices of different widths, or rows out of range.
    """
    _require_widths(queries, items)
    require_ids("query_rows", query_rows, len(queries))
    require_ids("item_rows", item_rows, len(items))
    scores = np.empty(query_rows.size, np.float32)
    score_again(queries, items, query_rows, item_rows, scores)
    return scores


def scan_items(
    approximate: Float32[np.ndarray, "queries seen"],
    slack: Float32[np.ndarray, " queries"],
    queries: Float32[np.ndarray, "queries width"],
    items: Float32[np.ndarray, "items width"],
    is_known: Bool[np.ndarray, " items"],
    first: int,
    own_rows: Int64[np.ndarray, " queries"],
    rivals: Rivals,
    lists: BestLists,
) -> None:
    """Count rivals among some items that follow each other, and offer them to the lists.

    The next call must bring the items behind them: a list's ties go to the smaller row.

    Args:
        approximate: One row a query, one column an item; may be overwritten.
        slack: How far each query's scores may be from the exact ones, and twice a rounding more.
        queries: The queries' embeddings.
        items: The embeddings of the items seen.
        is_known: Which of them are offered to the lists; all of them are rivals.
        first: The row, among all items, of the first of them.
        own_rows: The row of each query among all items, which is left out; -1 if it has none.
        rivals: Counts to add to.
        lists: Lists of rows to offer to; of width 0 where none are wanted.

    Raises:
        ValueError: Arrays that do not fit each other.
    """
    _require_widths(queries, items)
    require_matrix("approximate", approximate, (len(queries), len(items)))
    if is_known.shape != (len(items),) or is_known.dtype != np.bool_:
        raise ValueError(
            f"is_known must be {len(items)} booleans; found shape {is_known.shape} of"
            f" {is_known.dtype}"
        )
    lengths = [len(part) for part in (queries, slack, own_rows, rivals.starts[1:], lists.ids)]
    if len(set(lengths)) > 1:
        raise ValueError(f"wanted something for each of {len(queries)} queries, found {lengths}")
    scan(approximate, slack, queries, items, is_known, first, own_rows, *rivals, *lists)


def sort_lists(lists: BestLists) -> None:
    """Put each list's best first, ties by smaller row, in place."""
    unwind_all(*lists)


def _require_widths(queries: np.ndarray, items: np.ndarray) -> None:
    require_matrix("queries", queries)
    require_matrix("items", items, (len(items), queries.shape[1]))


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
