"""Exact ranking: where held-out positives stand in the candidate pool (paper, section 4.2)."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int32, Int64

from pinsage.evaluation.passes import (
    OnProgress,
    PairsByQuery,
    pass_over_scores,
    pass_over_vectors,
)


@runtime_checkable
class Scorer(Protocol):
    """Anything that can say how well every item answers a query."""

    def scores(
        self, query_ids: Int64[np.ndarray, " queries"]
    ) -> Float32[np.ndarray, "queries items"]:
        """Score every item for every query: higher is better, equal is a tie, never NaN.

        The array is new, C-contiguous and writable: it belongs to the caller. What stands in the
        column of the query itself doesn't matter, since no item is recommended for itself.
        An item that scores -inf is recommended to nobody.
        """
        ...


@runtime_checkable
class PartialScorer(Scorer, Protocol):
    """A scorer that knows nothing of some items: it ranks them last, and recommends none."""

    unknown_score: float
    """What an item gets of which nothing is known for the query; no item gets less."""


@runtime_checkable
class VectorScorer(Protocol):
    """A scorer whose scores are inner products of one vector an item: ranked without a whole row.

    Of an item whose vector is all zero nothing is known: it is ranked behind all that are known, in
    a draw with those like it, and all are in a draw for it; nothing is recommended for it, nor is
    it to anyone.

    A score is then the float32 nearest to the inner product of the float32 vectors, so that neither
    the device nor how the work is cut can make or break a tie.
    """

    vectors: Float32[np.ndarray, "items width"]


@dataclass(frozen=True)
class Ranks:
    """Where each pair's positive stands in the candidate pool, the query left out.

    With ties broken at random, the rank of pair p is uniform over
    `better[p] + 1 ... better[p] + tied[p] + 1`, counted from 1.
    """

    better: Int64[np.ndarray, " pairs"]
    """How many other candidates score higher than the positive."""
    tied: Int64[np.ndarray, " pairs"]
    """How many other candidates score exactly the same as the positive."""
    num_candidates: int
    """Most candidates that a pair has, its positive included."""


@dataclass(frozen=True)
class Ranking:
    """One pass of a scorer over all queries: the pairs' ranks, and what it would recommend."""

    ranks: Ranks
    queries: Int64[np.ndarray, " queries"]
    """The distinct queries, ascending."""
    top_ids: Int32[np.ndarray, "queries k"]
    """The best k items of each query, best first, ties by smaller id; never the query itself. Where
    fewer than k are known, id -1 and score -inf follow."""
    top_scores: Float32[np.ndarray, "queries k"]
    num_items: int
    """Size of the catalog that the scorer ranks."""


def rank_pairs(
    scorer: Scorer | VectorScorer,
    queries: Int64[np.ndarray, " pairs"],
    positives: Int64[np.ndarray, " pairs"],
    *,
    queries_per_chunk: int | None = None,
    on_progress: OnProgress | None = None,
) -> Ranks:
    """Rank each pair's positive among every item except the query.

    Raises:
        ValueError: as `rank_and_recommend` does.
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
    scorer: Scorer | VectorScorer,
    queries: Int64[np.ndarray, " pairs"],
    positives: Int64[np.ndarray, " pairs"],
    *,
    k: int,
    pool: Int64[np.ndarray, " pool"] | None = None,
    device: str = "cpu",
    queries_per_chunk: int | None = None,
    on_progress: OnProgress | None = None,
) -> Ranking:
    """Rank each pair's positive among every candidate, and keep each query's best `k` of them.

    The query's other positives stay among the candidates, as in the paper. Each distinct query is
    scored once, and at most 64 MiB of scores are held at a time (on a GPU, 512 MiB).

    Args:
        scorer: what gives the scores.
        queries: item ids asked about.
        positives: item ids that answer.
        k: how many recommendations to keep; the lists are narrower when there are fewer
            candidates, and end early where nothing is known of the others.
        pool: ascending ids of the candidates; a pair's own positive is always one more, its query
            never. None takes every item.
        device: where inner products are computed, as Torch names it.
        queries_per_chunk: how many queries are scored at a time; changes memory, not the result.
        on_progress: told after every chunk.

    Raises:
        ValueError: there are no pairs, a pair's positive is its query, an id is out of range, the
            pool is not ascending, the scores have the wrong shape, or a score is NaN.
    """
    _check_arguments(queries, positives, k, pool, queries_per_chunk)
    pairs = PairsByQuery.of(queries, positives)
    if isinstance(scorer, VectorScorer):
        found = pass_over_vectors(
            scorer.vectors,
            pairs,
            k=k,
            pool=pool,
            device=device,
            queries_per_chunk=queries_per_chunk,
            on_progress=on_progress,
        )
    else:
        found = pass_over_scores(
            scorer.scores,
            pairs,
            k=k,
            pool=pool,
            queries_per_chunk=queries_per_chunk,
            on_progress=on_progress,
            unknown_score=scorer.unknown_score if isinstance(scorer, PartialScorer) else -np.inf,
        )
    better, tied = (np.empty_like(found.better) for _ in range(2))
    better[pairs.order], tied[pairs.order] = found.better, found.tied
    most = found.num_items - 1 if pool is None else min(len(pool) + 1, found.num_items - 1)
    return Ranking(
        ranks=Ranks(better, tied, most),
        queries=pairs.distinct,
        top_ids=found.top_ids,
        top_scores=found.top_scores,
        num_items=found.num_items,
    )


def _check_arguments(
    queries: np.ndarray,
    positives: np.ndarray,
    k: int,
    pool: np.ndarray | None,
    queries_per_chunk: int | None,
) -> None:
    if len(queries) != len(positives):
        raise ValueError(f"{len(queries)} queries but {len(positives)} positives; a pair has both")
    if not len(queries):
        raise ValueError("there are no pairs to rank; check that the split has any")
    if k < 0 or (queries_per_chunk is not None and queries_per_chunk < 1):
        raise ValueError(
            f"wanted k >= 0 and queries_per_chunk >= 1, found {k} and {queries_per_chunk}"
        )
    if pool is not None and (not len(pool) or not np.all(pool[1:] > pool[:-1])):
        raise ValueError(f"wanted a pool of ascending ids, found {len(pool)} in another order")
    same = np.flatnonzero(queries == positives)
    if len(same):
        raise ValueError(
            f"{len(same)} of {len(queries)} pairs ask for the query itself, first pair {same[0]} "
            f"(item {queries[same[0]]}); an item is never recommended for itself, so drop them"
        )
