"""Two ways to see every candidate of every query once: rows of scores, or vectors a few at a time.

A row of scores takes 4 bytes an item, so only as many queries are scored together as fit. Vectors
are multiplied in chunks of queries and items, and no more than one chunk of products is there at a
time, however large the catalog is.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int32, Int64

from pinsage.kernels.topk import (
    BestLists,
    Rivals,
    exact_scores,
    rank_bounds,
    scan_items,
    sort_lists,
    top_k,
)

_ROWS_BYTES = 64 * 2**20
"""Most memory that one chunk of rows of scores takes."""

_CHUNKS = {"cpu": (512, 4_096), "cuda": (2_048, 65_536)}
"""Queries and items multiplied at a time: products that a CPU's cache holds, or 512 MiB."""


class PairsByQuery(NamedTuple):
    """Pairs in order of their queries."""

    distinct: Int64[np.ndarray, " queries"]
    """The queries, ascending, each once."""
    starts: Int64[np.ndarray, " queries_and_1"]
    """Where each query's pairs begin."""
    positives: Int64[np.ndarray, " pairs"]
    order: Int64[np.ndarray, " pairs"]
    """The place that each pair had when it was given."""

    @classmethod
    def of(
        cls, queries: Int64[np.ndarray, " pairs"], positives: Int64[np.ndarray, " pairs"]
    ) -> "PairsByQuery":
        """Sort pairs by query, those of one query as given."""
        distinct, counts = np.unique(queries, return_counts=True)
        order = np.argsort(queries, kind="stable")
        return cls(distinct, np.concatenate([[0], np.cumsum(counts)]), positives[order], order)

    @property
    def queries(self) -> Int64[np.ndarray, " pairs"]:
        """The query of each pair."""
        return np.repeat(self.distinct, np.diff(self.starts))

    def check(self, num_items: int, pool: Int64[np.ndarray, " pool"] | None) -> None:
        """Refuse ids that the scorer does not rank.

        Raises:
            ValueError: an id is out of range.
        """
        low = min(self.distinct[0], self.positives.min())
        high = max(self.distinct[-1], self.positives.max())
        if low < 0 or high >= num_items:
            raise ValueError(
                f"pairs hold item ids from {low} to {high}, but the scorer ranks {num_items} "
                "items; were the pairs and the scorer made from the same graph?"
            )
        if pool is not None and (pool[0] < 0 or pool[-1] >= num_items):
            raise ValueError(
                f"the pool holds item ids from {pool[0]} to {pool[-1]}, but the scorer ranks "
                f"{num_items} items"
            )

    def slots(self, first: int, last: int) -> slice:
        """Where the pairs of queries `first` ... `last - 1` stand."""
        return slice(self.starts[first], self.starts[last])


class Found(NamedTuple):
    """What a pass finds, pairs in order of their queries."""

    num_items: int
    better: Int64[np.ndarray, " pairs"]
    tied: Int64[np.ndarray, " pairs"]
    top_ids: Int32[np.ndarray, "queries k"]
    """Where fewer than k items are known for a query, id -1 and score -inf follow."""
    top_scores: Float32[np.ndarray, "queries k"]


OnProgress = Callable[[int, int], None]
"""Called now and then with how many queries' work is done, and with the number of queries."""

ScoresOf = Callable[[Int64[np.ndarray, " queries"]], Float32[np.ndarray, "queries items"]]


