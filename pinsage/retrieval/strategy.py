"""Filters and exclusion lists that keep recall: how a filtered search is carried out.

An approximate index answers the best of *all* items. Of the best n, about `n * share` are allowed,
where `share` is the part of the catalog that is. Three strategies cover every share:

- `plain`: nothing is filtered.
- `wide`: ask for so many that k allowed ones are likely among them, and drop the others. The rest
  is in order, so that k of them *prove* the answer up to the index's own recall, even where a
  filter and a query have to do with each other. Where fewer are left, ask for four times as many
  (`widened`).
- `brute`: compare with every allowed item. Cheaper where few are allowed, and the last resort where
  widening would cost more.

A selector inside the index (faiss `IDSelector`) has no such proof: it fills its k places with
whatever allowed item it happens to pass, and a filter that rules out a query's whole surroundings
costs recall without a sign.
"""

import math
import threading
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Float32, Int, Int32, Integer

Found = tuple[Int32[np.ndarray, "queries _"], Float32[np.ndarray, "queries _"]]
"""Item ids and scores, best first; -1 and minus infinity behind the last."""

Wide = Callable[[Float32[np.ndarray, "queries width"], int], Found]
"""Searches all items for the best so many; -1 where an item is missing."""

TUNED_FOR = 10
"""How many answers an index's recall is measured for; asked for more, it is searched harder."""

Banned = Sequence[Integer[np.ndarray, " _"]] | None
"""For each query, ids that must not be answered."""

Brute = Callable[[np.ndarray, int, Banned, Bool[np.ndarray, " items"] | None], Found]
"""Searches exactly: queries, k, exclude, allowed."""

_ROUNDING = np.float32(2e-6)
"""By how much two sums of the same products may differ, at unit length."""

_BRUTE_COST = 100
"""Comparing with m of n items costs as much as a wide search for k where m * m = this * k * n: a
gathered vector costs about 60 ns, a place more in a wide search some 60 random reads of 100 ns."""


class StrategyCounts:
    """How many queries were answered by which strategy; safe to use from many threads."""

    def __init__(self) -> None:
        """Start at nothing."""
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def add(self, strategy: str, queries: int) -> None:
        """Count some queries."""
        with self._lock:
            self._counts[strategy] += queries

    def snapshot(self) -> dict[str, int]:
        """Give the counts so far, by strategy: `plain`, `wide`, `widened`, `brute`, `fresh`."""
        with self._lock:
            return dict(self._counts)


def brute_below(num_items: int, k: int) -> int:
    """Give the most allowed items for which comparing with each of them is the quicker way.

    >>> brute_below(1_000_000, 10)
    31622
    """
    return math.isqrt(_BRUTE_COST * k * num_items)


def width_for(k: int, share: float, banned: int) -> int:
    """Give how many to ask for, so that k allowed ones are very likely among them.

    Three standard deviations above the mean, as if filter and query had nothing to do with each
    other.

    >>> width_for(10, 1.0, 2), width_for(10, 0.5, 0)
    (12, 34)
    """
    return math.ceil(k / share + 3 * math.sqrt(k * (1 - share)) / share) + banned


def search_kept(
    wide: Wide,
    brute: Brute,
    queries: Float32[np.ndarray, "queries width"],
    k: int,
    exclude: Banned,
    allowed: Bool[np.ndarray, " items"] | None,
    *,
    num_items: int,
    counts: StrategyCounts,
) -> tuple[Int32[np.ndarray, "queries k"], Float32[np.ndarray, "queries k"]]:
    """Search an approximate index for allowed items alone; see the module for the strategies.

    Args:
        wide: the index.
        brute: the exact search of the same items (`ExactIndex.search`).
        queries: the vectors to search for.
        k: how many items.
        exclude: for each query, ids that must not be answered.
        allowed: the items that may be answered; None allows all.
        num_items: items in the index.
        counts: where each query's strategy is counted.

    Returns:
        As `Index.search`.
    """
    if exclude is None and allowed is None and 0 < k <= num_items:
        found = wide(queries, k)
        if found[0].shape[1] == k and (found[0][:, -1] >= 0).all():
            counts.add("plain", len(queries))
            return found
    num_allowed = num_items if allowed is None else int(np.count_nonzero(allowed))
    limit = brute_below(num_items, k)
    if allowed is not None and num_allowed <= limit:
        counts.add("brute", len(queries))
        return brute(queries, k, exclude, allowed)
    banned = max(map(len, exclude), default=0) if exclude is not None else 0
    counts.add("plain" if allowed is None else "wide", len(queries))
    wanted = min(width_for(k, num_allowed / max(num_items, 1), banned), num_items)
    ids, scores = _cut(wide(queries, wanted), k, exclude, allowed)
    owed = _owed(k, exclude, allowed, num_allowed, num_queries=len(queries))
    short = np.flatnonzero(np.count_nonzero(ids >= 0, axis=1) < owed)
    while len(short) and wanted < num_items:
        wanted = min(4 * wanted, num_items)
        if wanted > max(limit, 4 * k):
            break
        counts.add("widened", len(short))
        found = _cut(wide(queries[short], wanted), k, _of(exclude, short), allowed)
        ids[short], scores[short] = found
        short = short[np.count_nonzero(ids[short] >= 0, axis=1) < owed[short]]
    if len(short):
        counts.add("brute", len(short))
        ids[short], scores[short] = brute(queries[short], k, _of(exclude, short), allowed)
    return ids, scores


