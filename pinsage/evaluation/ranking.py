"""Exact full ranking: where every held-out positive stands among all items (paper, section 4.2)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int32, Int64

from pinsage.kernels.topk import rank_bounds, top_k

OnProgress = Callable[[int, int], None]
"""Called after every chunk with the number of queries done and the number in all."""


@runtime_checkable
class Scorer(Protocol):
    """Anything that can say how well every item answers a query."""

    def scores(
        self, query_ids: Int64[np.ndarray, " queries"]
    ) -> Float32[np.ndarray, "queries items"]:
        """Score every item for every query: higher is better, equal is a tie, never NaN.

        The array is new, C-contiguous and writable: it belongs to the caller. What stands in the
        column of the query itself doesn't matter, since no item is recommended for itself.
        """
        ...


@dataclass(frozen=True)
class Ranks:
    """Where each pair's positive stands among the candidates: all items except the query.

    With ties broken at random, the rank of pair p is uniform over
    `better[p] + 1 ... better[p] + tied[p] + 1`, counted from 1.
    """

    better: Int64[np.ndarray, " pairs"]
    """How many other candidates score higher than the positive."""
    tied: Int64[np.ndarray, " pairs"]
    """How many other candidates score exactly the same as the positive."""
    num_candidates: int


@dataclass(frozen=True)
class Ranking:
    """One pass of a scorer over all queries: the pairs' ranks, and what it would recommend."""

    ranks: Ranks
    queries: Int64[np.ndarray, " queries"]
    """The distinct queries, ascending."""
    top_ids: Int32[np.ndarray, "queries k"]
    """The best k items of each query, best first, ties by smaller id; never the query itself."""
    top_scores: Float32[np.ndarray, "queries k"]


def rank_pairs(
    scorer: Scorer,
    queries: Int64[np.ndarray, " pairs"],
    positives: Int64[np.ndarray, " pairs"],
    *,
    queries_per_chunk: int = 256,
    on_progress: OnProgress | None = None,
) -> Ranks:
    """Rank each pair's positive among every item except the query.

    The query's other positives stay in the candidate pool, as in the paper. Each distinct query is
    scored once; one chunk of scores is held at a time.

    Args:
        scorer: what gives the scores.
        queries: item ids asked about.
        positives: item ids that answer.
        queries_per_chunk: how many queries are scored at a time; changes memory, not the result.
        on_progress: told after every chunk.

    Raises:
        ValueError: there are no pairs, a pair's positive is its query, an id is out of range, the
            scores have the wrong shape, or a score is NaN.
    """
    ranking = rank_and_recommend(
        scorer,
        queries,
        positives,
        k=0,
        queries_per_chunk=queries_per_chunk,
        on_progress=on_progress,
    )
    return ranking.ranks


def rank_and_recommend(
    scorer: Scorer,
    queries: Int64[np.ndarray, " pairs"],
    positives: Int64[np.ndarray, " pairs"],
    *,
    k: int,
    queries_per_chunk: int = 256,
    on_progress: OnProgress | None = None,
) -> Ranking:
    """Do what `rank_pairs` does, and keep each query's best `k` items from the same scores.

    Args:
        scorer: what gives the scores.
        queries: item ids asked about.
        positives: item ids that answer.
        k: how many recommendations to keep; fewer come back when there are fewer candidates.
        queries_per_chunk: how many queries are scored at a time; changes memory, not the result.
        on_progress: told after every chunk.

    Raises:
        ValueError: as `rank_pairs` does, or `k` is negative.
    """
    _check_arguments(queries, positives, k, queries_per_chunk)
    distinct, query_slots = np.unique(queries, return_inverse=True)
    by_query = np.argsort(query_slots, kind="stable")
    ends = np.cumsum(np.bincount(query_slots, minlength=len(distinct)))
    better = np.zeros(len(queries), np.int64)
    tied = np.zeros(len(queries), np.int64)
    tops: list[tuple[np.ndarray, np.ndarray]] = []
    num_items = 0
    for first, scores in _score_chunks(scorer, distinct, queries_per_chunk):
        num_items = scores.shape[1]
        _check_ids(queries, positives, num_items)
        last = first + len(scores)
        pairs = by_query[(ends[first - 1] if first else 0) : ends[last - 1]]
        better[pairs], tied[pairs] = rank_bounds(
            scores, query_slots[pairs] - first, queries[pairs], positives[pairs]
        )
        if k:
            scores[np.arange(len(scores)), distinct[first:last]] = -np.inf
            tops.append(top_k(scores, min(k, num_items - 1)))
        if on_progress is not None:
            on_progress(last, len(distinct))
    return Ranking(
        ranks=Ranks(better, tied, num_items - 1),
        queries=distinct,
        top_ids=_stack([ids for ids, _ in tops], len(distinct), np.int32),
        top_scores=_stack([values for _, values in tops], len(distinct), np.float32),
    )


def _score_chunks(
    scorer: Scorer, distinct: np.ndarray, queries_per_chunk: int
) -> Iterator[tuple[int, np.ndarray]]:
    """Score the distinct queries chunk by chunk; give the first query's slot, and the scores."""
    for first in range(0, len(distinct), queries_per_chunk):
        chunk = distinct[first : first + queries_per_chunk]
        scores = scorer.scores(chunk)
        if scores.ndim != 2 or scores.shape[0] != len(chunk) or scores.dtype != np.float32:
            raise ValueError(
                f"wanted float32 scores with one row for each of {len(chunk)} queries, "
                f"found {scores.dtype}{list(scores.shape)} from {type(scorer).__name__}"
            )
        yield first, scores


def _check_arguments(
    queries: np.ndarray, positives: np.ndarray, k: int, queries_per_chunk: int
) -> None:
    if len(queries) != len(positives):
        raise ValueError(f"{len(queries)} queries but {len(positives)} positives; a pair has both")
    if not len(queries):
        raise ValueError("there are no pairs to rank; check that the split has any")
    if k < 0 or queries_per_chunk < 1:
        raise ValueError(
            f"wanted k >= 0 and queries_per_chunk >= 1, found {k} and {queries_per_chunk}"
        )
    same = np.flatnonzero(queries == positives)
    if len(same):
        raise ValueError(
            f"{len(same)} of {len(queries)} pairs ask for the query itself, first pair {same[0]} "
            f"(item {queries[same[0]]}); an item is never recommended for itself, so drop them"
        )


def _check_ids(queries: np.ndarray, positives: np.ndarray, num_items: int) -> None:
    low = min(queries.min(), positives.min())
    high = max(queries.max(), positives.max())
    if low < 0 or high >= num_items:
        raise ValueError(
            f"pairs hold item ids from {low} to {high}, but the scorer ranks {num_items} items; "
            "were the pairs and the scorer made from the same graph?"
        )


def _stack(chunks: list[np.ndarray], rows: int, dtype: type) -> np.ndarray:
    return np.concatenate(chunks) if chunks else np.empty((rows, 0), dtype)