def pass_over_scores(
    scores_of: ScoresOf,
    pairs: PairsByQuery,
    *,
    k: int,
    pool: Int64[np.ndarray, " pool"] | None,
    queries_per_chunk: int | None,
    on_progress: OnProgress | None,
    unknown_score: float = -np.inf,
) -> Found:
    """Score every candidate for a few queries at a time.

    Items that score `unknown_score` or less are ranked as any other, but are in no list.

    Raises:
        ValueError: the scores have the wrong shape or type, one is NaN, or ids are out of range.
    """
    found = _nothing_yet(pairs, 0, 0)
    for first, last, scores in _score_chunks(scores_of, pairs, queries_per_chunk):
        num_items = scores.shape[1]
        if first == 0:
            pairs.check(num_items, pool)
            found = _nothing_yet(pairs, num_items, _most_recommended(pairs, pool, num_items, k))
        own_columns, slots = pairs.distinct[first:last], pairs.slots(first, last)
        rows = np.repeat(np.arange(last - first), np.diff(pairs.starts[first : last + 1]))
        targets = pairs.positives[slots]
        bars = scores[rows, targets]
        if pool is not None:
            scores = np.ascontiguousarray(scores[:, pool])
            own_columns, targets = _places(pool, own_columns), _places(pool, targets)
        found.better[slots], found.tied[slots] = rank_bounds(
            scores, rows, own_columns[rows], targets, bars
        )
        if found.top_ids.shape[1]:
            inside = np.flatnonzero(own_columns >= 0)
            scores[inside, own_columns[inside]] = -np.inf
            top_ids, top_scores = top_k(scores, found.top_ids.shape[1])
            is_unknown = top_scores <= unknown_score
            found.top_ids[first:last] = top_ids if pool is None else pool[top_ids]
            found.top_ids[first:last][is_unknown] = -1
            found.top_scores[first:last] = np.where(is_unknown, -np.inf, top_scores)
        if on_progress is not None:
            on_progress(last, len(pairs.distinct))
    return found