def found_as_near(
    found: Float32[np.ndarray, "queries k"], truth: Float32[np.ndarray, "queries k"]
) -> Int[np.ndarray, " queries"]:
    """Count what a search found that is as near as the truly nearest, by scores.

    By ids, items of equal vectors would count as missed where others of them are found.

    Args:
        found: its scores; minus infinity where it found nothing.
        truth: those of an exact search, best first; minus infinity behind the last item there is.
    """
    are_there = np.isfinite(truth)
    last = np.where(are_there, truth, np.float32(np.inf)).min(axis=1, keepdims=True)
    # The sums of equal products differ in their last bits by the order they are added in.
    bar = last - _ROUNDING * np.maximum(np.abs(last), 1)
    return np.minimum((found >= bar).sum(axis=1), are_there.sum(axis=1))


def merge_found(one: Found, other: Found, k: int) -> Found:
    """Merge two answers about different items; best first, ties by smaller id."""
    ids = np.concatenate([one[0], other[0]], axis=1)
    scores = np.concatenate([one[1], other[1]], axis=1)
    order = np.lexsort((ids, -scores), axis=1)[:, :k]
    return np.take_along_axis(ids, order, axis=1), np.take_along_axis(scores, order, axis=1)


def require_allowed(allowed: Bool[np.ndarray, " items"], num_items: int) -> None:
    """Refuse a filter of another catalog.

    Raises:
        ValueError: it has not one truth value an item.
    """
    if len(allowed) != num_items:
        raise ValueError(
            f"allowed must have one value for each of the {num_items} items; found {len(allowed)}"
        )


def _owed(
    k: int,
    exclude: Banned,
    allowed: Bool[np.ndarray, " items"] | None,
    num_allowed: int,
    *,
    num_queries: int,
) -> Int[np.ndarray, " queries"]:
    """Count the answers that there are for each query, up to k."""
    owed = np.full(num_queries, min(k, num_allowed))
    for row, ids in enumerate(exclude if exclude is not None else ()):
        if num_allowed - len(ids) < k:
            banned = np.unique(np.asarray(ids, np.int64))
            num_banned = len(banned) if allowed is None else np.count_nonzero(allowed[banned])
            owed[row] = min(k, num_allowed - num_banned)
    return owed


def _of(exclude: Banned, rows: Integer[np.ndarray, " rows"]) -> Banned:
    return None if exclude is None else [exclude[int(row)] for row in rows]


def _cut(
    found: Found,
    k: int,
    exclude: Banned,
    allowed: Bool[np.ndarray, " items"] | None,
) -> Found:
    """Drop what must not be answered, and keep the first k of the rest."""
    ids, scores = found
    if exclude is None and allowed is None and ids.shape[1] == k:
        return ids, scores
    keep = ids >= 0
    if allowed is not None:
        keep &= allowed[ids]
    if exclude is not None:
        _drop_banned(keep, ids, exclude)
    # A stable sort moves what is kept to the front, in its order.
    order = np.argsort(~keep, axis=1, kind="stable")[:, :k]
    kept = np.take_along_axis(keep, order, axis=1)
    out_ids = np.full((len(ids), k), -1, np.int32)
    out_scores = np.full((len(ids), k), -np.inf, np.float32)
    width = order.shape[1]
    out_ids[:, :width] = np.where(kept, np.take_along_axis(ids, order, axis=1), -1)
    out_scores[:, :width] = np.where(kept, np.take_along_axis(scores, order, axis=1), -np.inf)
    return out_ids, out_scores


def _drop_banned(
    keep: Bool[np.ndarray, "queries wanted"],
    ids: Int32[np.ndarray, "queries wanted"],
    exclude: Sequence[Integer[np.ndarray, " _"]],
) -> None:
    lengths = {len(banned) for banned in exclude}
    if lengths == {1}:
        keep &= ids != np.stack(list(exclude))
        return
    for row, banned in enumerate(exclude):
        keep[row] &= ~np.isin(ids[row], banned)