def _score_chunks(
    scores_of: ScoresOf, pairs: PairsByQuery, queries_per_chunk: int | None
) -> Iterator[tuple[int, int, np.ndarray]]:
    """Score queries `first` ... `last - 1`, then the next ones.

    Unless told how many to take, the first query goes alone: its row tells how many items there
    are, and so how many rows fit.
    """
    first, step, num_items = 0, queries_per_chunk or 1, None
    while first < len(pairs.distinct):
        last = min(first + step, len(pairs.distinct))
        scores = scores_of(pairs.distinct[first:last])
        if (
            scores.ndim != 2
            or scores.dtype != np.float32
            or scores.shape != (last - first, num_items or scores.shape[1])
        ):
            raise ValueError(
                f"wanted float32 scores with one row for each of {last - first} queries and one "
                f"column for each item, found {scores.dtype}{list(scores.shape)}"
            )
        yield first, last, scores
        num_items = scores.shape[1]
        first, step = (
            last,
            queries_per_chunk or int(np.clip(_ROWS_BYTES // scores[0].nbytes, 1, 256)),
        )


def pass_over_vectors(
    vectors: Float32[np.ndarray, "items width"],
    pairs: PairsByQuery,
    *,
    k: int,
    pool: Int64[np.ndarray, " pool"] | None,
    device: str,
    queries_per_chunk: int | None,
    on_progress: OnProgress | None,
    items_per_chunk: int | None = None,
) -> Found:
    """Multiply vectors, chunk by chunk; scores too close to call are taken again exactly.

    An item whose vector is all zero stands behind all others, in a draw with those like it; as a
    query it finds all in a draw. It is in no list and has none.

    Args:
        vectors: one row an item, memory-mapped if need be.
        pairs: the pairs.
        k: how many recommendations to keep.
        pool: ascending ids of the candidates; None takes every item.
        device: where products are computed.
        queries_per_chunk: how many queries are multiplied at a time; None suits the device.
        on_progress: told after every chunk of items.
        items_per_chunk: how many items are multiplied at a time; None suits the device.

    Raises:
        ValueError: a vector is not finite, or Torch was told to multiply less exactly than float32.
    """
    if torch.get_float32_matmul_precision() != "highest":
        raise ValueError(
            "wanted Torch's float32 matmul precision 'highest', since ranks rely on its bounds, "
            f"found {torch.get_float32_matmul_precision()!r}; evaluate in a process that leaves it"
        )
    place = torch.device(device)
    sizes = _CHUNKS[place.type]
    step, width = queries_per_chunk or sizes[0], items_per_chunk or sizes[1]
    pairs.check(len(vectors), pool)
    num_candidates = len(vectors) if pool is None else len(pool)
    job = _Job.of(vectors, pairs, pool, k)
    multiply = _Multiplier(place, step, width)
    num_unknown = 0
    for first in range(0, num_candidates, width):
        ids = slice(first, first + width) if pool is None else pool[first : first + width]
        items = np.ascontiguousarray(vectors[ids])
        multiply.take_items(items)
        num_unknown += int(np.count_nonzero(~multiply.is_known))
        for start in range(0, len(pairs.distinct), step):
            job.scan(slice(start, min(start + step, len(pairs.distinct))), items, first, multiply)
        if on_progress is not None:
            done = (first + len(items)) * len(pairs.distinct) // num_candidates
            on_progress(done, len(pairs.distinct))
    job.put_unknown_last(vectors, num_unknown, num_candidates)
    sort_lists(job.lists)
    rows, top_scores = job.lists.ids, job.lists.scores
    is_unknown = ~job.vectors.any(axis=1)
    rows[is_unknown], top_scores[is_unknown] = -1, -np.inf
    top_ids = rows if pool is None else np.where(rows < 0, -1, pool[rows]).astype(np.int32)
    return job.found._replace(top_ids=top_ids, top_scores=top_scores)


@dataclass(frozen=True)
class _Job:
    """What all chunks of vectors have in common, and what they have found so far."""

    pairs: PairsByQuery
    vectors: Float32[np.ndarray, "queries width"]
    lengths: Float32[np.ndarray, " queries"]
    bars: Float32[np.ndarray, " pairs"]
    own_rows: Int64[np.ndarray, " queries"]
    targets: Int64[np.ndarray, " pairs"]
    found: Found
    lists: BestLists

    @classmethod
    def of(
        cls,
        vectors: Float32[np.ndarray, "items width"],
        pairs: PairsByQuery,
        pool: Int64[np.ndarray, " pool"] | None,
        k: int,
    ) -> "_Job":
        """Score the positives, and find queries and positives among the candidates."""
        of_queries = np.ascontiguousarray(vectors[pairs.distinct])
        own_rows, targets = pairs.distinct, pairs.positives
        if pool is not None:
            own_rows, targets = _places(pool, own_rows), _places(pool, targets)
        most = _most_recommended(pairs, pool, len(vectors), k)
        return cls(
            pairs,
            of_queries,
            _lengths(of_queries),
            exact_scores(vectors, vectors, pairs.queries, pairs.positives),
            own_rows,
            targets,
            _nothing_yet(pairs, len(vectors), most),
            BestLists.empty(len(pairs.distinct), most),
        )

    def scan(
        self,
        some: slice,
        items: Float32[np.ndarray, "seen width"],
        first: int,
        multiply: "_Multiplier",
    ) -> None:
        """Let some queries see some candidates, the first of which has the place `first`."""
        slots = self.pairs.slots(some.start, some.stop)
        rivals = Rivals(
            self.pairs.starts[some.start : some.stop + 1] - slots.start,
            self.bars[slots],
            self.targets[slots],
            self.found.better[slots],
            self.found.tied[slots],
        )
        scan_items(
            multiply(self.vectors[some]),
            _slack(self.lengths[some], multiply.longest, items.shape[1]),
            self.vectors[some],
            items,
            multiply.is_known,
            first,
            self.own_rows[some],
            rivals,
            BestLists(*(part[some] for part in self.lists)),
        )

    def put_unknown_last(
        self, vectors: Float32[np.ndarray, "items width"], num_unknown: int, num_candidates: int
    ) -> None:
        """Rank candidates without a vector, which scored 0 with everything, behind all others."""
        own_rows, is_asked = (
            np.repeat(of_queries, np.diff(self.pairs.starts))
            for of_queries in (self.own_rows, self.vectors.any(axis=1))
        )
        is_known = _are_known(vectors, self.pairs.positives)
        better, tied = self.found.better, self.found.tied
        better[is_asked & is_known & (self.bars < 0)] -= num_unknown
        tied[is_asked & is_known & (self.bars == 0)] -= num_unknown
        last = is_asked & ~is_known
        better[last] = num_candidates - num_unknown - (own_rows[last] >= 0)
        tied[last] = num_unknown - (self.targets[last] >= 0)


class _Multiplier:
    """Products of some queries with the items at hand, in one piece of memory for all."""

    def __init__(self, device: torch.device, most_queries: int, most_items: int) -> None:
        self._device = device
        pinned = device.type == "cuda"
        self._out = torch.empty(most_queries * most_items, pin_memory=pinned)
        self._items = torch.empty(0)
        self.longest = 0.0
        self.is_known: Bool[np.ndarray, " items"] = np.empty(0, bool)

    def take_items(self, items: Float32[np.ndarray, "items width"]) -> None:
        """Put the items where products are computed; find the longest, and which are not zero."""
        self.longest = float(_lengths(items).max())
        self.is_known = np.asarray(items.any(axis=1))
        self._items = torch.from_numpy(items).to(self._device)

    def __call__(
        self, queries: Float32[np.ndarray, "queries width"]
    ) -> Float32[np.ndarray, "queries items"]:
        """Multiply; the array is good until the next call."""
        shape = (len(queries), len(self._items))
        out = self._out[: shape[0] * shape[1]].view(shape)
        there = torch.from_numpy(queries).to(self._device)
        if self._device.type == "cpu":
            torch.mm(there, self._items.T, out=out)
        else:
            out.copy_(there @ self._items.T)
        return out.numpy()


def _slack(query_lengths: np.ndarray, longest: float, width: int) -> np.ndarray:
    """Bound the error of float32 inner products, in whatever order they are added up.

    Each of `width` additions may be off by 2^-24 of the sum of magnitudes, which is at most the
    product of both lengths; the rest is for roundings of the exact score and of the bounds.
    """
    relative = 1.01 * (width + 8) * 2.0**-24
    return (relative * longest * query_lengths + width * 2.0**-126).astype(np.float32)


def _lengths(vectors: np.ndarray) -> np.ndarray:
    lengths = np.sqrt(np.einsum("iw,iw->i", vectors, vectors))
    if not np.isfinite(lengths).all():
        raise ValueError(
            f"wanted vectors of finite numbers and lengths below 1e19, found "
            f"{np.count_nonzero(~np.isfinite(lengths))} others, NaN or infinite or too long"
        )
    return lengths


def _are_known(
    vectors: Float32[np.ndarray, "items width"], ids: Int64[np.ndarray, " ids"]
) -> Bool[np.ndarray, " ids"]:
    """Tell which items have a vector that is not all zero."""
    distinct, places = np.unique(ids, return_inverse=True)
    step = _CHUNKS["cpu"][1]
    found = [
        vectors[distinct[start : start + step]].any(axis=1)
        for start in range(0, len(distinct), step)
    ]
    return np.concatenate(found)[places]


def _places(pool: np.ndarray, ids: np.ndarray) -> Int64[np.ndarray, " ids"]:
    """Find the place of each id in the pool; -1 if it isn't there."""
    places = np.minimum(np.searchsorted(pool, ids), len(pool) - 1)
    return np.where(pool[places] == ids, places, -1)


def _most_recommended(pairs: PairsByQuery, pool: np.ndarray | None, num_items: int, k: int) -> int:
    """Tell how many items, at most k, every query can be recommended if all are known."""
    if pool is None:
        return min(k, num_items - 1)
    return min(k, len(pool) - int(np.any(_places(pool, pairs.distinct) >= 0)))


def _nothing_yet(pairs: PairsByQuery, num_items: int, k: int) -> Found:
    better, tied = (np.zeros(len(pairs.positives), np.int64) for _ in range(2))
    lists = BestLists.empty(len(pairs.distinct), k)
    return Found(num_items, better, tied, lists.ids, lists.scores)
